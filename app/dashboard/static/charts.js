// Charts in the colours of the page, redrawn when the theme or the size changes.
"use strict";

const charts = {
  all: new Map(),

  colour(name) { return getComputedStyle(document.documentElement).getPropertyValue(`--atlas-${name}`).trim(); },

  /** Draw into an element; `option` is a function, called again when the colours change. */
  draw(element, option) {
    let entry = this.all.get(element);
    if (!entry) {
      element.replaceChildren();
      const chart = echarts.init(element, null, { renderer: "canvas" });
      new ResizeObserver(() => chart.resize()).observe(element);
      entry = { chart };
      this.all.set(element, entry);
    }
    entry.option = option;
    entry.chart.setOption(option(), { notMerge: true });
    element.dataset.drawn = "yes";
    return entry.chart;
  },

  base() {
    return {
      animation: false,
      textStyle: { fontFamily: getComputedStyle(document.body).fontFamily, color: this.colour("ink") },
      grid: { left: 52, right: 18, top: 30, bottom: 40 },
    };
  },

  axis(name, more = {}) {
    const muted = this.colour("muted");
    return {
      type: "value", scale: true, name, nameLocation: "middle",
      nameTextStyle: { color: muted, fontSize: 12 },
      axisLabel: { color: muted, fontSize: 11, hideOverlap: true },
      axisLine: { lineStyle: { color: this.colour("line") } },
      axisTick: { show: false },
      splitLine: { lineStyle: { color: this.colour("grid") } },
      ...more,
    };
  },

  legend(more = {}) {
    return { top: 0, left: 0, itemWidth: 12, itemHeight: 8, textStyle: { color: this.colour("muted"), fontSize: 12 }, ...more };
  },

  /** A tooltip made of elements: markup with styles would not pass the page's policy. */
  tooltip(lines) {
    return {
      trigger: "item", confine: true, transitionDuration: 0, padding: 0, borderWidth: 0,
      backgroundColor: "transparent", extraCssText: "box-shadow:none",
      formatter: (parameters) => {
        const box = document.createElement("div");
        box.className = "chart-tip";
        for (const [label, value] of lines(parameters)) {
          const row = document.createElement("div");
          const key = document.createElement("span");
          const strong = document.createElement("strong");
          key.textContent = label;
          strong.textContent = value;
          row.append(key, strong);
          box.append(row);
        }
        return box;
      },
    };
  },
};

document.addEventListener("theme", () => {
  for (const { chart, option } of charts.all.values()) chart.setOption(option(), { notMerge: true });
});
