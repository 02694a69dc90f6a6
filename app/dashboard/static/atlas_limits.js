// The atlas's limits: a slider for each cost, and one for each device that was added.
"use strict";

const STEPS = 400;

/** A limit's slider: its last position is no limit. A limit that an address gave holds as it is until the slider is moved. */
class Slider {
  constructor(element, digits, onInput) {
    this.element = element;
    this.input = element.querySelector("input");
    this.output = element.querySelector("output");
    this.digits = digits;
    this.given = null;
    this.input.addEventListener("input", () => { this.given = null; this.show(); onInput(); });
  }

  setRange(min, max) {
    this.min = min;
    this.max = max;
    this.unit = this.unitOf(min, max);
    const [low, high] = this.element.querySelectorAll(".slider-ends span");
    low.textContent = this.text(this.at(0));
    high.textContent = this.text(max);
    this.input.disabled = false;
    if (this.given !== null) this.input.value = this.positionOf(this.given);
    this.show();
  }

  /** As fine as the slider's steps are, and no finer. */
  unitOf(min, max) { return Math.max(1, Math.min(10 ** Math.floor(Math.log10((max - min || 1) / STEPS)), 10 ** (6 - this.digits))); }

  positionOf(limit) {
    if (limit >= this.max) return STEPS;
    return Math.max(0, Math.min(STEPS - 1, Math.round((limit - this.min) / (this.max - this.min) * STEPS)));
  }

  /** The limit at a position, rounded up to what is shown, so that what just meets it does. */
  at(position) {
    const exact = this.min + (this.max - this.min) * position / STEPS;
    return Math.min(Math.ceil(exact / this.unit - 1e-9) * this.unit, this.max);
  }

  /** The limit in units; null: none. */
  get units() {
    if (this.given !== null) return this.given;
    const position = Number(this.input.value);
    return position >= STEPS ? null : this.at(position);
  }

  get millions() { return this.units === null ? null : Number((this.units / 1e6).toFixed(6)); }

  /** Whether an address gave a limit that no position has: it is shown as it was given. */
  get isForeign() {
    if (this.given === null) return false;
    const units = this.given / this.unit;
    return this.given < this.min || this.given > this.max || Math.abs(units - Math.round(units)) > 1e-6;
  }

  get plain() { return `${this.millions}M`; }

  /** Take a limit in millions that an address gave. */
  restore(millions) { this.given = millions === null ? null : Math.floor(millions * 1e6 + 1e-6); }

  text(count) {
    const [base, letter] = this.max >= 1e6 ? [1e6, "M"] : this.max >= 1e3 ? [1e3, "k"] : [1, ""];
    return `${(count / base).toFixed(Math.max(0, Math.round(Math.log10(base / this.unit))))}${letter}`;
  }

  show() {
    const text = this.units === null ? "no limit" : this.isForeign ? this.plain : this.text(this.units);
    this.output.value = text;
    this.input.setAttribute("aria-valuetext", text);
  }

  clear() { this.given = null; this.input.value = STEPS; this.show(); }
}

/** A latency's slider, in milliseconds: devices differ by many powers of ten, so its unit goes by the device's range alone. */
class LatencySlider extends Slider {
  unitOf(min, max) { return 10 ** Math.min(0, Math.floor(Math.log10((max - min || max || 1) / STEPS))); }

  get decimals() { return Math.max(0, Math.round(-Math.log10(this.unit))); }

  at(position) {
    const exact = this.min + (this.max - this.min) * position / STEPS;
    // the sum of many latencies is no round number: without leeway, the fastest must meet the lowest limit
    return Math.min(Number((Math.ceil(exact / this.unit) * this.unit).toFixed(this.decimals)), this.max);
  }

  get plain() { return `${this.given} ms`; }

  restore(milliseconds) { this.given = milliseconds; }

  text(milliseconds) { return `${milliseconds.toFixed(this.decimals)} ms`; }
}

/** The devices whose latency is shown and limited, in the order they were added. */
class DeviceLimits {
  /** `findRange` gives a device's fastest and slowest architecture in milliseconds. */
  constructor(element, findRange, onChange) {
    Object.assign(this, { element, findRange, onChange, sliders: new Map(), numAdded: 0 });
    this.select = element.querySelector("select");
    this.button = element.querySelector("#add-device");
    this.button.addEventListener("click", () => this.add(this.select.value).catch((error) => nasatlas.notice(error.message, "bad")));
    this.offer();
  }

  async add(name) {
    this.button.disabled = true;
    try {
      this.addSlider(name, await this.findRange(name)).input.focus();
    } finally {
      this.offer();
    }
    this.onChange();
  }

  addSlider(name, range, given = null) {
    const slider = new LatencySlider(this.newRow(name), 3, this.onChange);
    slider.restore(given);
    slider.setRange(range.min, range.max);
    this.sliders.set(name, slider);
    return slider;
  }

  /** Add those of an address, with their limits in milliseconds; names that are not offered are left out. */
  async restore(limits) {
    const offered = new Set([...this.select.options].map((option) => option.value));
    const wanted = [...limits].filter(([name]) => offered.has(name)).slice(0, Number(this.element.dataset.most));
    const ranges = await Promise.all(wanted.map(([name]) => this.findRange(name)));
    wanted.forEach(([name, limit], place) => this.addSlider(name, ranges[place], limit));
    this.offer();
  }

  newRow(name) {
    const row = document.getElementById("device-row").content.cloneNode(true).firstElementChild;
    const [label, input, remove] = ["label", "input", "button"].map((tag) => row.querySelector(tag));
    input.id = `max-latency-${this.numAdded += 1}`;
    label.htmlFor = input.id;
    row.querySelector("output").htmlFor = input.id;
    label.textContent = `Latency on ${name}, at most`;
    remove.setAttribute("aria-label", `Remove ${name}`);
    remove.addEventListener("click", () => this.remove(name, row));
    document.getElementById("device-rows").append(row);
    return row;
  }

  remove(name, row) {
    this.sliders.delete(name);
    row.remove();
    this.offer();
    // the button that had the focus is gone
    this.select.focus();
    this.onChange();
  }

  /** What can still be added. */
  offer() {
    for (const option of this.select.options) option.disabled = this.sliders.has(option.value);
    const first = [...this.select.options].find((option) => !option.disabled);
    if (this.select.selectedOptions[0]?.disabled ?? true) this.select.value = first?.value ?? "";
    this.button.disabled = this.sliders.size >= Number(this.element.dataset.most);
    this.element.querySelector("#device-choice").hidden = !first;
  }

  clear() { for (const slider of this.sliders.values()) slider.clear(); }

  get isLimited() { return [...this.sliders.values()].some((slider) => slider.units !== null); }

  /** Whether some are limited and others only shown. */
  get isMixed() { return this.isLimited && [...this.sliders.values()].some((slider) => slider.units === null); }

  decimals(name) { return Math.max(2, this.sliders.get(name)?.decimals ?? 2); }

  /** Add them to a query: those of limits, and for an answer that shows latencies the others as well. */
  addTo(query, { shown }) {
    for (const [name, slider] of this.sliders) {
      if (slider.units === null && !shown) continue;
      query.append("device", name);
      // a service asked for some limits wants one of each device: the slowest architecture's limits nothing
      if (this.isLimited) query.append("max_latency_ms", slider.units ?? slider.max);
    }
  }

  /** Add all of them to the page's address, where an empty limit is none. */
  addToAddress(query) {
    for (const [name, slider] of this.sliders) {
      query.append("device", name);
      if (this.isLimited) query.append("max_latency_ms", slider.units ?? "");
    }
  }
}
