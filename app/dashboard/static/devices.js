// Has a worker measure its machine, registers latencies from a file, and deletes devices.
"use strict";

const JSON_HEADERS = { "Content-Type": "application/json", Accept: "application/json" };

const valueOf = (id) => document.getElementById(id).value.trim();
const addressOf = (name) => `/devices/${encodeURIComponent(name)}`;

/** A preset's name, or a space that some search brought, as JSON. */
function spaceIn(id) {
  const given = valueOf(id);
  return given.startsWith("{") ? JSON.parse(given) : given;
}

function onSubmit(form, problem, work) {
  document.getElementById(form)?.addEventListener("submit", async (event) => {
    event.preventDefault();
    const shown = document.getElementById(problem);
    shown.textContent = "";
    try { await work(); } catch (error) { shown.textContent = error.message; }
  });
}

/** A device's name stands in the address, so an empty one would be another address. */
function nameIn(id) {
  const name = valueOf(id);
  if (!name) throw new Error("give the device a name");
  return name;
}

onSubmit("measure-form", "measure-error", async () => {
  const job = await nasatlas.json(`${addressOf(nameIn("name"))}/measurement`, {
    method: "POST", headers: JSON_HEADERS,
    body: JSON.stringify({ search_space: spaceIn("search_space"), runtime: valueOf("runtime"), threads: Number(valueOf("threads")) }),
  });
  location.href = `/ui/searches/${job.id}`;
});

/** What a file holds, as the body of the registration; a JSON file may name its own search space. */
function latenciesIn(file, text) {
  if (!file.name.toLowerCase().endsWith(".json")) return { search_space: spaceIn("upload-space"), csv: text };
  let content;
  try { content = JSON.parse(text); } catch (error) { throw new Error(`${file.name} is no JSON: ${error.message}`); }
  return { search_space: spaceIn("upload-space"), ...content };
}

onSubmit("upload-form", "upload-error", async () => {
  const [file] = document.getElementById("upload-file").files;
  const name = nameIn("upload-name");
  if (!file) throw new Error("choose a CSV or JSON file");
  await nasatlas.json(addressOf(name), { method: "PUT", headers: JSON_HEADERS, body: JSON.stringify(latenciesIn(file, await file.text())) });
  location.reload();
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-delete]");
  if (!button || !confirm(`Delete the device ${button.dataset.delete} for all search spaces? Lookups can no longer limit it.`)) return;
  button.disabled = true;
  try {
    const response = await fetch(addressOf(button.dataset.delete), { method: "DELETE", headers: { Accept: "application/json" } });
    if (!response.ok) throw new Error((await response.json()).detail ?? `the service answered ${response.status}`);
    location.reload();
  } catch (error) {
    button.disabled = false;
    nasatlas.notice(error.message, "bad");
  }
});
