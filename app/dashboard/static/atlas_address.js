// What an atlas shows, in the address of its page: reloaded, gone back to or sent to somebody it shows the same.
"use strict";

const atlasAddress = {
  /** The limits in the page's address; what is no limit there is none. */
  read() {
    const query = new URLSearchParams(location.search);
    const limits = query.getAll("max_latency_ms");
    return {
      madds: this.limit(query.get("max_madds")),
      params: this.limit(query.get("max_params")),
      latencies: new Map(query.getAll("device").map((name, place) => [name, this.limit(limits[place])])),
    };
  },

  limit(text) {
    const value = text?.trim() ? Number(text) : NaN;
    return Number.isFinite(value) && value >= 0 ? value : null;
  },

  /** The page's address for what is asked, and under which limits. */
  of(where, { madds, params, devices }) {
    const query = new URLSearchParams(where);
    if (madds.units !== null) query.set("max_madds", madds.millions);
    if (params.units !== null) query.set("max_params", params.millions);
    devices?.addToAddress(query);
    return `${location.pathname}?${query}`;
  },
};
