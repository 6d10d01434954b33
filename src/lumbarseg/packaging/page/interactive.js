// Correction of a result by clicks: port of segmentation/interactive.py and click_overrides.py. A click is
// {point in RAS+ mm, structure (name), positive}.

import { cross, maxIndex, min, range } from "d3-array";
import { CLASSES, CONSTANTS, LEVELS, levelsUpward, structureByLabel, structureByName } from "./anatomy.js";
import { indicesWhere } from "./centerline.js";
import { distanceMm, levelMap, voxelIndex } from "./instances.js";
import { isOrderComplete, renameLevels } from "./label_map.js";
import { lowestName, overrideNames } from "./levels.js";
import { ALL_NEIGHBOURS, label, maximumFilter } from "./ndimage.js";
import { clamp, roundEven } from "./numpy.js";
import { argmaxClasses, cropBox, extractWindow, fullViewSlices, predictSlices } from "./predictor.js";
import { classesOnSourceGrid } from "./preprocessing.js";
import { forEachInBox, LumbarsegError, spacingOf, worldToVoxel } from "./volume.js";

const { CHANGE_RADIUS, CONTACT_RADIUS, NAMING_DEPTH, MARGIN } = CONSTANTS.interactive;
const { OVERRIDE_RADIUS } = CONSTANTS.click_overrides;
const { MIN_VISIBLE } = CONSTANTS.clicks;
const VISIBLE_SIGMAS = Math.sqrt(-2 * Math.log(MIN_VISIBLE));
const flat = ([i, j, k], [, J, K]) => (i * J + j) * K + k;
const describe = ({ structure, positive }) => `${positive ? "" : "not "}${structure}`;

/** Return the positions of clicks in voxels of a grid, clipped to it. */
function clickPositions(clicks, { affine, shape }) {
  return clicks.map(({ point }) => worldToVoxel(affine, point).map((at, axis) => clamp(at, 0, shape[axis] - 1)));
}

const voxelsOf = (positions) => positions.map((position) => position.map(roundEven));

/** Predict the surroundings of clicks again: the state with the new prediction. labels: before the clicks.
 * Throws for clicks that contradict each other. */
export async function predictAgain(state, clicks, labels, networks) {
  const { prepared, card, grid, source, classMap, probabilities, flips } = state;
  if (!card.spec.clicks) throw new LumbarsegError("this model does not accept clicks; choose the name of a level instead");
  checkClicks(clicks, source);
  const { shape } = grid;
  const slices = await predictWithClicks(state, clicksForNetwork(clicks, labels, source), networks);
  const classes = classMap.slice();
  for (const { voxels, part } of slices) voxels.forEach((at, n) => (classes[at] = part[n]));
  const changes = classes.map((value, at) => Number(value !== classMap[at]));
  const caused = changesNearClicks(changes, clickPositions(clicks, grid), prepared.spacing, shape);
  const replaced = maximumFilter(caused, shape, MARGIN).map((value, at) => Number(value && (caused[at] || !changes[at])));
  const merged = probabilities.slice();
  for (const { voxels, values, part } of slices) {
    voxels.forEach((at, n) => {
      for (let c = 0; replaced[at] && c < CLASSES.length; c++) merged[c * classMap.length + at] = values[c * part.length + n];
    });
  }
  const newMap = classMap.map((value, at) => (replaced[at] ? classes[at] : value));
  const examClasses = classesOnSourceGrid(merged, replaced, prepared, flips, state.examClasses);
  return { ...state, probabilities: merged, classMap: newMap, examClasses };
}

function checkClicks(clicks, source) {
  const voxels = voxelsOf(clickPositions(clicks, source)).map(String);
  clicks.forEach((click, n) => {
    const other = clicks.find((earlier, m) => {
      const isSame = earlier.structure === click.structure;
      return m < n && voxels[m] === voxels[n] && click.positive && earlier.positive !== isSame;
    });
    if (other) throw new LumbarsegError(`clicks contradict each other: ${describe(other)}, and ${describe(click)}`);
  });
}

/** Return the clicks as the network reads them, {point, channel}: it knows kinds and no levels. "Not L3" means background,
 * unless the segmentation shows another structure there: then it means that one. */
function clicksForNetwork(clicks, labels, source) {
  const voxels = voxelsOf(clickPositions(clicks, source));
  return clicks.flatMap(({ point, structure, positive }, n) => {
    const { kind, label } = structureByName(structure);
    const shown = structureByLabel(labels[flat(voxels[n], source.shape)]);
    if (positive || !shown || shown.label === label) return [{ point, channel: positive ? CLASSES.indexOf(kind) : 0 }];
    return shown.kind === kind ? [] : [{ point, channel: CLASSES.indexOf(shown.kind) }];
  });
}

/** Predict the slices in which clicks are encoded: {voxels, values, part}: indices in the class map, probabilities of these
 * voxels, and their classes. */
async function predictWithClicks({ prepared, card, grid, classMap }, clicks, networks) {
  const { shape } = grid;
  const [count, A, S] = shape;
  const { sigma, through } = card.spec.clicks;
  const sigmas = [through, sigma, sigma];
  const encode = ({ point, channel }) => encodeClick(worldToVoxel(grid.affine, point), channel, sigmas, prepared);
  const encoded = clicks.map(encode);
  const first = fullViewSlices(count);
  const firstClasses = classMap.map((value, at) => (first.includes(Math.floor(at / (A * S))) ? value : 0));
  let box = cropBox(firstClasses, shape, card.spec.multiple);
  const isInside = ({ visible: [, ...sides] }) => sides.every(([low, high], n) => low >= box[n][0] && high <= box[n][1]);
  if (!encoded.every(isInside)) {
    const region = classMap.slice();
    for (const { visible } of encoded) forEachInBox(visible, shape, (at) => (region[at] = 1));
    box = cropBox(region, shape, card.spec.multiple);
  }
  const slices = range(count).filter((i) => encoded.some(({ visible: [[low, high]] }) => low <= i && i < high));
  const out = [];
  await predictSlices(slices, networks, async (slice, infer) => {
    const view = first.includes(slice) ? [[0, A], [0, S]] : box;
    const values = await infer(extractWindow(prepared, slice, view, card, encoded));
    const voxels = [];
    forEachInBox([[slice, slice + 1], ...view], shape, (at) => voxels.push(at));
    out.push({ voxels, values, part: argmaxClasses(values, CLASSES.length, voxels.length) });
  });
  return out;
}

/** Return a click for `extractWindow`: {channel, gaussians along the axes, visible: box in voxels}. */
function encodeClick(position, channel, sigmas, { shape, spacing }) {
  const gaussians = position.map((at, axis) =>
    Float32Array.from({ length: shape[axis] }, (_, n) => Math.exp(-0.5 * (((n - at) * spacing[axis]) / sigmas[axis]) ** 2)),
  );
  const visible = position.map((at, axis) => {
    const reach = (sigmas[axis] * VISIBLE_SIGMAS) / spacing[axis];
    const low = clamp(Math.ceil(at - reach), 0, shape[axis]);
    return [low, clamp(Math.floor(at + reach) + 1, low, shape[axis])];
  });
  return { channel, gaussians, visible };
}

/** Select the changes that are connected to a click and lie near it. positions: of the clicks, in voxels. */
function changesNearClicks(changes, positions, spacing, shape) {
  const voxels = indicesWhere(changes, Boolean);
  const distances = Float64Array.from(voxels, (at) => {
    const voxel = voxelIndex(at, shape);
    return min(positions, (position) => distanceMm(voxel, position, spacing));
  });
  const near = new Uint8Array(changes.length);
  voxels.forEach((at, v) => (near[at] = distances[v] <= CHANGE_RADIUS ? 1 : 0));
  const { labels } = label(near, shape, ALL_NEIGHBOURS);
  const touched = new Set(voxels.filter((_, v) => distances[v] <= CONTACT_RADIUS).map((at) => labels[at]));
  return near.map((value, at) => (value && touched.has(labels[at]) ? 1 : 0));
}

/** Assign names after clicks: {assignment, newNames of the bodies before, or null where they keep their names}. */
export function assignLevelsAfterClicks(instances, state, { assignment, instances: instancesBefore }, clicks) {
  const [number, oldNumber] = largestOverlap(levelMap(instances), levelMap(instancesBefore));
  const lowestBefore = lowestName(assignment.names[oldNumber - 1], number);
  const lowestNames = new Map(clicksInsideBodies(instances, state, clicks));
  if (lowestNames.size > 1) {
    const [first, second] = [...lowestNames.values()].map(describe);
    throw new LumbarsegError(`clicks contradict each other about the names: ${first}, and ${second}`);
  }
  const withOldNames = { ...assignment, names: levelsUpward(lowestBefore, instances.count) };
  if (!lowestNames.size) return { assignment: withOldNames, newNames: null };
  const [lowest] = lowestNames.keys();
  const names = levelsUpward(lowest, instances.count);
  const renamed = levelsUpward(lowestName(names[number - 1], oldNumber), instancesBefore.count);
  return { assignment: overrideNames(names, withOldNames, "named by a click"), newNames: lowest === lowestBefore ? null : renamed };
}

/** Return the pair of instance numbers that share most voxels; [1, 1] when none share any. */
function largestOverlap(numbers, oldNumbers) {
  const votes = new Uint32Array(65536);
  numbers.forEach((number, at) => number && oldNumbers[at] && votes[number * 256 + oldNumbers[at]]++);
  const pair = maxIndex(votes);
  return votes[pair] ? [pair >> 8, pair & 255] : [1, 1];
}

/** Return the positive clicks deep inside a body, or the disc below it: [name of the lowest body, click]. */
function clicksInsideBodies(instances, { grid, prepared }, clicks) {
  const voxels = voxelsOf(clickPositions(clicks, grid));
  return clicks.flatMap((click, n) => {
    const { kind } = structureByName(click.structure);
    const [level] = click.structure.split("-");
    const numbers = kind === "disc" ? instances.discs : instances.bodies;
    const number = numbers[flat(voxels[n], grid.shape)];
    const depth = NAMING_DEPTH[kind];
    if (!click.positive || !depth || !LEVELS.includes(level) || !number) return [];
    return isDeep(numbers, number, voxels[n], grid.shape, prepared.spacing, depth) ? [[lowestName(level, number), click]] : [];
  });
}

/** Return whether all pixels of a slice nearer than `depth` mm to a voxel have its number. */
function isDeep(numbers, number, [i, a, s], shape, spacing, depth) {
  const [rows, columns] = [1, 2].map((axis) => range(-Math.ceil(depth / spacing[axis]), Math.ceil(depth / spacing[axis]) + 1));
  const near = cross(rows, columns).filter(([row, column]) => Math.hypot(row * spacing[1], column * spacing[2]) < depth);
  return near.every(([row, column]) => {
    const isInView = a + row >= 0 && a + row < shape[1] && s + column >= 0 && s + column < shape[2];
    return isInView && numbers[flat([i, a + row, s + column], shape)] === number;
  });
}

/** Combine the label map before the clicks with the one after them: {labels, notes}. */
export function mergeLabels(labels, before, newNames, state, previous, clicks) {
  const { source } = state;
  const base = newNames ? renameLevels(before, previous.instances, previous.assignment.names, newNames) : before;
  const positions = clickPositions(clicks, source);
  const changes = labels.map((value, at) => Number(value !== base[at]));
  const changed = changesNearClicks(changes, positions, spacingOf(source.affine), source.shape);
  return overrideLabels(base.map((value, at) => (changed[at] ? labels[at] : value)), base, clicks, positions, source);
}

/** Give a small ball about each click that the network did not follow the label of the click: {labels, notes}. */
function overrideLabels(labels, before, clicks, positions, { affine, shape }) {
  const notes = [];
  const spacing = spacingOf(affine);
  voxelsOf(positions).forEach((voxel, n) => {
    const { structure, positive } = clicks[n];
    const [own, at] = [structureByName(structure).label, flat(voxel, shape)];
    if ((labels[at] === own) === positive) return;
    const value = positive ? own : before[at] === own ? 0 : before[at];
    const nearest = (other) => min(positions, (position) => distanceMm(other, position, spacing));
    const reach = spacing.map((step) => OVERRIDE_RADIUS / step);
    const box = positions[n].map((position, axis) => [
      Math.max(0, Math.floor(position - reach[axis])), Math.min(shape[axis], Math.ceil(position + reach[axis]) + 1),
    ]);
    const overridden = labels.slice();
    forEachInBox(box, shape, (to, ...other) => {
      const distance = distanceMm(other, positions[n], spacing);
      if (distance > OVERRIDE_RADIUS || distance > nearest(other)) return;
      if (positive || labels[to] === own) overridden[to] = value;
    });
    overridden[at] = value;
    if (!isOrderComplete(overridden)) {
      notes.push(`the click ${describe(clicks[n])} was ignored: no such structure can lie there`);
      return;
    }
    labels = overridden;
    notes.push(`the network did not follow the click ${describe(clicks[n])}: ${OVERRIDE_RADIUS} mm about it were overridden`);
  });
  return { labels, notes };
}
