// The user interface: it opens files, shows pictures and tables, changes level names and saves. The workers compute.

import { structureByLabel } from "./anatomy.js";
import { decompress, replaceAffine } from "./nifti.js";
import { setOpacity, showExam, showLabels } from "./viewer.js";
import { keyNumbers, legend, levelTable, measurementTable, namingReasons, tableCsv } from "./result_tables.js";

const MAX_WORKERS = 6; // network workers
const SIMD_TEST = [
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
];
const $ = (id) => document.getElementById(id);
// number: of the exam in progress; bytes: its file; labelsFile: bytes of the label map as .nii
const state = { number: 0, name: "", bytes: null, report: null, labelsFile: null, examWorker: null };

/** Return the names of required browser features that are missing. */
function missingFeatures() {
  const missing = [];
  if (!globalThis.WebAssembly || !WebAssembly.validate(new Uint8Array(SIMD_TEST))) missing.push("WebAssembly with SIMD");
  if (!globalThis.DecompressionStream) missing.push("DecompressionStream");
  if (!globalThis.Worker) missing.push("web workers");
  if (!document.createElement("canvas").getContext("webgl2")) missing.push("WebGL2 (is hardware acceleration off?)");
  return missing;
}

/** Return the bytes of an element that contains gzip data as base64, and empty the element. */
async function decompressElement(id) {
  const text = atob($(id).textContent);
  const compressed = Uint8Array.from({ length: text.length }, (_, n) => text.charCodeAt(n));
  $(id).textContent = "";
  return new Response(new Blob([compressed]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

const createWorker = (...ids) =>
  new Worker(URL.createObjectURL(new Blob(ids.map((id) => `${$(id).textContent}\n`), { type: "text/javascript" })));

/** Start the exam worker and the network workers; resolves when the networks are loaded. */
async function startWorkers() {
  const card = JSON.parse($("card").textContent);
  const [wasm, model] = await Promise.all([decompressElement("wasm"), decompressElement("model")]);
  const glue = $("glue").textContent;
  const workerCount = Math.max(1, Math.min(MAX_WORKERS, navigator.hardwareConcurrency || 1));
  const channels = Array.from({ length: workerCount }, () => new MessageChannel());
  const ready = channels.map(
    ({ port2 }) =>
      new Promise((resolve, reject) => {
        const worker = createWorker("ort", "network-worker-code");
        worker.onmessage = ({ data }) => (data.error ? reject(new Error(data.error)) : resolve());
        worker.onerror = (event) => reject(new Error(event.message));
        worker.postMessage({ wasm, glue, model, bias: card.bias, port: port2 }, [port2]);
      }),
  );
  state.examWorker = createWorker("exam-worker-code");
  state.examWorker.onmessage = ({ data }) => data.number === state.number && handlers[data.kind]?.(data);
  state.examWorker.onerror = (event) => showError(event.message);
  const ports = channels.map(({ port1 }) => port1);
  state.examWorker.postMessage({ kind: "start", card, ports }, ports);
  await Promise.all(ready);
}

let workersReady = null; // promise

async function openFile(file) {
  if (!file || !workersReady) return;
  state.number++;
  state.name = file.name;
  setBusy(true);
  $("result").hidden = true;
  showWarnings([]);
  showProgress("starting", 0);
  const number = state.number;
  try {
    const bytes = await file.arrayBuffer();
    await workersReady;
    if (state.number !== number) return;
    state.bytes = bytes;
    state.examWorker.postMessage({ kind: "open", bytes, fileName: file.name, number });
  } catch (error) {
    showError(error.message);
  }
}

const handlers = {
  progress: ({ stage, share }) => showProgress(stage, share),
  error: ({ message }) => showError(message),
  result: async ({ file, report, viewAffine }) => {
    const isNewExam = state.report === null || $("result").hidden;
    Object.assign(state, { report, labelsFile: file });
    setBusy(false);
    $("result").hidden = false;
    showTables(report);
    $("file-name").textContent = state.name;
    performance.mark("named");
    // one after the other: names may change while pictures are being drawn
    pictures = pictures.then(() => drawPictures(isNewExam, report, viewAffine));
    await pictures;
    performance.mark("shown");
    document.title = `${state.name} - lumbarseg`;
    document.body.dataset.results = Number(document.body.dataset.results ?? 0) + 1;
  },
};

let pictures = Promise.resolve();

/** Show exam and labels in the orientation of the anatomy, also where the header is wrong. */
async function drawPictures(isNewExam, report, viewAffine) {
  const forViewer = async (file) =>
    viewAffine ? replaceAffine(await decompress(new Uint8Array(file), state.name), viewAffine).buffer : file;
  try {
    if (isNewExam) await showExam(await forViewer(state.bytes), showLocation);
    await showLabels(await forViewer(state.labelsFile), Number($("opacity").value));
  } catch (error) {
    showWarnings([...report.notes, `the pictures cannot be shown (${error.message}); tables and label map are complete`]);
  }
}

function setBusy(isBusy) {
  $("progress").hidden = !isBusy;
  for (const select of document.querySelectorAll("select")) select.disabled = isBusy;
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
  setBusy(false);
  if (state.report && !$("result").hidden) showTables(state.report); // after an impossible name the previous ones stay
  showWarnings([message]);
  document.body.dataset.error = message;
}

function showTables(report) {
  showWarnings(report.notes);
  $("legend").innerHTML = legend(report);
  $("key-numbers").innerHTML = keyNumbers(report);
  $("naming-reasons").textContent = namingReasons(report);
  $("levels").innerHTML = levelTable(report);
  $("sizes").innerHTML = measurementTable(report);
  $("undo").hidden = !report.namedByUser;
  for (const select of $("levels").querySelectorAll("select")) {
    select.onchange = () => renameLevels([select.value.split("-")[0], Number(select.dataset.number)]);
  }
}

/** Assign the level names again from one [name, number] that the user chose; null restores the automatic names. */
function renameLevels(pinnedLevel) {
  setBusy(true);
  showProgress("assigning level names", 1);
  state.examWorker.postMessage({ kind: "rename", number: state.number, pinnedLevel });
}

/** Show the structure at the clicked position and select its row in the table of levels. */
function showLocation(label) {
  const structure = structureByLabel(label);
  $("location").textContent = structure ? `Selected: ${structure.name}.` : "Selected: no structure.";
  const level = structure?.name.split(" ")[0];
  for (const row of $("levels").querySelectorAll("tr")) {
    row.classList.toggle("selected", row.dataset.name === level);
    if (row.dataset.name === level) row.querySelector("select")?.focus({ preventScroll: true });
  }
}

const fileStem = () => state.name.replace(/\.gz$/i, "").replace(/\.nii$/i, "");

function download(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

async function saveLabels() {
  const compressed = new Blob([state.labelsFile]).stream().pipeThrough(new CompressionStream("gzip"));
  download(await new Response(compressed).blob(), `${fileStem()}_labels.nii.gz`);
}

function addEventHandlers() {
  $("file").onchange = () => {
    openFile($("file").files[0]);
    $("file").value = ""; // so that the same file can be opened again
  };
  $("cancel").onclick = () => {
    state.number++; // messages about the cancelled exam are ignored
    state.examWorker?.postMessage({ kind: "cancel" });
    setBusy(false);
    document.body.dataset.cancelled = "yes";
  };
  $("save").onclick = saveLabels;
  $("table").onclick = () => download(new Blob([tableCsv(state.report)], { type: "text/csv" }), `${fileStem()}_table.csv`);
  $("undo").onclick = () => renameLevels(null);
  $("opacity").oninput = () => setOpacity(Number($("opacity").value));
  document.ondragover = (event) => {
    event.preventDefault();
    $("drop").classList.add("over");
  };
  document.ondragleave = () => $("drop").classList.remove("over");
  document.ondrop = (event) => {
    event.preventDefault();
    $("drop").classList.remove("over");
    openFile(event.dataTransfer.files[0]);
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
