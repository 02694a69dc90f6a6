// One search: follows its events, renews what changed, and cancels, resumes and deletes.
"use strict";

const region = document.getElementById("live-region");
const searchId = region.dataset.search;
const base = `/ui/searches/${searchId}`;

function status() { return document.getElementById("search-live").dataset; }

async function drawTraining() {
  if (!document.getElementById("training-chart")) return;
  const curve = await nasatlas.json(`${base}/training.json`);
  const element = document.getElementById("training-chart");
  const summary = document.getElementById("training-summary");
  if (!curve.points.length) {
    summary.textContent = "";
    element.classList.add("waiting");
    element.textContent = "The curves come with the first epochs.";
    return;
  }
  if (element.classList.contains("waiting")) { element.classList.remove("waiting"); element.textContent = ""; }
  const [epoch, loss, accuracy] = curve.points.at(-1);
  summary.textContent = `${epoch} of ${curve.epochs} epochs, loss ${loss.toFixed(3)}, ` +
    `accuracy of the sampled paths ${nasatlas.percent(accuracy)}`;
  const column = (place) => curve.points.map((point) => [point[0], point[place]]);
  const showSymbol = curve.points.length < 40;
  charts.draw(element, () => ({
    ...charts.base(),
    grid: { left: 56, right: 60, top: 34, bottom: 42 },
    legend: charts.legend(),
    tooltip: charts.tooltip((p) => [["epoch", `${p.value[0]}`], [p.seriesName, p.seriesIndex ? nasatlas.percent(p.value[1]) : p.value[1].toFixed(4)]]),
    xAxis: charts.axis("epoch", { min: 1, max: Math.max(curve.epochs, 2), nameGap: 26, scale: false, minInterval: 1, splitLine: { show: false } }),
    yAxis: [
      charts.axis("", { min: 0 }),
      charts.axis("", { min: 0, max: 1, splitLine: { show: false }, axisLabel: { color: charts.colour("muted"), fontSize: 11, formatter: (v) => `${Math.round(100 * v)} %` } }),
    ],
    series: [
      { name: "loss", type: "line", data: column(1), showSymbol, symbolSize: 5, lineStyle: { width: 2 }, color: charts.colour("front") },
      { name: "training accuracy", type: "line", yAxisIndex: 1, data: column(2), showSymbol, symbol: "rect", symbolSize: 5, lineStyle: { width: 2, type: [6, 3] }, color: charts.colour("accent") },
    ],
  }));
}

async function drawFit(element) {
  const fit = await nasatlas.json(element.dataset.fit);
  if (!fit.sampled.length) return;
  const kinds = [
    ["fitted", fit.sampled.filter((p) => !p.held_out), "accent", "circle", 5, 0.45],
    ["held out", fit.sampled.filter((p) => p.held_out), "ink", "diamond", 9, 0.9],
    ["re-evaluated", fit.reevaluated, "front", "triangle", 8, 0.85],
  ].filter(([, points]) => points.length);
  const every = [...fit.sampled, ...fit.reevaluated];
  const low = Math.min(...every.map((p) => Math.min(p.predicted_accuracy, p.accuracy)));
  const high = Math.max(...every.map((p) => Math.max(p.predicted_accuracy, p.accuracy)));
  const percentAxis = (v) => `${(100 * v).toFixed(0)} %`;
  const chart = charts.draw(element, () => ({
    ...charts.base(),
    legend: charts.legend({ data: kinds.map(([name]) => name) }),
    grid: { left: 56, right: 16, top: 34, bottom: 42 },
    tooltip: charts.tooltip((p) => p.data.point ? [["architecture", p.data.point.code], ["predicted", nasatlas.percent(p.value[0], 2)], [p.seriesName, nasatlas.percent(p.value[1], 2)]] : [["as predicted", ""]]),
    xAxis: charts.axis("predicted", { nameGap: 26, axisLabel: { formatter: percentAxis, color: charts.colour("muted"), fontSize: 11, hideOverlap: true } }),
    yAxis: charts.axis("", { name: "reached", nameGap: 40, axisLabel: { formatter: percentAxis, color: charts.colour("muted"), fontSize: 11 } }),
    series: [
      ...kinds.map(([name, points, colour, symbol, symbolSize, opacity]) => ({
        name, type: "scatter", symbol, symbolSize, color: charts.colour(colour), itemStyle: { opacity }, cursor: "pointer",
        data: points.map((point) => ({ value: [point.predicted_accuracy, point.accuracy], point })),
      })),
      { type: "line", name: "as predicted", data: [[low, low], [high, high]], showSymbol: false, silent: true, tooltip: { show: false }, lineStyle: { type: "dashed", width: 1, color: charts.colour("muted") }, color: charts.colour("muted") },
    ],
  }));
  chart.off("click");
  chart.on("click", ({ data }) => { if (data?.point) location.href = `${base}/architectures/${data.point.code}`; });
}

function drawFits() {
  for (const element of document.querySelectorAll("[data-fit]")) drawFit(element).catch((error) => nasatlas.notice(error.message, "bad"));
}

function showActions() {
  const { state, tables } = status();
  for (const element of document.querySelectorAll("#search-actions [data-when]")) {
    const when = element.dataset.when.split(" ");
    element.hidden = !(when.includes(state) || (when.includes("tables") && tables));
  }
}

let pending = false;
let again = false;

/** Renew the live part, one request at a time; what comes meanwhile is asked for once more afterwards. */
async function renew() {
  if (pending) { again = true; return; }
  pending = true;
  const before = { ...status() };
  await htmx.ajax("GET", `${base}/live`, { target: "#live-region", swap: "innerHTML" });
  const after = status();
  showActions();
  if (after.training !== before.training) drawTraining().catch(() => {});
  if (after.rounds !== before.rounds && document.getElementById("rounds")) {
    await htmx.ajax("GET", `${base}/rounds`, { target: "#rounds", swap: "innerHTML" });
    drawFits();
  }
  setTimeout(() => { pending = false; if (again) { again = false; renew(); } }, 400);
}

const ENDED = ["succeeded", "failed", "cancelled"];
const LOOK_AGAIN_MS = 15_000;
let source = null;

function follow() {
  source?.close();
  source = new EventSource(`/search/${searchId}/events`);
  const onEvent = (event) => {
    renew();
    if (ENDED.includes(JSON.parse(event.data).state)) source.close();
  };
  source.addEventListener("state", onEvent);
  source.addEventListener("progress", onEvent);
}

function showGone() {
  document.getElementById("search-actions").hidden = true;
  const note = document.createElement("div");
  note.id = "gone";
  note.className = "alert alert-warning";
  note.role = "alert";
  const link = Object.assign(document.createElement("a"), { href: "/", textContent: "To the searches" });
  note.append("This search was deleted; what is shown here is all that is left of it. ", link);
  region.before(note);
}

let looking = false;

/** See what became of a search that is not followed: no event tells that it was resumed or deleted elsewhere. */
async function lookAgain() {
  const isFollowed = source !== null && source.readyState !== EventSource.CLOSED;
  if (looking || isFollowed || document.hidden || document.getElementById("gone")) return;
  looking = true;
  try {
    const { state } = await nasatlas.json(`/search/${searchId}`);
    if (state !== status().state) await renew();
    if (!ENDED.includes(state)) follow();
  } catch (error) {
    // a service that is away for a moment is asked again
    if (error.problem?.status === 404) showGone();
  } finally {
    looking = false;
  }
}

async function act(action) {
  const isDelete = action === "delete";
  if (isDelete) {
    const dialog = document.getElementById("confirm");
    dialog.returnValue = "no";
    dialog.showModal();
    await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
    if (dialog.returnValue !== "yes") return;
  }
  try {
    await nasatlas.json(isDelete ? `/search/${searchId}` : `/search/${searchId}/${action}`, { method: isDelete ? "DELETE" : "POST" });
  } catch (error) {
    nasatlas.notice(error.message, "bad");
    // it may have become another one meanwhile, or none
    await lookAgain();
    return;
  }
  if (isDelete) { location.href = "/"; return; }
  await renew();
  if (action === "resume") follow();
}

document.getElementById("search-actions").addEventListener("click", (event) => {
  const button = event.target.closest("[data-action]");
  if (button) act(button.dataset.action);
});

drawTraining().catch((error) => nasatlas.notice(error.message, "bad"));
drawFits();
if (region.dataset.live === "yes") follow();
addEventListener("pagehide", () => source?.close());
document.addEventListener("visibilitychange", lookAgain);
for (const name of ["focus", "pageshow"]) addEventListener(name, lookAgain);
// one that has succeeded only goes, which a look at the tab is soon enough for
setInterval(() => { if (status().state !== "succeeded") lookAgain(); }, LOOK_AGAIN_MS);
