// The user interface: it opens files, shows pictures and tables, takes corrections and saves. The workers compute.

import { createEndpoint, proxy, transfer, wrap } from "comlink";
import { structureByLabel } from "./anatomy.js";
import {
  keyNumbers, legend, levelTable, measurementTables, namingReasons, reportHtml, tableCsv,
} from "./result_tables.js";
import { pictureOfPlanes, setOpacity, setView, showExam, showLabels, showNames } from "./viewer.js";

const MAX_WORKERS = 6; // network workers
const $ = (id) => document.getElementById(id);
// number: of the exam in progress; labelsFile: bytes of the label map as .nii; position: clicked, RAS+ mm of the viewer
const state = { number: 0, name: "", report: null, labelsFile: null, position: null, clicks: [] };
let examWorker = null;
let workersReady = null; // promise

/** Return the names of required browser features that are missing. */
function missingFeatures() {
  const missing = ["WebAssembly", "DecompressionStream", "Worker"].filter((name) => !globalThis[name]); // those have SIMD
  if (!document.createElement("canvas").getContext("webgl2")) missing.push("WebGL2 (is hardware acceleration off?)");
  return missing;
}

/** Return the bytes of an element that contains gzip data as base64, and empty the element. */
async function decompressElement(id) {
  const { body } = await fetch(`data:application/gzip;base64,${$(id).textContent}`);
  $(id).textContent = "";
  return new Response(body.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

/** Return a worker, whose functions can be called. ids: of the elements with its scripts. */
function createWorker(...ids) {
  const blob = new Blob(ids.map((id) => `${$(id).textContent}\n`), { type: "text/javascript" });
  const worker = new Worker(URL.createObjectURL(blob));
  worker.onerror = (event) => showError(event.message);
  return wrap(worker);
}

/** Start the exam worker and the network workers; resolves when the networks are loaded. */
async function startWorkers() {
  const card = JSON.parse($("card").textContent);
  const [wasm, model, dcm2niix] = await Promise.all(["wasm", "model", "dcm2niix"].map(decompressElement));
  const workerCount = Math.max(1, Math.min(MAX_WORKERS, navigator.hardwareConcurrency || 1));
  const networks = Array.from({ length: workerCount }, () => createWorker("ort", "network-worker-code"));
  const ports = await Promise.all(networks.map((network) => network[createEndpoint]()));
  examWorker = createWorker("exam-worker-code");
  await examWorker.start(transfer({ card, ports, dcm2niix }, ports));
  await Promise.all(networks.map((network) => network.start(wasm, $("glue").textContent, model, card.bias)));
}

/** Segment another exam. chooseExam: async, returns its index in the study. */
async function openExam(chooseExam) {
  const number = ++state.number;
  Object.assign(state, { report: null, clicks: [] });
  setBusy(true);
  $("result").hidden = true;
  showWarnings([]);
  showProgress("starting", 0);
  const showProgressOfExam = (stage, share) => number === state.number && showProgress(stage, share);
  await showResultOf(async () => {
    await workersReady;
    const index = await chooseExam();
    return number === state.number && examWorker.segment(index, number, proxy(showProgressOfExam));
  });
}

/** Show the result of a task of the exam worker, or its error, unless another exam was opened meanwhile. */
async function showResultOf(task) {
  const { number } = state;
  try {
    const result = await task();
    if (number === state.number) await showResult(result);
  } catch (error) {
    if (number === state.number) showError(describeError(error));
  }
}

function describeError({ name, message }) {
  if (name === "LumbarsegError") return message;
  if (name === "RangeError") return "the exam is too large for this browser; use the lumbarseg command instead";
  return `internal error of this page: ${message}`;
}

function openFiles(files) {
  if (!files.length) return;
  $("study").hidden = true;
  openExam(async () => {
    showProgress("reading the exam", 0);
    const titles = await examWorker.open(files);
    $("study").hidden = titles.length < 2;
    $("series").replaceChildren(...titles.map((title, n) => new Option(title, n)));
    return 0;
  });
}

/** Return the files in dropped files and folders. */
async function filesOf(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const entries = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // a hundred at a time
    if (!some.length) return (await Promise.all(entries.map(filesOf))).flat();
    entries.push(...some);
  }
}

async function showResult({ name, file, viewFile, report, examFile }) {
  Object.assign(state, { name, report, labelsFile: file });
  setBusy(false);
  $("result").hidden = false;
  showTables(report);
  $("exam-name").textContent = name;
  performance.mark("named");
  pictures = pictures.then(() => drawPictures(examFile, viewFile, report)); // one after the other
  await pictures;
  performance.mark("shown");
  document.title = `${name} - lumbarseg`;
  document.body.dataset.results = Number(document.body.dataset.results ?? 0) + 1;
}

let pictures = Promise.resolve();

async function drawPictures(examFile, labelsFile, report) {
  try {
    if (examFile) await showExam(examFile, showLocation);
    await showLabels(labelsFile, Number($("opacity").value));
    showNames($("show-names").checked ? report.positions : []);
  } catch (error) {
    showWarnings([...report.notes, `the pictures cannot be shown (${error.message}); tables and label map are complete`]);
  }
}

function setBusy(isBusy) {
  $("progress").hidden = !isBusy;
  for (const control of document.querySelectorAll("#result select, #correction button")) control.disabled = isBusy;
  $("undo-click").disabled = isBusy || !state.clicks.length;
}

function showProgress(stage, share) {
  if ($("stage").dataset.stage !== stage) performance.mark(stage);
  $("stage").dataset.stage = stage;
  $("stage").textContent = share > 0 && share < 1 ? `${stage}, ${Math.round(100 * share)} %` : stage;
  $("progress-bar").style.width = `${100 * share}%`;
}

function showWarnings(lines) {
  $("warnings").replaceChildren(
    ...lines.map((line) => Object.assign(document.createElement("div"), { className: "warning", textContent: line })),
  );
}

function showError(message) {
  if (state.report) {
    showTables(state.report); // after an impossible correction the previous result stays
    state.clicks = state.report.clicks;
  }
  setBusy(false);
  showWarnings([message]);
  document.body.dataset.error = message;
}

function showTables(report) {
  showWarnings(report.notes);
  $("legend").innerHTML = legend(report);
  $("key-numbers").innerHTML = keyNumbers(report);
  $("naming-reasons").textContent = namingReasons(report);
  $("levels").innerHTML = levelTable(report);
  $("measurements").innerHTML = measurementTables(report);
  $("undo").hidden = !report.namedByUser;
  for (const select of $("levels").querySelectorAll("select")) {
    select.onchange = () => requestChange({ pinnedLevel: [select.value.split("-")[0], Number(select.dataset.number)] });
  }
}

/** Assign the level names again: pinnedLevel is [name, number], or null for automatic names; or use the clicks. */
function requestChange(change) {
  setBusy(true);
  showProgress("assigning level names", 1);
  showResultOf(() => examWorker.change({ pinnedLevel: null, clicks: [], ...change }));
}

function setClicks(clicks) {
  state.clicks = clicks;
  requestChange({ clicks });
}

function addClick(positive) {
  setClicks([...state.clicks, { point: state.position, structure: $("structure").value, positive }]);
}

/** Show the structure at the clicked position and select its row in the table of levels. */
function showLocation(label, position) {
  state.position = position;
  $("correction").hidden = false;
  const structure = structureByLabel(label);
  $("location").textContent = structure ? `Selected: ${structure.name}.` : "Selected: no structure.";
  if (structure) $("structure").value = structure.name;
  const level = structure?.name.split(" ")[0];
  for (const row of $("levels").querySelectorAll("tr")) row.classList.toggle("selected", row.dataset.name === level);
}

function download(parts, suffix, type) {
  const blob = new Blob(parts, { type });
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: `${state.name}_${suffix}` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

async function saveLabels() {
  const compressed = new Blob([state.labelsFile]).stream().pipeThrough(new CompressionStream("gzip"));
  download([await new Response(compressed).blob()], "labels.nii.gz");
}

function addEventHandlers() {
  for (const input of [$("file"), $("folder")]) {
    input.onchange = () => {
      openFiles([...input.files]);
      input.value = ""; // so that the same file can be opened again
    };
  }
  $("series").onchange = () => openExam(async () => Number($("series").value));
  $("cancel").onclick = () => {
    state.number++; // messages about the cancelled exam are ignored
    examWorker?.cancel();
    setBusy(false);
    document.body.dataset.cancelled = "yes";
  };
  $("save").onclick = saveLabels;
  $("table").onclick = () => download([tableCsv(state.report, state.name)], "table.csv", "text/csv");
  $("report").onclick = () => download([reportHtml(state.name, pictureOfPlanes())], "report.html", "text/html");
  $("undo").onclick = () => requestChange({});
  $("is-here").onclick = () => addClick(true);
  $("is-not-here").onclick = () => addClick(false);
  $("undo-click").onclick = () => setClicks(state.clicks.slice(0, -1));
  $("opacity").oninput = () => setOpacity(Number($("opacity").value));
  $("show-names").onchange = () => showNames($("show-names").checked ? state.report.positions : []);
  for (const button of $("view-buttons").querySelectorAll("button")) button.onclick = () => setView(button.value);
  document.ondragover = (event) => {
    event.preventDefault();
    $("drop").classList.add("over");
  };
  document.ondragleave = () => $("drop").classList.remove("over");
  document.ondrop = async (event) => {
    event.preventDefault();
    $("drop").classList.remove("over");
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
    openFiles((await Promise.all(entries.map(filesOf))).flat());
  };
}

const missing = missingFeatures();
if (missing.length) {
  $("unsupported").hidden = false;
  $("unsupported").textContent =
    `This browser lacks ${missing.join(", ")}. Use a current version of Chrome, Edge, Firefox or Safari.`;
  $("drop").hidden = true;
} else {
  addEventHandlers();
  workersReady = startWorkers();
  workersReady.catch((error) => showError(`cannot start the network: ${error.message}`));
}
