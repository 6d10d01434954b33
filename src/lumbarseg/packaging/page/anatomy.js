// The table of structures. Python writes it into tables_from_python.js; no label or name is typed here.

import { TABLES } from "tables_from_python.js";
import { LumbarsegError } from "./volume.js";

export const STRUCTURES = TABLES.structures; // from head to foot: {label, name, kind, order, colour, code}
export const LEVELS = TABLES.levels;
export const CLASSES = TABLES.classes;
export const MEASUREMENTS = TABLES.measurements; // {list, kinds: with sizes, columns: of a CSV table, errors: by kind, lordosisError}
export const VIEWER_COLOURS = TABLES.viewerColours; // NiiVue's format of a label table
export const CARET = TABLES.caret; // parts of a label table in XML: {head, labels by label, tail}
export const CONSTANTS = TABLES.constants; // of the ported Python modules, by module name

const structuresByName = new Map(STRUCTURES.map((s) => [s.name, s]));
const structuresByLabel = new Map(STRUCTURES.map((s) => [s.label, s]));

export const structureByName = (name) => structuresByName.get(name);
export const structureByLabel = (label) => structuresByLabel.get(label);
export const archOfLevel = (level) => structuresByName.get(`${level} arch`);
export const labelsOfKind = (kind) => STRUCTURES.filter((s) => s.kind === kind).map((s) => s.label);

/** The usual lowest vertebra, the supernumerary one, the one below the last disc, and the upper one of lordosis. */
export const {
  defaultLowest: DEFAULT_LOWEST, supernumerary: SUPERNUMERARY, sacral: SACRAL, lordosisTop: LORDOSIS_TOP,
} = TABLES.counting;

/** Return the names of `count` vertebrae upward from `lowest`, the lowest first. */
export function levelsUpward(lowest, count) {
  const names = LEVELS.filter((name) => name !== SUPERNUMERARY || lowest === SUPERNUMERARY);
  const upward = names.slice(0, names.indexOf(lowest) + 1).reverse();
  if (count > upward.length) {
    throw new LumbarsegError(`${count} vertebrae above and with ${lowest} reach past ${LEVELS[0]}; name the lowest one`);
  }
  return upward.slice(0, count);
}
