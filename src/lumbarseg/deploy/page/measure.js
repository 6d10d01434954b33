// Sizes of a labelled spine: measure.py in JavaScript.

import { byLabel, STRUCTURES } from "./anatomy.js";

/** Volumes of the structures of a label map, ml, from head to foot. labels: in the file's order. */
export function measure(labels, shape, affine) {
  const counts = new Int32Array(256);
  for (const label of labels) counts[label]++;
  const [[a, b, c], [d, e, f], [g, h, i]] = affine;
  const voxel = Math.abs(a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)) / 1000;
  return STRUCTURES.filter((s) => counts[s.label]).map((s) => ({
    name: s.name,
    kind: byLabel(s.label).kind,
    volume: Math.round(counts[s.label] * voxel * 1000) / 1000,
  }));
}
