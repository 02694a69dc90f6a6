// One architecture: its network as a file, made by a worker where need be, and its training by itself.
"use strict";

const use = document.getElementById("use");
const useStatus = document.getElementById("use-status");
const POLL_MS = 700;

/** Ask until the file is there; every answer before that is the job that makes it. */
async function exported(format) {
  const weights = document.getElementById("weights").value;
  const address = `${use.dataset.api}/export?format=${format}&weights=${weights}`;
  for (;;) {
    const response = await fetch(address);
    if (response.status === 200) return response;
    const body = await response.json();
    if (response.status !== 202) throw new Error(body.detail ?? `the service answered ${response.status}`);
    useStatus.textContent = `A worker makes the file: ${Math.floor(100 * body.progress)}\u202f%`;
    await new Promise((resolve) => { setTimeout(resolve, POLL_MS); });
  }
}

async function save(format) {
  const response = await exported(format);
  const name = /filename="([^"]+)"/.exec(response.headers.get("content-disposition") ?? "")?.[1] ?? `network.${format}`;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
  useStatus.textContent = `${name} is saved.`;
}

async function attempt(button, work) {
  button.disabled = true;
  try { await work(); } catch (error) { useStatus.textContent = error.message; nasatlas.notice(error.message, "bad"); } finally { button.disabled = false; }
}

use.addEventListener("click", (event) => {
  const button = event.target.closest("[data-export]");
  if (button) attempt(button, () => save(button.dataset.export));
});

document.getElementById("retrain-form")?.addEventListener("submit", (event) => {
  event.preventDefault();
  const value = (name) => document.getElementById(name).value;
  const images = value("images") === "all" ? { num_classes: "all", num_images: "all" } : {};
  attempt(document.getElementById("retrain"), async () => {
    const job = await nasatlas.json(`${use.dataset.api}/retraining`, {
      method: "POST", headers: { "Content-Type": "application/json", Accept: "application/json" },
      body: JSON.stringify({ recipe: value("recipe"), network: value("network"), ...images }),
    });
    location.href = `/ui/searches/${job.id}`;
  });
});
