// The pipeline from an exam to named structures: port of segmentation/pipeline.py.

import { CONSTANTS } from "./anatomy.js";
import { assignLevelsFromDiscs, requireLumbarDiscs, separateDiscs } from "./discs_only.js";
import { maxSliceArea, separateInstances } from "./instances.js";
import { listLevels, assignLevels } from "./levels.js";
import { median, minimum } from "./numpy.js";
import { flipAxes, describeFlips, estimateFlips } from "./orientation.js";
import { renderLabelMap } from "./label_map.js";
import { preprocess, classesOnSourceGrid } from "./preprocessing.js";
import { voxelCount, LumbarsegError } from "./volume.js";
import { argmaxClasses, predict } from "./predictor.js";

const { CT_AIR_VALUE } = CONSTANTS.preprocessing;
const { MIN_LUMBAR_AREA } = CONSTANTS.pipeline;

/** Segment a volume up to its instances and return the state from which `buildResult` continues.
 * reportProgress: async (stage, share); it may throw to cancel. */
export async function segmentExam(volume, card, network, reportProgress) {
  checkNotCt(volume.array);
  await reportProgress("preprocessing", 0);
  const prepared = preprocess(volume, card.spec);
  const { shape, spacing } = prepared;
  const classes = card.classes.length;
  const predictSlices = async (stop) => {
    let done = 0;
    await reportProgress("segmenting slices", 0);
    return predict(prepared, card, network, () => reportProgress("segmenting slices", ++done / shape[0]), stop);
  };
  let flips = [false, false];
  const hasWrongHeader = (classMap, [slices]) => {
    flips = estimateFlips(classMap, [slices, shape[1], shape[2]], spacing);
    return flips.includes(true);
  };
  // a wrong orientation in the header is visible in the first slices, so that the other ones are not predicted twice
  let probabilities = await predictSlices(hasWrongHeader);
  if (probabilities && hasWrongHeader(argmaxClasses(probabilities, classes, voxelCount(shape)), shape)) probabilities = null;
  if (!probabilities) {
    prepared.array = flipAxes(prepared.array, shape, flips);
    probabilities = await predictSlices();
  }
  const classMap = argmaxClasses(probabilities, classes, voxelCount(shape));
  await reportProgress("assigning level names", 1);
  const instances = findLumbarInstances(classMap, shape, spacing, card);
  await reportProgress("rendering the label map", 1);
  const examClasses = classesOnSourceGrid(probabilities, classes, prepared, flips);
  return { prepared, flips, probabilities, instances, examClasses, card };
}

/** Assign level names and render the label map: {labels, levels, notes, anchor, reasons, confidence}, labels in the order
 * of the file. pinnedLevel: [name, number] of a level named by the user, or null. */
export function buildResult(state, pinnedLevel = null) {
  const { prepared, flips, probabilities, instances, examClasses, card } = state;
  const assign = instances.discsOnly ? assignLevelsFromDiscs : assignLevels;
  const assignment = assign(instances, probabilities, prepared.spacing, pinnedLevel, card.lowestStructure);
  return {
    labels: renderLabelMap(examClasses, instances, assignment.names, prepared, flips, card.outputKinds),
    levels: listLevels(instances, assignment, probabilities, flippedAffine(prepared, flips)),
    notes: [describeFlips(flips), ...assignment.warnings].filter(Boolean),
    anchor: assignment.anchor,
    reasons: assignment.reasons,
    confidence: Math.round(assignment.confidence * 1000) / 1000,
  };
}

function checkNotCt(array) {
  if (minimum(array) < CT_AIR_VALUE) {
    throw new LumbarsegError("this looks like CT (values down to that of air, -1000); lumbarseg reads MRI");
  }
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
  const out = affine.map((row) => [...row]);
  flips.forEach((flip, n) => {
    const axis = n + 1;
    if (!flip) return;
    for (const r of [0, 1, 2]) {
      out[r][3] += affine[r][axis] * (shape[axis] - 1);
      out[r][axis] = -affine[r][axis];
    }
  });
  return out;
}
