// The atlas: a table's density, its best, and limits that answer while they move.
"use strict";

const atlas = document.getElementById("atlas");
const choice = document.getElementById("atlas-choice");

const FRONT_STEPS = 12;

class Atlas {
  constructor(element) {
    const { search, round, scope } = element.dataset;
    Object.assign(this, { search, round, isSpace: scope === "space", answers: [] });
    this.base = `/ui/searches/${search}`;
    this.table = new Answers(this.base, (name) => this.devices?.decimals(name) ?? 2);
    this.chartElement = document.getElementById("atlas-chart");
    const changed = () => this.limitsChanged();
    this.madds = new Slider(document.getElementById("madds-limit"), 1, changed);
    this.params = new Slider(document.getElementById("params-limit"), 2, changed);
    const devices = document.getElementById("device-limits");
    this.devices = devices && new DeviceLimits(devices, (name) => this.latencyRange(name), changed);
    document.getElementById("clear-limits").addEventListener("click", () => {
      for (const limit of [this.madds, this.params, this.devices]) limit?.clear();
      changed();
    });
  }

  async begin() {
    const given = atlasAddress.read();
    this.madds.restore(given.madds);
    this.params.restore(given.params);
    await this.devices?.restore(given.latencies);
    const picture = this.isSpace ? null : nasatlas.json(`${this.base}/rounds/${this.round}/density.json`);
    const [data, { feasible }] = await Promise.all([picture, this.ask()]);
    this.data = data ?? {
      min_multi_adds: feasible.multi_adds.min, max_multi_adds: feasible.multi_adds.max,
      min_params: feasible.params.min, max_params: feasible.params.max, points: [],
    };
    const { data: d } = this;
    this.madds.setRange(d.min_multi_adds, d.max_multi_adds);
    this.params.setRange(d.min_params, d.max_params);
    this.prepare();
    this.draw();
    this.keepAddress();
    this.chart.on("click", ({ data: item }) => { if (item?.href) location.href = item.href; });
    if (this.isSpace) await this.findFront();
  }

  /** The best of the whole space at some multi-adds under the other limits, one question after the other: each takes the service some work. */
  async findFront() {
    const others = this.otherLimits();
    if (others === this.frontUnder) return;
    this.frontUnder = others;
    const points = this.data.points = [];
    const { min_multi_adds: low, max_multi_adds: high } = this.data;
    for (let step = 0; step <= FRONT_STEPS; step += 1) {
      const query = new URLSearchParams([
        ...new URLSearchParams(others), ...Object.entries(this.where()), ["limit", "1"],
        ["max_madds", Math.ceil(low + (high - low) * step / FRONT_STEPS) / 1e6],
      ]);
      const [best] = (await nasatlas.json(`/lookup?${query}`)).items;
      // other limits were set meanwhile: theirs is on its way
      if (others !== this.frontUnder) return;
      if (best && (!points.length || best.predicted_accuracy > points.at(-1)[1])) {
        points.push([best.code, best.predicted_accuracy, best.multi_adds, best.params]);
        this.draw();
      }
    }
  }

  /** All limits but that of the chart's axis, as a query. */
  otherLimits() {
    const query = this.limits();
    query.delete("max_madds");
    this.devices?.addTo(query, { shown: false });
    return query.toString();
  }

  /** The latencies that there are on a device, in milliseconds. */
  async latencyRange(name) {
    const query = new URLSearchParams({ ...this.where(), device: name, limit: "1" });
    return (await nasatlas.json(`/lookup?${query}`)).feasible.latency_ms[name];
  }

  /** Bins as rectangles, once. */
  prepare() {
    if (this.isSpace) return;
    const d = this.data;
    const width = Math.max(d.max_multi_adds - d.min_multi_adds, 1) / d.cost_bins;
    const height = Math.max(d.max_accuracy - d.min_accuracy, 1e-6) / d.accuracy_bins;
    const most = Math.log1p(Math.max(...d.cells.map((cell) => cell[2])));
    this.cells = d.cells.map(([x, y, n, params]) => [
      d.min_multi_adds + x * width, d.min_multi_adds + (x + 1) * width,
      d.min_accuracy + y * height, d.min_accuracy + (y + 1) * height, n, Math.log1p(n) / most, params,
    ]);
  }

  limitsChanged() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.draw());
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.answer().catch((error) => this.failed(error)), 60);
  }

  /** What was found under other limits goes: nothing is known under these. */
  failed(error) {
    if (error.name === "AbortError") return;
    this.answers = [];
    if (this.isSpace) { this.frontUnder = undefined; if (this.data) this.data.points = []; }
    this.underLatency = this.devices?.isLimited ? { front: [], band: new Set(), cells: new Set() } : null;
    this.table.fail(error.message);
    this.draw();
  }

  keepAddress() { history.replaceState(null, "", atlasAddress.of(this.where(), this)); }

  async answer() {
    this.keepAddress();
    await this.ask();
    this.draw();
    if (this.isSpace) await this.findFront();
  }

  limits() {
    const query = new URLSearchParams();
    if (this.madds.units !== null) query.set("max_madds", this.madds.millions);
    if (this.params.units !== null) query.set("max_params", this.params.millions);
    return query;
  }

  /** What is asked: a round's table, or the whole space. */
  where() { return { search_id: this.search, ...(this.isSpace ? { scope: "space" } : { round_index: this.round }) }; }

  async ask() {
    this.aborter?.abort();
    this.aborter = new AbortController();
    const { signal } = this.aborter;
    const limits = this.limits();
    this.devices?.addTo(limits, { shown: false });
    const within = this.isSpace ? null : nasatlas.json(`${this.base}/rounds/${this.round}/within.json?${limits}`, { signal });
    within?.catch(() => {});
    const began = performance.now();
    const waiting = setTimeout(() => this.table.wait(), 400);
    const answer = await this.best(signal).finally(() => clearTimeout(waiting));
    this.answers = answer.items;
    this.table.show(answer);
    this.table.time.textContent = `in ${Math.max(1, Math.round(performance.now() - began))} ms`;
    if (within) {
      const found = await within;
      // what the dots cannot say for themselves: the latency of single rows is known to the service only
      this.underLatency = found.front === null ? null : { front: found.front, band: new Set(found.band), cells: new Set(found.cells) };
      this.table.within.textContent = `${found.within.toLocaleString("en")} of ${found.num_rows.toLocaleString("en")} within the limits`;
    } else {
      this.table.within.textContent = answer.is_exact ? "proven best" : "best found";
    }
    return answer;
  }

  /** The best under the limits, with the latencies on all devices. */
  async best(signal) {
    const answered = (shown) => {
      const query = new URLSearchParams([...this.limits(), ...Object.entries(this.where()), ["limit", "10"]]);
      this.devices?.addTo(query, { shown });
      return nasatlas.json(`/lookup?${query}`, { signal });
    };
    const answer = await answered(true);
    // why there is none is asked without the devices that are shown only: they are not to be named as limits
    return answer.items.length || !this.devices?.isMixed ? answer : answered(false);
  }

  /** What no other within the limits beats, cheapest first; everything that can be there has a band of 0. */
  front() {
    const href = (index) => `${this.base}/rounds/${this.round}/rows/${index}`;
    if (this.isSpace) {
      return this.data.points.map(([code, accuracy, madds, params]) => ({ value: [madds, accuracy, params], href: `${this.base}/architectures/${code}` }));
    }
    if (this.underLatency) return this.underLatency.front.filter((row) => this.isWithin(row[2], row[3])).map(([index, ...value]) => ({ value: [value[1], value[0], value[2]], href: href(index) }));
    const inside = this.data.band.slice(0, this.data.num_front).filter((row) => this.isWithin(row[2], row[3]));
    inside.sort((a, b) => a[2] - b[2] || b[1] - a[1]);
    const front = [];
    for (const [index, accuracy, madds, params] of inside) {
      if (!front.length || accuracy > front.at(-1).value[1]) front.push({ value: [madds, accuracy, params], href: href(index) });
    }
    return front;
  }

  isWithin(madds, params) {
    return madds <= (this.madds.units ?? Infinity) && params <= (this.params.units ?? Infinity);
  }

  draw() { if (this.data) this.chart = charts.draw(this.chartElement, () => this.option()); }

  option() {
    const d = this.data;
    // a limit from an address may lie anywhere
    const limit = this.madds.units !== null && this.madds.units <= d.max_multi_adds ? Math.max(this.madds.units, d.min_multi_adds) : null;
    const padding = (d.max_multi_adds - d.min_multi_adds) * 0.02 || 1;
    const front = this.front();
    const top = this.isSpace ? undefined : d.max_accuracy + (d.max_accuracy - d.min_accuracy) * 0.06;
    const bottom = this.isSpace ? undefined : d.min_accuracy - (d.max_accuracy - d.min_accuracy) * 0.03;
    const narrow = this.chartElement.clientWidth < 500;
    // labels of a narrow range would all read the same
    const digits = top - bottom < 0.05 ? 1 : 0;
    return {
      ...charts.base(),
      grid: { left: 54, right: 16, top: narrow ? 54 : 34, bottom: 44 },
      legend: charts.legend({ data: this.isSpace ? ["best found", "answers"] : ["all", "beaten by few", "beaten by none", "answers"], itemGap: narrow ? 8 : 14 }),
      tooltip: charts.tooltip((p) => this.tip(p)),
      xAxis: charts.axis("multi-adds", { min: d.min_multi_adds - padding, max: d.max_multi_adds + padding, nameGap: 28, splitNumber: narrow ? 3 : 6,
        axisLabel: { color: charts.colour("muted"), fontSize: 11, hideOverlap: true, showMinLabel: false, showMaxLabel: false, formatter: (v) => nasatlas.millions(v, 0) }, splitLine: { show: false } }),
      yAxis: charts.axis("", { min: bottom, max: top, axisLabel: { color: charts.colour("muted"), fontSize: 11, showMinLabel: false, showMaxLabel: false, formatter: (v) => `${(100 * v).toFixed(digits)} %` } }),
      series: [
        ...(this.isSpace ? [] : [this.densitySeries(), this.bandSeries()]),
        {
          name: this.isSpace ? "best found" : "beaten by none", type: "line", step: "end", data: front, symbolSize: 5, showSymbol: true, cursor: "pointer", z: 4,
          color: charts.colour("front"), lineStyle: { width: 2 },
          markLine: limit === null ? undefined : { silent: true, symbol: "none", label: { formatter: `≤ ${this.madds.text(limit)}`, color: charts.colour("ink"), position: "insideEndTop", rotate: 0, distance: 6 }, lineStyle: { color: charts.colour("ink"), width: 1.5, type: "solid" }, data: [{ xAxis: limit }] },
          markArea: limit === null ? undefined : { silent: true, itemStyle: { color: charts.colour("veil") }, data: [[{ xAxis: limit }, { xAxis: d.max_multi_adds + padding }]] },
        },
        {
          name: "answers", type: "scatter", symbol: "circle", cursor: "pointer", z: 6,
          color: charts.colour("ink"),
          // the best last, above those that it overlaps
          data: this.answers.toReversed().map((item) => ({ value: [item.multi_adds, item.predicted_accuracy, item.params], item, href: `${this.base}/architectures/${item.code}`, symbolSize: item.rank === 1 ? 15 : 9 })),
          itemStyle: { color: "transparent", borderColor: charts.colour("ink"), borderWidth: 2 },
        },
      ],
    };
  }

  densitySeries() {
    const colours = [0.12, 0.3, 0.5, 0.72, 1].map((share) => charts.colour(`density-${Math.round(share * 100)}`));
    const maxParams = this.params.units ?? Infinity;
    return {
      name: "all", type: "custom", clip: true, progressive: 0, data: this.cells, color: colours[2], encode: { x: [0, 1], y: [2, 3] }, z: 1,
      renderItem: ({ dataIndex }, api) => {
        const [x0, y0] = api.coord([api.value(0), api.value(2)]);
        const [x1, y1] = api.coord([api.value(1), api.value(3)]);
        const colour = colours[Math.min(colours.length - 1, Math.floor(api.value(5) * colours.length))];
        return {
          type: "rect",
          // whole pixels: no seams between neighbours
          shape: { x: Math.floor(x0), y: Math.floor(y1), width: Math.ceil(x1) - Math.floor(x0), height: Math.ceil(y0) - Math.floor(y1) },
          style: { fill: colour, opacity: (this.underLatency?.cells.has(dataIndex) ?? api.value(6) <= maxParams) ? 1 : 0.14 },
        };
      },
    };
  }

  bandSeries() {
    const rows = this.data.band.filter((row) => this.isWithin(row[2], row[3]) && (this.underLatency?.band.has(row[0]) ?? true));
    return {
      name: "beaten by few", type: "scatter", progressive: 0, symbolSize: 3.5, cursor: "pointer", z: 3, color: charts.colour("band"), itemStyle: { opacity: 0.75 },
      data: rows.map(([index, accuracy, madds, params, band]) => ({ value: [madds, accuracy, params], band, href: `${this.base}/rounds/${this.round}/rows/${index}` })),
    };
  }

  tip({ seriesName, data, value }) {
    if (seriesName === "all") {
      return [["architectures here", value[4].toLocaleString("en")], ["multi-adds", `${nasatlas.millions(value[0])} to ${nasatlas.millions(value[1])}`], ["predicted", `${nasatlas.percent(value[2])} to ${nasatlas.percent(value[3])}`]];
    }
    const rows = [["predicted", nasatlas.percent(value[1], 2)], ["multi-adds", nasatlas.millions(value[0])], ["parameters", nasatlas.millions(value[2], 2)]];
    if (data.item) rows.unshift([`number ${data.item.rank}`, data.item.code]);
    if (data.band !== undefined) rows.push(["beaten by", `${data.band}`]);
    return rows;
  }
}

if (atlas) {
  const shown = new Atlas(atlas);
  shown.begin().catch((error) => {
    shown.failed(error);
    if (shown.chart) return;
    shown.chartElement.classList.add("waiting");
    shown.chartElement.textContent = error.message;
  });
  choice.addEventListener("change", () => {
    const search_id = document.getElementById("search_id").value;
    const what = document.getElementById("what").value;
    // the limits stay where the costs are the same ones
    location.href = search_id !== shown.search ? `/ui/atlas?search_id=${search_id}`
      : atlasAddress.of({ search_id, ...(what === "space" ? { scope: "space" } : { round_index: what }) }, shown);
  });
} else {
  choice?.addEventListener("change", () => { location.href = `/ui/atlas?search_id=${document.getElementById("search_id").value}`; });
}
