// The form that submits a search: from fields to the request, and from the answer's errors back to the fields.
"use strict";

const form = document.getElementById("submit-form");
const own = document.getElementById("own-space");
const space = document.getElementById("search_space");
const numbers = ["epochs", "num_images", "num_sampled", "num_reevaluated", "proxy_resolution", "proxy_width", "seed"];

space.addEventListener("change", () => { own.hidden = space.value !== ""; });

for (const radio of form.querySelectorAll("[name=preset]")) {
  radio.addEventListener("change", () => {
    for (const input of form.querySelectorAll("[data-quick]")) {
      const value = input.dataset[radio.value];
      input.placeholder = value === "null" ? (input.name === "num_images" ? "all" : "the target's") : value;
    }
  });
}

form.addEventListener("click", (event) => {
  const chip = event.target.closest("[data-fill]");
  if (!chip) return;
  const input = document.getElementById(chip.dataset.fill);
  input.value = chip.dataset.value;
  input.dispatchEvent(new Event("input", { bubbles: true }));
});

const wanted = new URLSearchParams(location.search).get("dataset");
if (wanted) document.getElementById("dataset").value = wanted;

function clearErrors() {
  document.getElementById("form-error").hidden = true;
  for (const box of form.querySelectorAll("[data-error-of]")) box.textContent = "";
  for (const input of form.querySelectorAll(".is-invalid")) { input.classList.remove("is-invalid"); input.removeAttribute("aria-invalid"); }
}

function show(name, message) {
  const input = document.getElementById(name);
  const box = form.querySelector(`[data-error-of="${name}"]`);
  if (!input || !box) return false;
  box.textContent = box.textContent ? `${box.textContent}; ${message}` : message;
  input.classList.add("is-invalid");
  input.setAttribute("aria-invalid", "true");
  input.closest("details")?.setAttribute("open", "");
  return true;
}

/** A number, or the text as it stands, which the service then refuses with a reason: JSON has no Infinity. */
function number(text) {
  const value = Number(text);
  return text === "" || !Number.isFinite(value) ? text : value;
}

/** "pixel 30, 20; board 4" as limits by device; what is no such list is left to the service to refuse. */
function byDevice(text) {
  const limits = Object.create(null);
  let device = "";
  for (const word of text.split(/[\s,;:=]+/).filter(Boolean)) {
    if (device && /^[-+]?[\d.]+(e[-+]?\d+)?$/i.test(word)) limits[device].push(Number(word));
    else limits[device = word] ??= [];
  }
  return limits;
}

function parsed(name) {
  const text = document.getElementById(name).value.trim();
  if (!text) return {};
  try {
    const value = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
    show(name, "give one JSON object, in braces");
  } catch (error) {
    show(name, `this is no JSON: ${error.message}`);
  }
  return null;
}

function request() {
  const body = { dataset: document.getElementById("dataset").value.trim(), preset: form.querySelector("[name=preset]:checked").value };
  body.search_space = space.value === "" ? parsed("own_space") : space.value;
  for (const name of numbers) {
    const text = document.getElementById(name).value.trim();
    if (text) body[name] = text === "null" ? null : number(text);
  }
  for (const name of ["target_madds", "target_params"]) {
    const targets = document.getElementById(name).value.trim();
    if (targets) body[name] = targets.split(/[\s,;]+/).filter(Boolean).map(number);
  }
  const latencies = document.getElementById("target_latency_ms").value.trim();
  if (latencies) body.target_latency_ms = byDevice(latencies);
  const advanced = parsed("advanced_json");
  return body.search_space === null || advanced === null ? null : { ...body, ...advanced };
}

function showProblem(problem, message) {
  const rest = [];
  for (const { loc, msg } of problem.errors ?? []) {
    const [, field, ...inside] = loc;
    const where = inside.length ? `${[field, ...inside].join(".")}: ${msg}` : msg;
    const placed = inside.length || !field ? where : `${field}: ${msg}`;
    const name = field === "search_space" && space.value === "" ? "own_space" : field;
    if (!show(name, where) && !(field && document.getElementById("advanced_json").value.includes(`"${field}"`) && show("advanced_json", placed))) {
      rest.push(placed);
    }
  }
  const box = document.getElementById("form-error");
  const named = form.querySelectorAll(".is-invalid").length;
  box.textContent = rest.join("; ") || (named ? "Some fields need another look; what is wrong stands beside them." : message);
  box.hidden = false;
  (form.querySelector(".is-invalid") ?? box).focus();
}

const once = crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`;

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  clearErrors();
  const body = request();
  if (body === null) { form.querySelector(".is-invalid")?.focus(); return; }
  const button = form.querySelector("[type=submit]");
  button.disabled = true;
  try {
    // the key depends on the body: sent twice by accident it is one search, changed it is another
    const text = JSON.stringify(body);
    let hash = 0;
    for (const letter of text) hash = (hash * 31 + letter.codePointAt(0)) >>> 0;
    const search = await nasatlas.json("/search", {
      method: "POST", body: text,
      headers: { "Content-Type": "application/json", Accept: "application/json", "Idempotency-Key": `${once}-${hash}` },
    });
    location.href = `/ui/searches/${search.id}`;
  } catch (error) {
    showProblem(error.problem ?? {}, error.message);
    button.disabled = false;
  }
});
