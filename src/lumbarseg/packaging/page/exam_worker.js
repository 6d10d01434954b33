// The worker that segments exams: it reads and preprocesses, distributes windows to the network workers, assigns levels
// and renders the label map.

import { listExams } from "./files.js";
import { measureStructures } from "./measurement.js";
import { readNifti, writeLabels, writeNifti } from "./nifti.js";
import { buildResult, correctResult, segmentExam } from "./pipeline.js";
import { LumbarsegError, reverseWorldAxes } from "./volume.js";

class CancelledError extends Error {}

let card = null;
let networks = []; // one function per network worker
let dcm2niix = null; // bytes of the WebAssembly program
let study = []; // the exams of the opened files
let lastExam = null; // {state, volume, name}, kept for corrections
let currentExam = 0; // number of the exam in progress; work for any other number is cancelled

/** Return a function that asks a network worker for the probabilities of a window. Each reply has a channel of its own,
 * so that it cannot be taken for that to another exam. */
const networkOf = (port) => (window) =>
  new Promise((resolve, reject) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = ({ data }) => (data.error ? reject(new Error(data.error)) : resolve(data.probabilities));
    port.postMessage({ window, reply: port2 }, [window.array.buffer, port2]);
  });

const yieldToMessages = () => new Promise((resolve) => setTimeout(resolve)); // so that "cancel" can be received

/** Read the exams in files and segment the one that comes first. */
async function openFiles({ files, number }) {
  const reportProgress = startExam(number);
  await reportProgress("reading the exam", 0);
  study = await listExams(files, dcm2niix);
  await segment(0, number, reportProgress);
}

/** Make an exam the current one; returns a function that reports its progress and throws once it is cancelled. */
function startExam(number) {
  currentExam = number;
  lastExam = null;
  return async (stage, share) => {
    self.postMessage({ kind: "progress", stage, share, number });
    await yieldToMessages();
    if (currentExam !== number) throw new CancelledError();
  };
}

async function segment(index, number, reportProgress) {
  self.postMessage({ kind: "study", titles: study.map(({ title }) => title), index, number });
  const { name, modality, notes, bytes } = study[index];
  const volume = { ...readNifti(bytes, name), modality };
  volume.notes.push(...notes);
  const state = await segmentExam(volume, card, networks, reportProgress);
  lastExam = { state, volume, name: name.replace(/(\.nii)?(\.gz)?$/i, "") };
  postResult(buildResult(state), number, true);
}

/** Name levels again, or correct the result by clicks, whose points are those of the viewer. */
async function changeResult({ number, pinnedLevel, clicks }) {
  const { state } = lastExam;
  const inExam = clicks.map(({ point, ...click }) => ({ ...click, point: point.map((v, axis) => (state.flips[axis - 1] ? -v : v)) }));
  const result = clicks.length ? await correctResult(state, inExam, networks) : buildResult(state, pinnedLevel);
  postResult(result, number, false, { clicks, namedByUser: pinnedLevel !== null });
}

/** Post a label map and the report on it; the files for the viewer have a correct header, also where the exam's is wrong. */
function postResult({ labels, assignment, ...result }, number, isNew, changes = { clicks: [], namedByUser: false }) {
  const { state, name, volume } = lastExam;
  const { array, shape, affine, notes } = volume;
  const { rows: measurements, lordosis, positions } = measureStructures(labels, shape, affine, state.flips);
  const viewAffine = reverseWorldAxes(affine, state.flips);
  const file = writeLabels(labels, shape, affine).buffer;
  const viewFile = writeLabels(labels, shape, viewAffine).buffer;
  const examFile = isNew ? writeNifti(array, shape, viewAffine).buffer : null;
  const extra = { measurements, lordosis, positions, discsOnly: state.instances.discsOnly, ...changes };
  const report = { ...result, ...extra, notes: [...notes, ...result.notes] };
  const files = [file, viewFile, ...(isNew ? [examFile] : [])];
  self.postMessage({ kind: "result", number, name, file, viewFile, examFile, report }, files);
}

const handlers = {
  start: (message) => {
    card = message.card;
    networks = message.ports.map(networkOf);
    dcm2niix = message.dcm2niix;
  },
  open: openFiles,
  series: ({ index, number }) => segment(index, number, startExam(number)),
  change: changeResult,
  cancel: () => (currentExam = 0),
};

function describeError(error) {
  if (error instanceof LumbarsegError) return error.message;
  if (error instanceof RangeError) return "the exam is too large for this browser; use the lumbarseg command instead";
  return `internal error of this page: ${error.message ?? error}`;
}

self.onmessage = async ({ data }) => {
  try {
    await handlers[data.kind](data);
  } catch (error) {
    const kind = error instanceof CancelledError ? "cancelled" : "error";
    self.postMessage({ kind, number: data.number, message: describeError(error) });
  }
};
