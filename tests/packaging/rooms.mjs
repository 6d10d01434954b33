// Calls the page's modules on arrays that a test wrote: node rooms.mjs MODULES PLAN.json. The plan is a list of jobs
// {deed, out, ...}; what a deed finds it writes as raw arrays to out.NAME and tells as JSON, one object a job.

import fs from "node:fs";
import { pathToFileURL } from "node:url";

const [, , folder, plan] = process.argv;
const load = (name) => import(pathToFileURL(`${folder}/${name}.js`));
const { inverse, percentile, percentiles, roundEven } = await load("numpy");
const { gaussianFilter1d, label, maximumFilter } = await load("ndimage");
const { read, unpacked, write } = await load("nifti");
const { prepare, restoreClasses } = await load("prepare");
const { answer, lumbar } = await load("look");
const { wrongWay } = await load("orientation");
const { bestOf, windowOf } = await load("window");
const { measure } = await load("measure");
const { Refusal } = await load("volume");

const bytes = (path) => new Uint8Array(fs.readFileSync(path));
const array = (path, Kind) => new Kind(bytes(path).buffer);
const keep = (out, name, values) => fs.writeFileSync(`${out}.${name}`, new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
const exam = async (file) => read(await unpacked(bytes(file), "exam"), "exam");

const deeds = {
  read: async ({ file, out }) => {
    const { array: values, shape, affine, notes } = await exam(file);
    keep(out, "f32", values);
    return { shape, affine, notes };
  },
  write: async ({ file, shape, affine, out }) => keep(out, "nii", write(array(file, Uint8Array), shape, affine)),
  prepare: async ({ file, card, out }) => {
    const prepared = prepare(await exam(file), card.spec);
    keep(out, "f32", prepared.array);
    const { shape, affine } = prepared;
    const middle = windowOf(prepared, shape[0] >> 1, [[1, shape[1]], [0, shape[2] - 1]], card);
    keep(out, "window", middle.array);
    return { shape, affine, window: [middle.channels, middle.rows, middle.columns] };
  },
  answer: async ({ file, scores, card, flips, lowest, pinned, out }) => {
    const prepared = prepare(await exam(file), card.spec);
    const probabilities = array(scores, Float32Array);
    const { shape, spacing } = prepared;
    const map = bestOf(probabilities, card.classes.length, shape[0] * shape[1] * shape[2]);
    const found = lumbar(map, shape, spacing, card);
    for (const name of ["bodies", "discs", "arches", "sacrum", "canal"]) keep(out, name, found[name]);
    const tissues = restoreClasses(probabilities, card.classes.length, prepared, flips);
    const { labels, ...told } = answer({ prepared, flips, scores: probabilities, found, tissues, card }, lowest, pinned);
    keep(out, "labels", labels);
    return { ...told, at: found.at, wrong: wrongWay(map, shape, spacing) };
  },
  measure: async ({ file }) => {
    const { array: values, shape, affine } = await exam(file);
    return measure(Uint8Array.from(values), shape, affine);
  },
  numbers: async ({ values, shape, sigma, q }) => {
    const mask = Uint8Array.from(values, (value) => (value > 0 ? 1 : 0));
    const whole = Uint8Array.from(values, (value) => Math.abs(roundEven(value * 10)));
    return {
      rounded: values.map(roundEven),
      percentile: percentile(values, q),
      percentiles: percentiles(Float32Array.from(values), [q, 0, 50, 100]),
      nearest: [...gaussianFilter1d(values, sigma, "nearest")],
      zero: [...gaussianFilter1d(values, sigma, "zero")],
      pieces: [...label(mask, shape).labels],
      flat: [...label(mask, shape, true).labels],
      spread: [...maximumFilter(whole, shape, [1, 2, 2])],
      inverse: inverse([[2, 0.1, 0, 5], [0, 1, 0.2, -3], [0.3, 0, 4, 1], [0, 0, 0, 1]]),
    };
  },
};

for (const job of JSON.parse(fs.readFileSync(plan))) {
  try {
    console.log(JSON.stringify((await deeds[job.deed](job)) ?? {}));
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    console.log(JSON.stringify({ refused: error.message }));
  }
}
