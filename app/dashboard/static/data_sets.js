// Uploads a data set and goes to its page; deletes one.
"use strict";

document.getElementById("upload-form")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const problem = document.getElementById("upload-error");
  const state = document.getElementById("upload-status");
  const name = document.getElementById("upload-name").value.trim();
  const [file] = document.getElementById("upload-file").files;
  problem.textContent = "";
  if (!name || !file) { problem.textContent = "Give a name and a file."; return; }
  state.textContent = `Uploading ${(file.size / 1e6).toFixed(1)} MB…`;
  try {
    await nasatlas.json(`/datasets/${encodeURIComponent(name)}`, { method: "PUT", body: file, headers: { "Content-Type": "application/octet-stream", Accept: "application/json" } });
    location.href = `/ui/data/${encodeURIComponent(name)}`;
  } catch (error) {
    problem.textContent = error.message;
    state.textContent = "";
  }
});

document.getElementById("delete-data-set")?.addEventListener("click", async (event) => {
  const { name } = event.target.dataset;
  if (!confirm(`Delete the data set ${name}, for good?`)) return;
  try {
    await nasatlas.json(`/datasets/${encodeURIComponent(name)}`, { method: "DELETE" });
    location.href = "/ui/data";
  } catch (error) {
    nasatlas.notice(error.message, "bad");
  }
});
