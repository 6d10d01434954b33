// The page itself: files in, pictures, tables, corrections and files out. All work is done by the workers.

import { byLabel } from "./anatomy.js";
import { setOpacity, showExam, showLabels } from "./pictures.js";
import { figures, legend, levelRows, reasons, sizeRows, tableText } from "./tables.js";

const MOST = 6; // network workers
const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];
const $ = (id) => document.getElementById(id);
const state = { number: 0, name: "", facts: null, file: null, engine: null, busy: false };

/** What this browser lacks, in words; nothing when all is there. */
function lacking() {
  const told = [];
  if (!globalThis.WebAssembly || !WebAssembly.validate(new Uint8Array(SIMD))) told.push("WebAssembly with SIMD");
  if (!globalThis.DecompressionStream) told.push("DecompressionStream");
  if (!globalThis.Worker) told.push("web workers");
  if (!document.createElement("canvas").getContext("webgl2")) told.push("WebGL2 (is hardware acceleration switched off?)");
  return told;
}

/** Bytes of an element that holds gzip as base64. */
async function bytesOf(id) {
  const text = atob($(id).textContent);
  const packed = Uint8Array.from({ length: text.length }, (_, n) => text.charCodeAt(n));
  $(id).textContent = "";
  return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

const worker = (...ids) =>
  new Worker(URL.createObjectURL(new Blob(ids.map((id) => `${$(id).textContent}\n`), { type: "text/javascript" })));

/** Start the workers; they are ready when the promise is kept. */
async function start() {
  const card = JSON.parse($("card").textContent);
  const [wasm, model] = await Promise.all([bytesOf("wasm"), bytesOf("model")]);
  const glue = $("glue").textContent;
  const many = Math.max(1, Math.min(MOST, navigator.hardwareConcurrency || 1));
  const channels = Array.from({ length: many }, () => new MessageChannel());
  const ready = channels.map(
    ({ port2 }) =>
      new Promise((resolve, reject) => {
        const one = worker("ort", "network-code");
        one.onmessage = ({ data }) => (data.error ? reject(new Error(data.error)) : resolve());
        one.onerror = (event) => reject(new Error(event.message));
        one.postMessage({ wasm, glue, model, bias: card.bias, port: port2 }, [port2]);
      }),
  );
  state.engine = worker("engine-code");
  state.engine.onmessage = ({ data }) => data.number === state.number && heard[data.kind]?.(data);
  state.engine.onerror = (event) => refuse(event.message);
  const ports = channels.map(({ port1 }) => port1);
  state.engine.postMessage({ kind: "start", card, ports }, ports);
  await Promise.all(ready);
}

let started = null;

async function open(file) {
  if (!file || !started) return;
  state.number++;
  state.name = file.name;
  busy(true);
  $("result").hidden = true;
  warn([]);
  progress("starting", 0);
  const number = state.number;
  try {
    const bytes = await file.arrayBuffer();
    await started;
    if (state.number !== number) return;
    state.bytes = bytes;
    state.engine.postMessage({ kind: "open", bytes, name: file.name, number });
  } catch (error) {
    refuse(error.message);
  }
}

const heard = {
  progress: ({ stage, share }) => progress(stage, share),
  refused: ({ message }) => refuse(message),
  answer: async ({ file, facts }) => {
    const first = state.facts === null || $("result").hidden;
    Object.assign(state, { facts, file });
    busy(false);
    $("result").hidden = false;
    tell(facts);
    performance.mark("told");
    drawing = drawing.then(() => draw(first, facts)); // one after the other: names may move while pictures are drawn
    await drawing;
    performance.mark("shown");
    document.title = `${state.name} - lumbarseg`;
    document.body.dataset.answers = Number(document.body.dataset.answers ?? 0) + 1;
  },
};

let drawing = Promise.resolve();

async function draw(first, facts) {
  try {
    if (first) await showExam(state.bytes, clicked);
    await showLabels(state.file, Number($("opacity").value));
  } catch (error) {
    warn([...facts.notes, `the pictures cannot be drawn (${error.message}); the tables and the label map stand`]);
  }
}

function busy(is) {
  state.busy = is;
  $("work").hidden = !is;
  for (const select of document.querySelectorAll("select")) select.disabled = is;
}

function progress(stage, share) {
  if ($("stage").dataset.stage !== stage) performance.mark(stage);
  $("stage").dataset.stage = stage;
  $("stage").textContent = share > 0 && share < 1 ? `${stage}, ${Math.round(100 * share)} %` : stage;
  $("share").style.width = `${100 * share}%`;
}

function warn(lines) {
  $("warnings").replaceChildren(
    ...lines.map((line) => Object.assign(document.createElement("div"), { className: "warning", textContent: line })),
  );
}

function refuse(message) {
  busy(false);
  if (state.facts && !$("result").hidden) tell(state.facts); // a name that cannot be: the old ones stand
  warn([message]);
  document.body.dataset.refused = message;
}

/** The tables of an answer. */
function tell(facts) {
  warn(facts.notes);
  $("legend").innerHTML = legend(facts);
  $("figures").innerHTML = figures(facts);
  $("reasons").textContent = reasons(facts);
  $("levels").innerHTML = levelRows(facts);
  $("sizes").innerHTML = sizeRows(facts);
  $("undo").hidden = facts.anchor !== "given by the user";
  for (const select of $("levels").querySelectorAll("select")) {
    select.onchange = () => rename([select.value.split("-")[0], Number(select.dataset.number)]);
  }
}

/** Names anew, counted from one that the user gave; null: as they were counted first. */
function rename(pinned) {
  busy(true);
  progress("naming", 1);
  state.engine.postMessage({ kind: "rename", number: state.number, lowest: null, pinned });
}

/** What lies where the user clicked; its row of the table is marked, so that its name can be changed. */
function clicked(label) {
  const structure = byLabel(label);
  $("here").textContent = structure ? `Here: ${structure.name}.` : "Here: nothing that is named.";
  const level = structure?.name.split(" ")[0];
  for (const row of $("levels").querySelectorAll("tr")) {
    row.classList.toggle("chosen", row.dataset.name === level);
    if (row.dataset.name === level) row.querySelector("select")?.focus({ preventScroll: true });
  }
}

const stem = () => state.name.replace(/\.gz$/i, "").replace(/\.nii$/i, "");

function save(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

async function saveLabels() {
  const packed = new Blob([state.file]).stream().pipeThrough(new CompressionStream("gzip"));
  save(await new Response(packed).blob(), `${stem()}_labels.nii.gz`);
}

function wire() {
  $("file").onchange = () => {
    open($("file").files[0]);
    $("file").value = ""; // so that the same file can be chosen again
  };
  $("cancel").onclick = () => {
    state.number++; // whatever still comes belongs to nobody
    state.engine?.postMessage({ kind: "cancel" });
    busy(false);
    document.body.dataset.cancelled = "yes";
  };
  $("save").onclick = saveLabels;
  $("table").onclick = () => save(new Blob([tableText(state.facts)], { type: "text/csv" }), `${stem()}_table.csv`);
  $("undo").onclick = () => rename(null);
  $("opacity").oninput = () => setOpacity(Number($("opacity").value));
  document.ondragover = (event) => {
    event.preventDefault();
    $("drop").classList.add("over");
  };
  document.ondragleave = () => $("drop").classList.remove("over");
  document.ondrop = (event) => {
    event.preventDefault();
    $("drop").classList.remove("over");
    open(event.dataTransfer.files[0]);
  };
}

const missing = lacking();
if (missing.length) {
  $("unable").hidden = false;
  $("unable").textContent =
    `This browser cannot run the page: it lacks ${missing.join(", ")}. ` + "Use a current Chrome, Edge, Firefox or Safari.";
  $("drop").hidden = true;
} else {
  wire();
  started = start();
  started.catch((error) => refuse(`the network could not be started: ${error.message}`));
}
