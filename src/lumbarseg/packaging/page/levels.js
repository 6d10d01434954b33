// Level names of the vertebrae, counted from an anchor, with reasons and confidence: port of segmentation/levels.py.

import { max, mean, median, min, range, transpose } from "d3-array";
import { CONSTANTS, DEFAULT_LOWEST, LEVELS, levelsUpward, SACRAL, structureByName, SUPERNUMERARY } from "./anatomy.js";
import { BODY, CORE_RADIUS, DISC } from "./centerline.js";
import { distanceMm, instanceCenters, levelMap, voxelIndex } from "./instances.js";
import { bincount, clamp, differences, percentile } from "./numpy.js";
import { describeS1Signs, discContactShare, SIGN_COUNT } from "./sacrum.js";
import { LumbarsegError, voxelsOf, voxelToWorld } from "./volume.js";

export const { SACRUM_ANCHOR } = CONSTANTS.levels;
const LIMITS = CONSTANTS.levels;
const rounded = (number) => number.toFixed(0);
const percent = (share) => `${rounded(share * 100)}%`;

/** Assign level names to bodies: {names, anchor, confidence, reasons, warnings}, the lowest body first.
 * trainedLowest: [name, share] from the card, or null. */
export function assignLevels(instances, probabilities, spacing, trainedLowest) {
  const evidence = findSacrumEvidence(instances, spacing);
  const meanBodyProbability = meanProbability(probabilities, BODY, instances.bodies, range(1, instances.count + 1));
  const isDiscComplete = evidence.discContact >= LIMITS.MIN_COMPLETE_CONTACT;
  const maxGap = isDiscComplete ? LIMITS.MAX_GAP_BELOW_DISC : LIMITS.MAX_GAP;
  const anchored = evidence.length >= LIMITS.MIN_SACRUM_LENGTH && evidence.gap < maxGap;
  if (trainedLowest && !anchored) return levelsFromTrainedLowest(instances, trainedLowest, meanBodyProbability, spacing);
  const [confidence, reasons] = anchored
    ? confidenceFromSacrum(instances, evidence, meanBodyProbability, spacing)
    : [0.2 * meanBodyProbability, ["no sacrum in view"]];
  const anchor = anchored ? SACRUM_ANCHOR : `none: the lowest body is assumed to be ${DEFAULT_LOWEST}`;
  return makeAssignment(DEFAULT_LOWEST, instances, anchor, confidence, reasons);
}

/** Return the assignment with the names upward from `lowest`, a body or the disc below it, and a warning if the confidence is low. */
export function makeAssignment(lowest, { count }, anchor, confidence, reasons) {
  const warning = `level names are uncertain (${reasons.join("; ")}); correct one in the table`;
  const warnings = confidence < LIMITS.MIN_CERTAIN_CONFIDENCE ? [warning] : [];
  return { names: levelsUpward(lowest.split("-")[0], count), anchor, confidence, reasons, warnings };
}

/** Return the assignment that follows from a level that the user named: [name, number]. */
export function levelsFromUser(defaultAssignment, pinnedLevel) {
  const names = levelsUpward(lowestName(...pinnedLevel), defaultAssignment.names.length);
  return overrideNames(names, defaultAssignment, "named by the user");
}

/** Return names that the user gave, with a warning if they contradict a visible sacrum. */
export function overrideNames(names, defaultAssignment, reason) {
  const fromUser = { names, anchor: "given by the user", confidence: 1, reasons: [reason], warnings: [] };
  const isSacrumClear = defaultAssignment.anchor === SACRUM_ANCHOR && defaultAssignment.confidence >= LIMITS.MIN_CERTAIN_CONFIDENCE;
  if (!isSacrumClear || defaultAssignment.names[0] === names[0]) return fromUser;
  const conflict =
    "the names given by the user contradict the sacrum in view: counted from it, the lowest body is " +
    `${defaultAssignment.names[0]}, not ${names[0]}; check them, a different number of lumbar vertebrae is rare`;
  const reasons = [...fromUser.reasons, conflict];
  return { ...fromUser, confidence: LIMITS.CONTRADICTED_CONFIDENCE, reasons, warnings: [conflict] };
}

function levelsFromTrainedLowest(instances, [level, share], meanBodyProbability, spacing) {
  const first = instances.count > 1 && touchesBorder(instances.bodies, 1, instances.shape) ? 2 : 1; // the lowest that the edge does not cut
  const heights = voxelsOf(instances.bodies, first).map((at) => at % instances.shape[2]);
  const hasFieldBelow = first === 1 && min(heights) * spacing[2] >= LIMITS.MIN_FIELD_BELOW;
  const reasons = [`counted from the lowest body: it was ${level} in ${percent(share)} of the training exams`];
  if (!hasFieldBelow) reasons.push("the field of view ends close below it, so one below may be missing");
  const confidence = (hasFieldBelow ? 0.95 : 0.4) * meanBodyProbability * (share >= 1 ? 1 : 0.75);
  return makeAssignment(lowestName(level, first), instances, "the lowest body, as in training", confidence, reasons);
}

/** Return the name of body 1 when body `number` is called `level`. */
export function lowestName(level, number) {
  const isSupernumerary = level === SUPERNUMERARY;
  const upward = levelsUpward(isSupernumerary ? level : DEFAULT_LOWEST, LEVELS.length - (isSupernumerary ? 0 : 1));
  const index = upward.indexOf(level) - (number - 1);
  if (index === -1 && !isSupernumerary) return SUPERNUMERARY;
  if (index < 0) {
    throw new LumbarsegError(`${number - 1} vertebrae lie below the one called ${level}; there is no name for the lowest`);
  }
  return upward[index];
}

/** Return evidence of a sacrum below the lowest body: {length, gap} in mm, hasDisc, discContact (share of the body). */
function findSacrumEvidence(instances, spacing) {
  const { shape } = instances;
  const discs = bincount(instances.discs, instances.count + 2).slice(1);
  const presentDiscs = discs.filter((n) => n > 0);
  const hasDisc = presentDiscs.length > 0 && discs[0] > 0.15 * median(presentDiscs);
  const discContact = discContactShare(instances.bodies, instances.discs, instances.sacrum, shape);
  const noEvidence = { length: 0, gap: Infinity, hasDisc, discContact };
  const [body, sacralVoxels] = [voxelsOf(instances.bodies, 1), voxelsOf(instances.sacrum, 1)];
  if (!body.length || !sacralVoxels.length) return noEvidence;
  const { along } = instances.centerline.curveCoordinates(body, shape, spacing);
  const low = percentile(along, 10);
  const lowest10Percent = body.filter((_, v) => along[v] <= low);
  const lowestPoint = transpose(lowest10Percent.map((at) => voxelIndex(at, shape))).map((indices) => mean(indices));
  const midline = Array.from(sacralVoxels, (at) => voxelIndex(at, shape)).filter(
    (voxel) => Math.abs(voxel[0] - lowestPoint[0]) * spacing[0] < LIMITS.MIDLINE,
  );
  if (midline.length <= 20) return noEvidence;
  const distances = midline.map((voxel) => distanceMm(voxel, lowestPoint, spacing));
  const [gap, end] = [percentile(distances, 2), percentile(distances, 98)];
  return { ...noEvidence, length: end - gap, gap };
}

/** Return the height of body n along the centerline in mm; null for a body without voxels. */
function extentAlongCenterline(instances, n, spacing) {
  const voxels = voxelsOf(instances.bodies, n);
  if (!voxels.length) return null;
  const { along, distance } = instances.centerline.curveCoordinates(voxels, instances.shape, spacing);
  const core = along.filter((_, v) => distance[v] < CORE_RADIUS);
  const used = core.length ? core : along;
  return percentile(used, 97) - percentile(used, 3);
}

/** Return the confidence of counting from the sacrum, and its reasons. */
function confidenceFromSacrum(instances, evidence, meanBodyProbability, spacing) {
  const reasons = [`counted from the sacrum, ${rounded(evidence.length)} mm of it in view`];
  let value = clamp(0.3 + evidence.length / 45, 0, 1);
  const reduce = (factor, reason) => {
    value *= factor;
    reasons.push(reason);
  };
  if (!evidence.hasDisc) reduce(0.7, "no disc visible between the sacrum and the lowest body");
  const { sacralSigns, excludedS1Signs } = instances;
  const s1Reason = describeS1Signs(sacralSigns);
  if (s1Reason) reduce(0.6, s1Reason);
  if (excludedS1Signs.length) {
    const factor = excludedS1Signs.length === SIGN_COUNT ? 1 : 0.6;
    reduce(factor, `the body below was counted as ${SACRAL}: ${excludedS1Signs.join(", ")}`);
  }
  const numbers = Array.from({ length: Math.min(instances.count, 4) }, (_, n) => n + 1);
  const heights = numbers.map((n) => extentAlongCenterline(instances, n, spacing)).filter((height) => height !== null);
  const ratio = heights[0] / median(heights.slice(1));
  const isDiscComplete = evidence.discContact >= LIMITS.MIN_COMPLETE_CONTACT;
  if (heights.length > 2 && !(0.7 < ratio && ratio < 1.35) && !isDiscComplete) {
    reduce(0.6, "the lowest body differs from its neighbours in height");
  }
  const steps = differences(instances.positions);
  if (steps.length > 2 && max(steps) > 1.6 * median(steps)) {
    reduce(0.5, "a vertebra may be missing: one distance between vertebrae is much longer than the others");
  }
  if (meanBodyProbability < 0.85) reduce(meanBodyProbability, "the network is uncertain about the vertebral bodies");
  if (instances.count < 3) reduce(0.8, "fewer than three vertebrae in view");
  return [value, reasons];
}

/** Return the mean probability of a class over instances with these numbers. */
export function meanProbability(probabilities, kind, map, numbers) {
  const voxels = numbers.flatMap((number) => voxelsOf(map, number));
  return voxels.reduce((total, at) => total + probabilities[kind * map.length + at], 0) / voxels.length;
}

/** List the named vertebrae, or discs for models without bodies, from head to foot: {name, number, confidence,
 * uncertain, partial, reasons, centre}. affine: from voxels of the instance maps to RAS+ mm. */
export function listLevels(instances, assignment, probabilities, affine) {
  const numbers = levelMap(instances);
  const kind = instances.discsOnly ? DISC : BODY;
  const names = instances.discsOnly ? discNames(instances, assignment.names).slice(0, instances.count) : assignment.names;
  const out = [];
  instanceCenters(numbers, instances.count, instances.shape).forEach((centre, n) => {
    const name = names[n];
    if (!name || Number.isNaN(centre[0])) return;
    const confidence = assignment.confidence * meanProbability(probabilities, kind, numbers, [n + 1]);
    const cutOff = touchesBorder(numbers, n + 1, instances.shape);
    out.push({
      name,
      number: n + 1,
      confidence: Math.round(confidence * 1000) / 1000,
      uncertain: assignment.confidence < LIMITS.MIN_CERTAIN_CONFIDENCE,
      partial: cutOff,
      reasons: cutOff ? [...assignment.reasons, "cut by the edge of the field of view"] : [...assignment.reasons],
      centre: voxelToWorld(affine, centre).map((value) => Math.round(value * 10) / 10),
    });
  });
  return out.reverse();
}

/** Return the names of discs 1 to count + 1 around bodies with these names; "" where the table has none. */
export function discNames(instances, names) {
  const top = LEVELS.indexOf(names.at(-1));
  const isAboveLowest = instances.discsOnly && ![DEFAULT_LOWEST, SUPERNUMERARY].includes(names[0]);
  const below = isAboveLowest ? LEVELS[LEVELS.indexOf(names[0]) + 1] : SACRAL;
  const uppers = [...names, top ? LEVELS[top - 1] : ""];
  const lowers = [below, ...names];
  return uppers.map((upper, n) => (structureByName(`${upper}-${lowers[n]}`) ? `${upper}-${lowers[n]}` : ""));
}

/** Return whether instance n touches the upper or lower edge of the field of view. */
function touchesBorder(numbers, n, [I, A, S]) {
  for (let row = 0; row < I * A; row++) if (numbers[row * S] === n || numbers[row * S + S - 1] === n) return true;
  return false;
}
