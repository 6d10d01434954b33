// Instances and levels from discs, for models that do not segment bodies: port of segmentation/discs_only.py.

import { max, mean, median, min, minIndex, range, sum, transpose } from "d3-array";
import { CONSTANTS } from "./anatomy.js";
import { ARCH, CANAL, DISC, extendCenterline, largestRun, mask, MAX_DISTANCE, SACRUM } from "./centerline.js";
import { findDiscPlanes, planePosition } from "./disc_planes.js";
import {
  assignArches, assignWholeComponents, distanceMm, instanceCenters, maxSliceArea, numberMap, selectCanal, selectCluster,
  voxelIndex,
} from "./instances.js";
import { makeAssignment, meanProbability, SACRUM_ANCHOR } from "./levels.js";
import { label } from "./ndimage.js";
import { bincount, differences, interp } from "./numpy.js";
import { LumbarsegError, regionsOf, voxelsOf } from "./volume.js";

const LIMITS = CONSTANTS.discs_only;
const { DEFAULT_LOWEST } = LIMITS;

/** Separate a class map without bodies into instances, as `separateInstances` does; null when it contains no disc. */
export function separateDiscs(classes, shape, spacing) {
  const centerline = fitCenterlineToDiscs(mask(classes, DISC), shape, spacing);
  if (!centerline) return null;
  const voxels = Int32Array.from(voxelsOf(classes, DISC));
  const coordinates = centerline.curveCoordinates(voxels, shape, spacing);
  const planes = planesOnePerLevel(findDiscPlanes(coordinates, new Uint8Array(voxels.length).fill(DISC), shape[0] > 4));
  if (!planes.length) return null;
  const numbers = Uint8Array.from(voxels, (_, v) => {
    return minIndex(planes.map((plane) => Math.abs(planePosition(plane, coordinates, v) - plane.position))) + 1;
  });
  const isNear = (v) => coordinates.distance[v] < MAX_DISTANCE;
  const numberedDiscs = assignWholeComponents(numberMap(classes.length, voxels, numbers, isNear), shape);
  const [first, last] = firstAndLastDisc(numberedDiscs, shape);
  const count = last - first + 1;
  const at = planes.slice(first - 1, last).map((plane) => plane.position);
  const discs = numberedDiscs.map((n) => (n >= first && n <= last ? n - first + 1 : 0));
  const step = count > 1 ? median(differences(at)) : LIMITS.DEFAULT_SPACING;
  const bodyPositions = at.map((value, n) => (value + (n + 1 < count ? at[n + 1] : at.at(-1) + step)) / 2);
  return {
    count,
    bodies: new Uint8Array(discs.length),
    discs,
    arches: assignArches(mask(classes, ARCH), bodyPositions, centerline, shape, spacing),
    sacrum: selectCluster(mask(classes, SACRUM), instanceCenters(discs, 1, shape)[0], shape, spacing),
    canal: selectCanal(mask(classes, CANAL), centerline, shape, spacing),
    centerline,
    positions: bodyPositions,
    discsOnly: true,
    shape,
  };
}

/** Return one plane per level, where the chain also contains planes through bodies. */
function planesOnePerLevel(planes) {
  const steps = (some) => median(differences(some.map((plane) => plane.position)));
  const planesWithDisc = planes.filter((plane) => plane.discShare > LIMITS.MIN_DISC_SHARE);
  if (planesWithDisc.length < 2 || steps(planes) >= LIMITS.MIN_LUMBAR_SPACING) return planes;
  const usualSpacing = steps(planesWithDisc);
  if (usualSpacing < LIMITS.MIN_LUMBAR_SPACING) return planes;
  const selected = planesWithDisc.slice(0, 1);
  for (const plane of planesWithDisc.slice(1)) {
    const previous = selected.at(-1).position;
    const gap = plane.position - previous;
    const count = Math.floor(gap / usualSpacing + 0.5);
    for (let n = 1; n < count; n++) {
      selected.push(planes[minIndex(planes.map((p) => Math.abs(p.position - previous - (n * gap) / count)))]);
    }
    selected.push(plane);
  }
  return selected;
}

/** Fit the centerline through the centres of discs. */
function fitCenterlineToDiscs(discs, shape, spacing) {
  const { labels, count } = label(discs, shape);
  if (!count) return null;
  const pieces = regionsOf(labels, shape).slice(1);
  const largestSize = max(pieces, (piece) => piece.count);
  const components = pieces
    .filter((piece) => piece.count >= LIMITS.MIN_COMPONENT_SHARE * largestSize)
    .map((piece) => ({ point: piece.sums.map((total, axis) => (total / piece.count) * spacing[axis]), size: piece.count }));
  const row = longestRow(components);
  let curve = fitCurve(row, spacing);
  const [, anteriors, heights] = transpose(curve);
  const nearCurve = row.filter(({ point }) => Math.abs(interp(point[2], heights, anteriors) - point[1]) <= MAX_DISTANCE);
  if (nearCurve.length && nearCurve.length < row.length) curve = fitCurve(longestRow(nearCurve), spacing);
  return extendCenterline(curve);
}

/** Return the components of the row without a gap in height that has the most voxels. */
const longestRow = (components) => {
  const sorted = components.toSorted((a, b) => a.point[2] - b.point[2]);
  return largestRun(sorted, ({ point }) => point[2], LIMITS.MAX_DISC_GAP, ({ size }) => size);
};

/** Return one curve point per row of height from the lowest component to the highest. */
function fitCurve(row, spacing) {
  const z = row.map(({ point }) => point[2]);
  const [low, high] = [min(z), max(z)];
  const heights = range(low, Math.max(high, low + 25), spacing[2]);
  const degree = high - low > 15 ? Math.min(3, Math.floor((high - low) / LIMITS.HEIGHT_PER_DEGREE) + 1) : 0;
  const weights = row.map(({ size }) => Math.sqrt(size));
  const fits = [0, 1].map((axis) => fitPolynomial(z, row.map(({ point }) => point[axis]), weights, degree));
  return heights.map((height) => [...fits.map((f) => f(Math.min(height, high))), height]);
}

/** Fit a polynomial by weighted least squares, over heights scaled to -1..1, as a sum of orthogonal polynomials; returns a
 * function. */
function fitPolynomial(x, y, w, degree) {
  const [low, high] = [min(x), max(x)];
  const scaled = (value) => (high > low ? (2 * value - low - high) / (high - low) : 0);
  const product = (values, others) => sum(w, (weight, n) => weight ** 2 * values[n] * others[n]);
  const terms = []; // {polynomial, values at x, factor}
  const evaluate = (value) => sum(terms, ({ polynomial, factor }) => factor * polynomial(value));
  for (let d = 0; d <= degree; d++) {
    const powers = x.map((value) => scaled(value) ** d);
    const projections = terms.map(({ values }) => product(powers, values) / product(values, values));
    const polynomial = (value) => scaled(value) ** d - sum(projections, (factor, n) => factor * terms[n].polynomial(value));
    const values = x.map(polynomial);
    terms.push({ polynomial, values, factor: product(y, values) / product(values, values) });
  }
  return evaluate;
}

/** Return the first and last number that belong to discs of the column. */
function firstAndLastDisc(numbers, shape) {
  const sizes = bincount(numbers);
  const usualSpacing = median(sizes.slice(1).filter((n) => n > 0));
  let present = [...sizes.keys()].slice(1).filter((n) => sizes[n] >= LIMITS.MIN_VOLUME_SHARE * usualSpacing);
  const isLowestWrong = () => present[1] - present[0] > 1 || isRudimentary(numbers, present, shape);
  while (present.length > 2 && isLowestWrong()) present = present.slice(1);
  while (present.length > 2 && present.at(-1) - present.at(-2) > 1) present = present.slice(0, -1);
  return [present[0], present.at(-1)];
}

function isRudimentary(numbers, present, shape) {
  const [lowest, ...others] = present.slice(0, 3).map((n) => maxSliceArea(numbers, n, shape));
  return lowest < LIMITS.MIN_AREA_SHARE * mean(others);
}

/** Return the instances; throw when their discs are as small and close to each other as cervical ones. */
export function requireLumbarDiscs(instances, spacing) {
  const { count, discs, shape } = instances;
  const areas = Array.from({ length: count }, (_, n) => maxSliceArea(discs, n + 1, shape)).filter(Boolean);
  const area = median(areas) * spacing[1] * spacing[2];
  const step = medianSpacing(instances);
  if (area < LIMITS.MIN_LUMBAR_AREA && count > 2 && step < LIMITS.MIN_LUMBAR_SPACING) {
    throw new LumbarsegError(
      `no lumbar spine found: discs of ${area.toFixed(0)} mm2 that follow each other by ${step.toFixed(0)} mm ` +
        "are too small for lumbar ones",
    );
  }
  return instances;
}

/** Assign level names to the discs of a column; the result is that of `assignLevels`. */
export function assignLevelsFromDiscs(instances, probabilities, spacing, trainedLowest) {
  const meanDiscProbability = meanProbability(probabilities, DISC, instances.discs, range(1, instances.count + 2));
  if (sacrumBelowLowestDisc(instances, spacing)) {
    const reasons = ["counted from the sacrum, by the discs above it"];
    return makeAssignment(DEFAULT_LOWEST, instances, SACRUM_ANCHOR, 0.95 * meanDiscProbability, reasons);
  }
  if (!trainedLowest) {
    const anchor = `none: the lowest disc is assumed to be ${DEFAULT_LOWEST}`;
    const reasons = ["nothing shows which disc is the lowest"];
    return makeAssignment(DEFAULT_LOWEST, instances, anchor, 0.2 * meanDiscProbability, reasons);
  }
  const [disc, share] = trainedLowest;
  const percent = `${(share * 100).toFixed(0)}%`;
  const reasons = [`counted from the lowest disc: it was ${disc} in ${percent} of the training exams`];
  let value = (share >= 1 ? 0.95 : 0.75) * meanDiscProbability;
  if (!hasFieldOfViewBelow(instances, spacing)) {
    reasons.push("the field of view ends close below it, so one below may be missing");
    value *= 0.4;
  }
  if (disc === DEFAULT_LOWEST && leanAngle(instances, spacing) < LIMITS.MIN_L5_S1_LEAN) {
    const degrees = LIMITS.MIN_L5_S1_LEAN.toFixed(0);
    reasons.push(`it leans forward by less than ${degrees} degrees, which is rare for ${DEFAULT_LOWEST}`);
    value *= 0.6;
  }
  return makeAssignment(disc, instances, "the lowest disc, as in training", value, reasons);
}

/** Return whether a sacrum lies directly below the lowest disc. */
function sacrumBelowLowestDisc(instances, spacing) {
  const sacral = voxelsOf(instances.sacrum, 1);
  if (sacral.length * spacing[0] * spacing[1] * spacing[2] < LIMITS.MIN_SACRUM_VOLUME) return false;
  const middle = instanceCenters(instances.discs, 1, instances.shape)[0];
  return sacral.some((at) => distanceMm(voxelIndex(at, instances.shape), middle, spacing) < LIMITS.MAX_SACRUM_DISTANCE);
}

/** Return the forward lean of the lowest disc in its middle, degrees. */
function leanAngle(instances, spacing) {
  const voxels = Array.from(voxelsOf(instances.discs, 1), (at) => voxelIndex(at, instances.shape));
  const points = voxels.map((voxel) => voxel.map((value, axis) => value * spacing[axis]));
  const middleSlice = median(points, ([x]) => x);
  const middle = points.filter(([x]) => Math.abs(x - middleSlice) < LIMITS.MIDLINE);
  const centre = transpose(middle).map((values) => mean(values));
  const moment = (axis, other) => sum(middle, (point) => (point[axis] - centre[axis]) * (point[other] - centre[other]));
  const turn = 0.5 * Math.atan2(2 * moment(1, 2), moment(1, 1) - moment(2, 2)); // direction of the longest axis of the disc
  return (-Math.atan2(Math.sin(turn) * Math.sign(Math.cos(turn)), Math.abs(Math.cos(turn))) * 180) / Math.PI;
}

/** Return whether a disc below the lowest one would be in the field of view. */
function hasFieldOfViewBelow(instances, spacing) {
  const [center] = instanceCenters(instances.discs, 1, instances.shape);
  return center[2] * spacing[2] > LIMITS.NEXT_DISC_SHARE * medianSpacing(instances);
}

function medianSpacing({ positions }) {
  return positions.length > 1 ? median(differences(positions)) : LIMITS.DEFAULT_SPACING;
}
