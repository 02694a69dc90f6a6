// The atlas's answers: a row for each of the best architectures, or why there is none.
"use strict";

const NUM_COMMON_COLUMNS = 4;

class Answers {
  /** `base` is the address of the search's pages, `decimals` says how exactly a device's latencies are shown. */
  constructor(base, decimals) {
    Object.assign(this, { base, decimals });
    this.body = document.getElementById("answer-rows");
    this.none = document.getElementById("no-answer");
    this.time = document.getElementById("answer-time");
    this.within = document.getElementById("within");
    this.summary = document.getElementById("answer-summary");
    this.body.addEventListener("click", (event) => {
      const row = event.target.closest("tr[data-href]");
      if (row && !event.target.closest("a")) location.href = row.dataset.href;
    });
  }

  /** Say that what is shown belongs to the limits before. */
  wait() {
    this.time.textContent = "asking…";
    for (const element of [this.body, this.within]) element.classList.add("outdated");
  }

  show(answer) {
    this.settle(answer.message ?? "", answer.items.length === 0);
    this.none.classList.remove("bad");
    this.body.replaceChildren(...answer.items.map((item) => this.row(item)));
    if (answer.items.length) this.showColumns(Object.keys(answer.items[0].latency_ms));
    const best = answer.items[0];
    if (best) this.summary.textContent = `Best: ${nasatlas.percent(best.predicted_accuracy, 2)} predicted, ${nasatlas.millions(best.multi_adds)} multi-adds, ${nasatlas.millions(best.params, 2)} parameters`;
  }

  /** Nothing is known under these limits: what was found under others must not stand beside them. */
  fail(message) {
    this.settle(`No answer: ${message}`, true);
    this.none.classList.add("bad");
    this.body.replaceChildren();
    this.time.textContent = "";
    this.within.textContent = "";
  }

  settle(message, isEmpty) {
    for (const element of [this.body, this.within]) element.classList.remove("outdated");
    this.none.hidden = !isEmpty;
    this.none.textContent = message;
    this.body.parentElement.hidden = isEmpty;
    this.summary.textContent = message;
  }

  row(item) {
    const row = document.createElement("tr");
    row.dataset.href = `${this.base}/architectures/${item.code}`;
    const link = document.createElement("a");
    link.href = row.dataset.href;
    link.className = "arch-code";
    link.textContent = item.code;
    link.title = item.readable;
    const values = [`${item.rank}`, link, this.predicted(item), nasatlas.millions(item.multi_adds), ...this.lastColumns(item)];
    values.forEach((value, index) => {
      const cell = document.createElement("td");
      if (index !== 1) cell.className = "num";
      cell.append(value);
      row.append(cell);
    });
    return row;
  }

  /** The prediction, and below it where z is to be expected. */
  predicted({ predicted_accuracy, interval }) {
    const both = document.createDocumentFragment();
    both.append(nasatlas.percent(predicted_accuracy, 2));
    if (interval) {
      const range = document.createElement("div");
      range.className = "interval";
      range.title = `z is inside with ${nasatlas.percent(interval.level, 0)}`;
      range.textContent = `${(100 * interval.lower).toFixed(1)} to ${(100 * interval.upper).toFixed(1)}`;
      both.append(range);
    }
    return both;
  }

  /** The latencies stand where the parameters do. */
  showColumns(devices) {
    const names = devices.length ? devices : ["Params"];
    const columns = names.map((name) => {
      const column = document.createElement("th");
      column.scope = "col";
      column.className = "num";
      column.textContent = devices.length ? `ms on ${name}` : name;
      return column;
    });
    const head = document.getElementById("answer-head");
    head.replaceChildren(...[...head.children].slice(0, NUM_COMMON_COLUMNS), ...columns);
  }

  lastColumns(item) {
    const latencies = Object.entries(item.latency_ms);
    return latencies.length ? latencies.map(([name, ms]) => ms.toFixed(this.decimals(name))) : [nasatlas.millions(item.params, 2)];
  }
}
