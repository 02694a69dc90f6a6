// The atlas's limits: a slider for each cost, and one for each device that was added.
"use strict";

const STEPS = 400;

/** A limit's slider: its last position is no limit. */
class Slider {
  constructor(element, digits, onInput) {
    this.element = element;
    this.input = element.querySelector("input");
    this.output = element.querySelector("output");
    this.digits = digits;
    this.input.addEventListener("input", () => { this.show(); onInput(); });
  }

  setRange(min, max) {
    this.min = min;
    this.max = max;
    // as fine as the slider's steps are, and no finer
    this.unit = Math.max(1, Math.min(10 ** Math.floor(Math.log10((max - min || 1) / STEPS)), 10 ** (6 - this.digits)));
    const [low, high] = this.element.querySelectorAll(".slider-ends span");
    low.textContent = this.text(min);
    high.textContent = this.text(max);
    this.input.disabled = false;
    this.show();
  }

  /** The limit in units; null: none. Rounded up to what is shown, so that what just meets it does. */
  get units() {
    const position = Number(this.input.value);
    if (position >= STEPS) return null;
    const exact = this.min + (this.max - this.min) * position / STEPS;
    return Math.min(Math.ceil(exact / this.unit - 1e-9) * this.unit, this.max);
  }

  get millions() { return this.units === null ? null : Number((this.units / 1e6).toFixed(6)); }

  text(count) {
    const [base, letter] = this.max >= 1e6 ? [1e6, "M"] : this.max >= 1e3 ? [1e3, "k"] : [1, ""];
    return `${(count / base).toFixed(Math.max(0, Math.round(Math.log10(base / this.unit))))}${letter}`;
  }

  show() {
    const text = this.units === null ? "no limit" : this.text(this.units);
    this.output.value = text;
    this.input.setAttribute("aria-valuetext", text);
  }

  clear() { this.input.value = STEPS; this.show(); }
}

/** A latency's slider, in microseconds inside and in milliseconds outside. */
class LatencySlider extends Slider {
  get milliseconds() { return (this.units ?? this.max) / 1000; }

  text(count) { return `${(count / 1000).toFixed(Math.max(0, 3 - Math.round(Math.log10(this.unit))))} ms`; }
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
      const range = await this.findRange(name);
      const slider = new LatencySlider(this.newRow(name), 3, this.onChange);
      slider.setRange(Math.floor(range.min * 1000), Math.ceil(range.max * 1000));
      this.sliders.set(name, slider);
      slider.input.focus();
    } finally {
      this.offer();
    }
    this.onChange();
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

  get names() { return [...this.sliders.keys()]; }

  get isLimited() { return [...this.sliders.values()].some((slider) => slider.units !== null); }

  /** Add them to a query: those of limits, and for an answer that shows latencies the others as well. */
  addTo(query, { shown }) {
    for (const [name, slider] of this.sliders) {
      if (slider.units === null && !shown) continue;
      query.append("device", name);
      // a service asked for some limits wants one of each device: the slowest architecture's limits nothing
      if (this.isLimited) query.append("max_latency_ms", slider.milliseconds);
    }
  }
}
