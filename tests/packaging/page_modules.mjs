// Calls the page's modules on arrays that a test wrote: node page_modules.cjs PLAN.json. The plan is a list of
// jobs {action, out, ...}; each action writes its arrays as raw files to out.NAME and prints one JSON object.

import fs from "node:fs";
import { listExams } from "page/files.js";
import { ALL_NEIGHBOURS, gaussianFilter1d, IN_PLANE_NEIGHBOURS, label, maximumFilter } from "page/ndimage.js";
import { decompress, readNifti, writeLabels, writeNifti } from "page/nifti.js";
import { percentile, percentiles, roundEven } from "page/numpy.js";
import { estimateFlips } from "page/orientation.js";
import { buildResult, buildState, correctResult, segmentExam } from "page/pipeline.js";
import { extractWindow, toProbabilities } from "page/predictor.js";
import { preprocess } from "page/preprocessing.js";
import { measureStructures } from "page/measurement.js";
import { keyNumbers, measurementTables, tableCsv } from "page/result_tables.js";
import { LumbarsegError } from "page/volume.js";

const readBytes = (path) => new Uint8Array(fs.readFileSync(path));
const readArray = (path, ArrayType) => new ArrayType(readBytes(path).buffer);
const writeArray = (out, name, values) =>
  fs.writeFileSync(`${out}.${name}`, new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
const readExam = async (file) => readNifti(await decompress(readBytes(file), "exam"), "exam");

/** A network that reads the class of a pixel from its value, and follows clicks; as `ClassReader` in the test. */
const classReader = (card) => async (window) => {
  const { array, channels, rows, columns } = window;
  const [size, classes] = [rows * columns, card.classes.length];
  const [image, clicks] = [card.spec.neighbours * size, (channels - classes) * size];
  const logits = new Float32Array(classes * size);
  for (let c = 0; c < classes; c++) {
    for (let at = 0; at < size; at++) {
      logits[c * size + at] = -200 * (array[image + at] - c / (classes - 1)) ** 2 + 12 * array[clicks + c * size + at];
    }
  }
  return toProbabilities(logits, window, card.bias);
};

const actions = {
  correct: async ({ file, card, clicks, out }) => {
    const networks = [classReader(card), classReader(card)];
    const state = await segmentExam(await readExam(file), card, networks, async () => {});
    const { labels, assignment: _, ...result } = await correctResult(state, clicks, networks);
    writeArray(out, "before", buildResult(state).labels);
    writeArray(out, "labels", labels);
    return { ...result, flips: state.flips };
  },
  study: async ({ files, dcm2niix, out }) => {
    const opened = files.map((path) => new File([readBytes(path)], path.split("/").at(-1)));
    const exams = await listExams(opened, readBytes(dcm2niix));
    const { array, shape, affine } = readNifti(exams[0].bytes, exams[0].name);
    writeArray(out, "f32", array);
    return { titles: exams.map(({ title }) => title), name: exams[0].name, modality: exams[0].modality, shape, affine };
  },
  read: async ({ file, out }) => {
    const { array, shape, affine, notes } = await readExam(file);
    writeArray(out, "f32", array);
    return { shape, affine, notes };
  },
  writeExam: async ({ file, affine, out }) => {
    const { array, shape } = await readExam(file);
    writeArray(out, "nii", writeNifti(array, shape, affine));
  },
  write: async ({ file, shape, affine, out }) =>
    writeArray(out, "nii", writeLabels(readArray(file, Uint8Array), shape, affine)),
  preprocess: async ({ file, card, out }) => {
    const prepared = preprocess(await readExam(file), card.spec);
    writeArray(out, "f32", prepared.array);
    const { shape, affine } = prepared;
    const middle = extractWindow(prepared, shape[0] >> 1, [[1, shape[1]], [0, shape[2] - 1]], card);
    writeArray(out, "window", middle.array);
    return { shape, affine, window: [middle.channels, middle.rows, middle.columns] };
  },
  segment: async ({ file, probabilities: path, card, flips, pinned, out }) => {
    const exam = await readExam(file);
    const prepared = preprocess(exam, card.spec);
    const state = buildState(exam, prepared, flips, readArray(path, Float32Array), card);
    const { classMap, instances } = state;
    for (const name of ["bodies", "discs", "arches", "sacrum", "canal"]) writeArray(out, name, instances[name]);
    const { labels, assignment: _, ...result } = buildResult(state, pinned);
    writeArray(out, "labels", labels);
    return { ...result, positions: instances.positions, flips: estimateFlips(classMap, prepared.shape, prepared.spacing) };
  },
  measure: async ({ file, flips }) => {
    const { array, shape, affine } = await readExam(file);
    return measureStructures(Uint8Array.from(array), shape, affine, flips);
  },
  tables: async ({ file, levels, exam }) => {
    const { array, shape, affine } = await readExam(file);
    const { rows, lordosis } = measureStructures(Uint8Array.from(array), shape, affine, [false, false]);
    const report = { levels, confidence: 1, lordosis, measurements: rows };
    return { numbers: keyNumbers(report), html: measurementTables(report), csv: tableCsv(report, exam) };
  },
  arrays: async ({ values, shape, sigma, q }) => {
    const mask = Uint8Array.from(values, (value) => (value > 0 ? 1 : 0));
    const bytes = Uint8Array.from(values, (value) => Math.abs(roundEven(value * 10)));
    return {
      rounded: values.map(roundEven),
      percentile: percentile(values, q),
      percentiles: percentiles(Float32Array.from(values), [q, 0, 50, 100]),
      nearest: [...gaussianFilter1d(values, sigma, "nearest")],
      zero: [...gaussianFilter1d(values, sigma, "zero")],
      components: [...label(mask, shape).labels],
      componentsInPlane: [...label(mask, shape, IN_PLANE_NEIGHBOURS).labels],
      componentsByCorners: [...label(mask, shape, ALL_NEIGHBOURS).labels],
      maximumFilter: [...maximumFilter(bytes, shape, [1, 2, 2])],
    };
  },
};

async function main() {
  for (const job of JSON.parse(fs.readFileSync(process.argv[2]))) {
    try {
      console.log(JSON.stringify((await actions[job.action](job)) ?? {}));
    } catch (error) {
      if (!(error instanceof LumbarsegError)) throw error;
      console.log(JSON.stringify({ error: error.message }));
    }
  }
}

main().then(() => process.exit(0)); // dcm2niix sets another exit code for files that it cannot read
