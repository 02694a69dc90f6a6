// Starts Swagger UI on the service's own document, and gives its markup what screen readers and keyboards need.
"use strict";

const root = document.getElementById("swagger-ui");

// its links stand inside of the buttons that do the same, where no keyboard gets to them
const withoutLinks = () => ({
  wrapComponents: { DeepLink: (_, { React }) => ({ text }) => React.createElement("span", null, text) },
});

const named = (name) => (element) => element.setAttribute("aria-label", name);

/** What elements lack, by selector. */
const MENDS = {
  ".information-container": (about) => { about.setAttribute("role", "region"); named("About the API")(about); },
  // tags come right below the title
  "h3, h4, h5": (heading) => heading.setAttribute("aria-level", Number(heading.tagName[1]) - 1),
  // what scrolls
  "pre, .responses-inner": (part) => { part.tabIndex = 0; },
  // as regions they would be no tables, and all of one name
  "table[role=region]": (table) => table.removeAttribute("role"),
  "[data-param-name] :is(input, select, textarea)": (field) => named(field.closest("[data-param-name]").dataset.paramName)(field),
  ".body-param__text, input[type=file]": named("Request body"),
  ".examples-select-element": named("Example"),
};

function mend() {
  for (const [selector, change] of Object.entries(MENDS)) root.querySelectorAll(selector).forEach(change);
}

function showTheme() {
  document.documentElement.classList.toggle("dark-mode", document.documentElement.dataset.bsTheme === "dark");
}

showTheme();
document.addEventListener("theme", showTheme);
new MutationObserver(mend).observe(root, { childList: true, subtree: true });

SwaggerUIBundle({
  url: root.dataset.openapi,
  dom_id: "#swagger-ui",
  deepLinking: true,
  layout: "BaseLayout",
  presets: [SwaggerUIBundle.presets.apis],
  plugins: [withoutLinks],
  syntaxHighlight: false,
  validatorUrl: null,
});
