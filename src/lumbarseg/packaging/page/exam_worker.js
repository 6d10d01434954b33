// The worker that segments exams: it reads and preprocesses, distributes windows to the network workers, assigns levels
// and renders the label map.

import { measureStructures } from "./measurement.js";
import { decompress, readNifti, writeLabels } from "./nifti.js";
import { buildResult, segmentExam } from "./pipeline.js";
import { LumbarsegError, reverseWorldAxes } from "./volume.js";

class CancelledError extends Error {}

let card = null;
let network = null;
let lastExam = null; // {state, shape, affine, notes}, kept for changes of level names
let currentExam = 0; // number of the exam in progress; work for any other number is cancelled

/** The network workers behind one method. A window waits until a worker is free, in the order of the calls. */
class NetworkPool {
  constructor(ports) {
    this.workerCount = ports.length;
    this.free = [...ports];
    this.waiting = [];
  }

  async infer(window) {
    const port = this.free.shift() ?? (await new Promise((resolve) => this.waiting.push(resolve)));
    const reply = await new Promise((resolve) => {
      port.onmessage = ({ data }) => resolve(data);
      port.postMessage(window, [window.array.buffer]);
    });
    const next = this.waiting.shift();
    if (next) next(port);
    else this.free.push(port);
    if (reply.error) throw new Error(reply.error);
    return reply.probabilities;
  }
}

const yieldToMessages = () => new Promise((resolve) => setTimeout(resolve)); // so that "cancel" can be received

async function openExam({ bytes, fileName, number }) {
  currentExam = number;
  const reportProgress = async (stage, share) => {
    self.postMessage({ kind: "progress", stage, share, number });
    await yieldToMessages();
    if (currentExam !== number) throw new CancelledError();
  };
  await reportProgress("reading the exam", 0);
  const volume = readNifti(await decompress(new Uint8Array(bytes), fileName), fileName);
  const { shape, affine, notes } = volume;
  lastExam = null;
  const state = await segmentExam(volume, card, network, reportProgress);
  lastExam = { state, shape, affine, notes };
  postResult(number, null);
}

/** Post the label map and report of the last exam. pinnedLevel: [name, number] chosen by the user, or null.
 * viewAffine: the corrected affine for the viewer, where the header swaps directions; else null. */
function postResult(number, pinnedLevel) {
  const { state, shape, affine, notes } = lastExam;
  const { labels, ...result } = buildResult(state, pinnedLevel);
  const { rows: measurements, lordosis } = measureStructures(labels, shape, affine, state.flips);
  const file = writeLabels(labels, shape, affine).buffer;
  const viewAffine = state.flips.includes(true) ? reverseWorldAxes(affine, state.flips) : null;
  const extra = { measurements, lordosis, discsOnly: state.instances.discsOnly, namedByUser: pinnedLevel !== null };
  const report = { ...result, ...extra, notes: [...notes, ...result.notes] };
  self.postMessage({ kind: "result", number, file, report, viewAffine }, [file]);
}

const handlers = {
  start: (message) => {
    card = message.card;
    network = new NetworkPool(message.ports);
  },
  open: openExam,
  rename: ({ number, pinnedLevel }) => postResult(number, pinnedLevel),
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
