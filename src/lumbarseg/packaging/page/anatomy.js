// The table of structures: written by Python into table.js from anatomy.py, never typed here.

import { TABLE } from "./table.js";
import { Refusal } from "./volume.js";

export const STRUCTURES = TABLE.structures; // from head to foot: {label, name, kind, order, colour, code}
export const LEVELS = TABLE.levels;
export const CLASSES = TABLE.classes;
export const CONSTANTS = TABLE.constants; // of the Python rooms, by file

const named = new Map(STRUCTURES.map((s) => [s.name, s]));
const numbered = new Map(STRUCTURES.map((s) => [s.label, s]));

export const byName = (name) => named.get(name);
export const byLabel = (label) => numbered.get(label);
export const archOf = (level) => named.get(`${level} arch`);
export const labelsOf = (kind) => STRUCTURES.filter((s) => s.kind === kind).map((s) => s.label);

/** Where counting begins, its one exception, what discs end at, and from where lordosis is measured. */
export const { usual: USUAL, extra: EXTRA, sacral: SACRAL, lordosis: LORDOSIS } = TABLE.counting;

/** Names of vertebrae upward from `lowest`, the lowest first. */
export function column(lowest, count) {
  const names = LEVELS.filter((name) => name !== EXTRA || lowest === EXTRA);
  const upward = names.slice(0, names.indexOf(lowest) + 1).reverse();
  if (count > upward.length) {
    throw new Refusal(`${count} vertebrae above and with ${lowest} reach past ${LEVELS[0]}; name the lowest one`);
  }
  return upward.slice(0, count);
}
