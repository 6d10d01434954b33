// Calls the page's modules on arrays that a test wrote: node page_modules.mjs MODULES PLAN.json. The plan is a list of
// jobs {action, out, ...}; each action writes its arrays as raw files to out.NAME and prints one JSON object.

import fs from "node:fs";
import { pathToFileURL } from "node:url";

const [, , folder, plan] = process.argv;
const load = (name) => import(pathToFileURL(`${folder}/${name}.js`));
const { percentile, percentiles, roundEven } = await load("numpy");
const { gaussianFilter1d, label, maximumFilter } = await load("ndimage");
const { readNifti, decompress, replaceAffine, writeLabels } = await load("nifti");
const { preprocess, classesOnSourceGrid } = await load("preprocessing");
const { buildResult, findLumbarInstances } = await load("pipeline");
const { estimateFlips } = await load("orientation");
const { argmaxClasses, extractWindow } = await load("predictor");
const { measureStructures } = await load("measurement");
const { LumbarsegError } = await load("volume");

const readBytes = (path) => new Uint8Array(fs.readFileSync(path));
const readArray = (path, ArrayType) => new ArrayType(readBytes(path).buffer);
const writeArray = (out, name, values) =>
  fs.writeFileSync(`${out}.${name}`, new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
const readExam = async (file) => readNifti(await decompress(readBytes(file), "exam"), "exam");

const actions = {
  read: async ({ file, out }) => {
    const { array, shape, affine, notes } = await readExam(file);
    writeArray(out, "f32", array);
    return { shape, affine, notes };
  },
  replaceAffine: async ({ file, affine, out }) =>
    writeArray(out, "nii", replaceAffine(await decompress(readBytes(file), "exam"), affine)),
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
    const prepared = preprocess(await readExam(file), card.spec);
    const probabilities = readArray(path, Float32Array);
    const { shape, spacing } = prepared;
    const classMap = argmaxClasses(probabilities, card.classes.length, shape[0] * shape[1] * shape[2]);
    const instances = findLumbarInstances(classMap, shape, spacing, card);
    for (const name of ["bodies", "discs", "arches", "sacrum", "canal"]) writeArray(out, name, instances[name]);
    const examClasses = classesOnSourceGrid(probabilities, card.classes.length, prepared, flips);
    const state = { prepared, flips, probabilities, instances, examClasses, card };
    const { labels, ...result } = buildResult(state, pinned);
    writeArray(out, "labels", labels);
    return { ...result, positions: instances.positions, flips: estimateFlips(classMap, shape, spacing) };
  },
  measure: async ({ file, flips }) => {
    const { array, shape, affine } = await readExam(file);
    return measureStructures(Uint8Array.from(array), shape, affine, flips);
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
      componentsInPlane: [...label(mask, shape, true).labels],
      maximumFilter: [...maximumFilter(bytes, shape, [1, 2, 2])],
    };
  },
};

for (const job of JSON.parse(fs.readFileSync(plan))) {
  try {
    console.log(JSON.stringify((await actions[job.action](job)) ?? {}));
  } catch (error) {
    if (!(error instanceof LumbarsegError)) throw error;
    console.log(JSON.stringify({ error: error.message }));
  }
}
