// What every page has: the theme's button, notices, copying, and requests whose errors are told.
"use strict";

const nasatlas = {
  /** Say something to the user for some seconds. */
  notice(text, kind = "info") {
    const box = document.createElement("div");
    box.className = `notice notice-${kind}`;
    box.textContent = text;
    document.getElementById("notices").append(box);
    setTimeout(() => box.remove(), kind === "bad" ? 12000 : 4000);
  },

  /** Fetch JSON; a problem document becomes an Error with its detail and fields. */
  async json(url, options = {}) {
    let response;
    try {
      response = await fetch(url, { headers: { Accept: "application/json" }, ...options });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw Object.assign(new Error("the service cannot be reached; is it running?"), { problem: {} });
    }
    const isJson = response.status !== 204 && (response.headers.get("content-type") ?? "").includes("json");
    const body = isJson ? await response.json() : null;
    if (response.status === 401) { location.reload(); }
    if (!response.ok) {
      throw Object.assign(new Error(body?.detail ?? `the service answered ${response.status}`), { problem: body ?? {} });
    }
    return body;
  },

  millions(count, digits = 1) {
    if (count >= 999950) return `${(count / 1e6).toFixed(digits)}M`;
    return count >= 1000 ? `${(count / 1e3).toFixed(1)}k` : `${Math.round(count)}`;
  },

  percent(fraction, digits = 1) { return `${(100 * fraction).toFixed(digits)}\u202f%`; },
};

document.getElementById("theme-toggle").addEventListener("click", () => window.toggleTheme());

document.addEventListener("click", async (event) => {
  const copy = event.target.closest("[data-copy]");
  if (copy) {
    try {
      await navigator.clipboard.writeText(copy.dataset.copy);
      nasatlas.notice("Copied.");
    } catch {
      nasatlas.notice("The browser does not allow copying here; select the text instead.", "bad");
    }
  }
});

document.addEventListener("htmx:responseError", (event) => {
  // a login that is over shows its page in place of a part of one
  if (event.detail.xhr.status === 401) location.reload();
});
