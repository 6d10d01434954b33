// The worker that segments exams: it reads and preprocesses, distributes windows to the network workers, assigns levels
// and renders the label map.

import { expose, transfer, wrap } from "comlink";
import { listExams } from "./files.js";
import { measureStructures } from "./measurement.js";
import { readNifti, writeLabels, writeNifti } from "./nifti.js";
import { buildResult, correctResult, segmentExam } from "./pipeline.js";
import { reverseWorldAxes } from "./volume.js";

let card = null;
let networks = []; // one function per network worker, from a window to its probabilities
let dcm2niix = null; // bytes of the WebAssembly program
let study = []; // the exams of the opened files
let lastExam = null; // {state, volume, name}, kept for corrections
let currentExam = 0; // number of the exam in progress; work for any other number is cancelled

/** Return the label map of a result and the report on it; the files for the viewer have a correct header, also where the
 * exam's is wrong. */
function describeResult({ labels, assignment, ...result }, isNew, changes = { clicks: [], namedByUser: false }) {
  const { state, name, volume } = lastExam;
  const { array, shape, affine, notes } = volume;
  const { rows: measurements, lordosis, positions } = measureStructures(labels, shape, affine, state.flips);
  const viewAffine = reverseWorldAxes(affine, state.flips);
  const file = writeLabels(labels, shape, affine).buffer;
  const viewFile = writeLabels(labels, shape, viewAffine).buffer;
  const examFile = isNew ? writeNifti(array, shape, viewAffine).buffer : null;
  const extra = { measurements, lordosis, positions, discsOnly: state.instances.discsOnly, ...changes };
  const report = { ...result, ...extra, notes: [...notes, ...result.notes] };
  return transfer({ name, file, viewFile, examFile, report }, [file, viewFile, ...(isNew ? [examFile] : [])]);
}

expose({
  start(settings) {
    ({ card, dcm2niix } = settings);
    const workers = settings.ports.map((port) => wrap(port));
    networks = workers.map((worker) => (window) => worker.infer(transfer(window, [window.array.buffer])));
  },

  /** Read the exams in files; returns their titles, that of the exam to segment first at the front. */
  async open(files) {
    study = await listExams(files, dcm2niix);
    return study.map(({ title }) => title);
  },

  /** Segment an exam of the study. number: of this work, which ends when another one starts. */
  async segment(index, number, showProgress) {
    currentExam = number;
    lastExam = null;
    const reportProgress = async (stage, share) => {
      showProgress(stage, share);
      await new Promise((resolve) => setTimeout(resolve)); // so that `cancel` can be received
      if (currentExam !== number) throw new Error("cancelled");
    };
    const { name, modality, notes, bytes } = study[index];
    const volume = { ...readNifti(bytes, name), modality };
    volume.notes.push(...notes);
    const state = await segmentExam(volume, card, networks, reportProgress);
    lastExam = { state, volume, name: name.replace(/(\.nii)?(\.gz)?$/i, "") };
    return describeResult(buildResult(state), true);
  },

  /** Name levels again, or correct the result by clicks, whose points are those of the viewer. */
  async change({ pinnedLevel, clicks }) {
    const { state } = lastExam;
    const inExam = clicks.map(({ point, ...click }) => ({ ...click, point: point.map((v, axis) => (state.flips[axis - 1] ? -v : v)) }));
    const result = clicks.length ? await correctResult(state, inExam, networks) : buildResult(state, pinnedLevel);
    return describeResult(result, false, { clicks, namedByUser: pinnedLevel !== null });
  },

  cancel() {
    currentExam = 0;
  },
});
