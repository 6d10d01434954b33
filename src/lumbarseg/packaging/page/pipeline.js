// The pipeline from an exam to named structures: port of segmentation/pipeline.py.

import { median, min } from "d3-array";
import { CONSTANTS } from "./anatomy.js";
import { assignLevelsFromDiscs, requireLumbarDiscs, separateDiscs } from "./discs_only.js";
import { maxSliceArea, separateInstances } from "./instances.js";
import { assignLevels, levelsFromUser, listLevels } from "./levels.js";
import { describeFlips, estimateFlips } from "./orientation.js";
import { assignLevelsAfterClicks, mergeLabels, predictAgain } from "./interactive.js";
import { checkLevelOrder, renderLabelMap } from "./label_map.js";
import { preprocess, classesOnSourceGrid } from "./preprocessing.js";
import { flipAxes, LumbarsegError, voxelCount, voxelToWorld } from "./volume.js";
import { argmaxClasses, predict } from "./predictor.js";

const { CT_AIR_VALUE } = CONSTANTS.preprocessing;
const { MIN_LUMBAR_AREA } = CONSTANTS.pipeline;

/** Segment a volume up to its instances and return the state from which `buildResult` continues.
 * reportProgress: async (stage, share); it may throw to cancel. */
export async function segmentExam(volume, card, networks, reportProgress) {
  checkNotCt(volume);
  await reportProgress("preprocessing", 0);
  const prepared = preprocess(volume, card.spec);
  const { shape, spacing } = prepared;
  const classes = card.classes.length;
  const predictSlices = async (stop) => {
    let done = 0;
    await reportProgress("segmenting slices", 0);
    return predict(prepared, card, networks, () => reportProgress("segmenting slices", ++done / shape[0]), stop);
  };
  let flips = [false, false];
  const hasWrongHeader = (classMap) => {
    flips = estimateFlips(classMap, shape, spacing);
    return flips.includes(true);
  };
  // a wrong orientation in the header is visible in the first slices, so that the other ones are not predicted twice
  let probabilities = await predictSlices(hasWrongHeader);
  if (probabilities && hasWrongHeader(argmaxClasses(probabilities, classes, voxelCount(shape)))) probabilities = null;
  if (!probabilities) {
    prepared.array = flipAxes(prepared.array, shape, flips);
    probabilities = await predictSlices();
  }
  await reportProgress("assigning level names", 1);
  return buildState(volume, prepared, flips, probabilities, card);
}

/** Return the state from which `buildResult` continues. probabilities: of `prepared` with its axes reversed by `flips`. */
export function buildState(volume, prepared, flips, probabilities, card) {
  const { shape, spacing } = prepared;
  const classMap = argmaxClasses(probabilities, card.classes.length, voxelCount(shape));
  const instances = findLumbarInstances(classMap, shape, spacing, card);
  const examClasses = classesOnSourceGrid(probabilities, classMap, prepared, flips);
  const grid = { shape, affine: flippedAffine(prepared, flips) };
  // the exam's own grid, with axes in the order in which label maps are stored
  const source = { shape: volume.shape.toReversed(), affine: volume.affine.map(([i, j, k, at]) => [k, j, i, at]) };
  return { prepared, flips, probabilities, classMap, instances, examClasses, card, grid, source };
}

/** Assign level names and render the label map: {labels, levels, notes, anchor, reasons, confidence, assignment}, labels in
 * the order of the file. pinnedLevel: [name, number] of a level named by the user, or null. */
export function buildResult(state, pinnedLevel = null) {
  const { prepared, instances, probabilities, card } = state;
  const assign = instances.discsOnly ? assignLevelsFromDiscs : assignLevels;
  const automatic = assign(instances, probabilities, prepared.spacing, card.lowestStructure);
  const assignment = pinnedLevel ? levelsFromUser(automatic, pinnedLevel) : automatic;
  const labels = renderLabels(state, instances, assignment);
  checkLevelOrder(labels);
  return describeResult(state, instances, assignment, labels, []);
}

/** Correct the automatic result by clicks; returns as `buildResult`. */
export async function correctResult(state, clicks, networks) {
  const automatic = buildResult(state);
  const previous = { instances: state.instances, assignment: automatic.assignment };
  const newState = await predictAgain(state, clicks, automatic.labels, networks);
  const instances = findLumbarInstances(newState.classMap, state.grid.shape, state.prepared.spacing, state.card);
  const { assignment, newNames } = assignLevelsAfterClicks(instances, newState, previous, clicks);
  const rendered = renderLabels(newState, instances, assignment);
  const { labels, notes } = mergeLabels(rendered, automatic.labels, newNames, newState, previous, clicks);
  return describeResult(newState, instances, assignment, labels, notes);
}

const renderLabels = ({ examClasses, prepared, flips, card }, instances, { names }) =>
  renderLabelMap(examClasses, instances, names, prepared, flips, card.outputKinds);

function describeResult({ flips, grid, probabilities }, instances, assignment, labels, notes) {
  return {
    labels,
    levels: listLevels(instances, assignment, probabilities, grid.affine),
    notes: [describeFlips(flips), ...assignment.warnings, ...notes].filter(Boolean),
    anchor: assignment.anchor,
    reasons: assignment.reasons,
    confidence: Math.round(assignment.confidence * 1000) / 1000,
    assignment,
  };
}

/** Throw for CT: by the modality of the header where it is known, else by the values. */
function checkNotCt({ array, modality }) {
  if (modality === "MR" || (!modality && min(array) >= CT_AIR_VALUE)) return;
  throw new LumbarsegError("this looks like CT (values down to that of air, -1000); lumbarseg reads MRI");
}

/** Separate a class map into instances; throw when it contains no lumbar spine. */
export function findLumbarInstances(classes, shape, spacing, card) {
  const bodies = card.trainedKinds.includes("body");
  const instances = bodies ? separateInstances(classes, shape, spacing) : separateDiscs(classes, shape, spacing);
  if (!instances) {
    throw new LumbarsegError("no lumbar spine found: nothing in the exam looks like a column of vertebrae and discs");
  }
  if (instances.discsOnly) return requireLumbarDiscs(instances, spacing);
  const areas = Array.from({ length: instances.count }, (_, n) => maxSliceArea(instances.bodies, n + 1, shape));
  const area = median(areas) * spacing[1] * spacing[2];
  if (area < MIN_LUMBAR_AREA && shape[0] > 2) {
    throw new LumbarsegError(
      `no lumbar spine found: vertebrae of ${area.toFixed(0)} mm2 in their middle slice are too small for lumbar ones`,
    );
  }
  return instances;
}

/** Return the affine of the network grid with flipped axes. */
function flippedAffine({ affine, shape }, flips) {
  const isFlipped = [false, ...flips];
  const origin = voxelToWorld(affine, shape.map((size, axis) => (isFlipped[axis] ? size - 1 : 0)));
  return affine.map((row, r) => [...row.slice(0, 3).map((step, axis) => (isFlipped[axis] ? -step : step)), origin[r] ?? 1]);
}
