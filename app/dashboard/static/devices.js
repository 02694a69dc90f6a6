// Has a worker measure its machine, and goes to the job that does.
"use strict";

document.getElementById("measure-form")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const value = (name) => document.getElementById(name).value.trim();
  const problem = document.getElementById("measure-error");
  problem.textContent = "";
  try {
    const job = await nasatlas.json(`/devices/${encodeURIComponent(value("name"))}/measurement`, {
      method: "POST", headers: { "Content-Type": "application/json", Accept: "application/json" },
      body: JSON.stringify({ search_space: value("search_space"), runtime: value("runtime"), threads: Number(value("threads")) }),
    });
    location.href = `/ui/searches/${job.id}`;
  } catch (error) {
    problem.textContent = error.message;
  }
});
