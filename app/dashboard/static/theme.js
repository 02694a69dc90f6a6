// Light or dark before the first paint: what was chosen here, else what the system wants.
(() => {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => {
    try { return localStorage.getItem("nasatlas-theme"); } catch { return null; }
  };
  const apply = () => {
    const theme = chosen() ?? (system.matches ? "dark" : "light");
    document.documentElement.dataset.bsTheme = theme;
    document.dispatchEvent(new CustomEvent("theme", { detail: theme }));
  };
  apply();
  system.addEventListener("change", apply);
  window.toggleTheme = () => {
    const next = document.documentElement.dataset.bsTheme === "dark" ? "light" : "dark";
    try { localStorage.setItem("nasatlas-theme", next); } catch { /* it holds until the next page */ }
    document.documentElement.dataset.bsTheme = next;
    document.dispatchEvent(new CustomEvent("theme", { detail: next }));
  };
})();
