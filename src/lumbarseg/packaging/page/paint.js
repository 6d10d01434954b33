// Named instances as a label map on the exam's own grid, and its checks: segment/paint.py in JavaScript.

import { archOf, byName, CLASSES, labelsOf, LEVELS, STRUCTURES } from "./anatomy.js";
import { ARCH, BODY, CANAL, DISC, SACRUM } from "./column.js";
import { discNames } from "./levels.js";
import { maximumFilter } from "./ndimage.js";
import { nearestPlaces, toSource } from "./prepare.js";
import { Refusal } from "./volume.js";

/** uint8 labels in the order of the exam's file. classes: of `restoreClasses`; painted: kinds that may be shown. */
export function paint(classes, found, names, prepared, flips, painted) {
  const out = new Uint8Array(classes.length);
  const places = nearestPlaces(prepared, flips);
  for (const [kind, numbers, values] of tables(found, names)) {
    if (!classes.includes(kind)) continue;
    set(out, classes, kind, spread(numbers.map((n) => values[n]), found.shape), found.shape, places);
  }
  check(out);
  const keep = Uint8Array.from({ length: 256 });
  for (const s of STRUCTURES) keep[s.label] = painted.includes(s.kind) ? s.label : 0;
  return toSource(out.map((label) => keep[label]), prepared);
}

/** Labels of one tissue, each voxel of it with the label that lies nearest. */
function set(out, classes, kind, labels, [, A, S], [is, js, ks]) {
  for (let i = 0, at = 0; i < is.length; i++) {
    for (let j = 0; j < js.length; j++) {
      const row = (is[i] * A + js[j]) * S;
      for (let k = 0; k < ks.length; k++, at++) if (classes[at] === kind) out[at] = labels[row + ks[k]];
    }
  }
}

/** Per tissue: the class, a map of instance numbers, and the label of each number. */
function tables(found, names) {
  const bodies = names.map((level) => byName(level).label);
  const arches = names.map((level) => archOf(level).label);
  const discs = discNames(found, names).map((disc) => (disc ? byName(disc).label : 0));
  const [sacrum, canal] = ["sacrum", "canal"].map((kind) => labelsOf(kind)[0]);
  const stray = names.length + 1;
  const bones = found.bodies.map((n, at) => (n === 0 && found.sacrum[at] ? stray : n));
  return [
    [BODY, bones, [0, ...bodies, sacrum]],
    [DISC, found.discs, [0, ...discs]],
    [ARCH, found.arches, [0, ...arches]],
    [SACRUM, found.sacrum, [0, sacrum]],
    [CANAL, found.canal, [0, canal]],
  ];
}

/** Labels grown by two pixels in plane and into the next slices: the exam's finer grid reaches a little further. */
function spread(labels, shape) {
  const grown = maximumFilter(labels, shape, [shape[0] > 1 ? 1 : 0, 2, 2]);
  return labels.map((label, at) => label || grown[at]);
}

/** Every vertebra between two named ones is there; Refusal names what is not. */
function check(labels) {
  const seen = new Uint8Array(256);
  for (const label of labels) seen[label] = 1;
  const present = STRUCTURES.filter((s) => s.kind === CLASSES[BODY] && seen[s.label]).map((s) => s.name);
  const ranks = present.map((name) => LEVELS.indexOf(name));
  if (ranks.length && ranks.at(-1) - ranks[0] + 1 !== ranks.length) {
    throw new Refusal(`the segmentation would have a gap in its level order (${present.join(", ")}); please report this exam`);
  }
}
