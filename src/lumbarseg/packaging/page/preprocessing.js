// From an exam to the network's input, and from class probabilities back to the exam's grid: port of preprocessing.py.

import { bisectLeft, bisectRight, range } from "d3-array";
import { clamp, percentiles, roundEven } from "./numpy.js";
import { applyMatrices, matrix, toContiguous, reorient, interpolationMatrix } from "./resampling.js";
import { boundingBox, cropMap, flipAxes, forEachVoxel, voxelCount, LumbarsegError, spacingOf, voxelToWorld } from "./volume.js";

/** Sample an axis of `sourceCount` voxels of `spacing` mm by voxels of `target` mm around the same centre. */
function axisSampling(sourceCount, spacing, target) {
  if (Math.abs(spacing / target - 1) < 0.01) return { sourceCount, count: sourceCount, step: 1, start: 0 };
  const step = target / spacing;
  const sampleCount = Math.max(1, roundEven(sourceCount / step));
  return { sourceCount, count: sampleCount, step, start: (sourceCount - 1) / 2 - (step * (sampleCount - 1)) / 2 };
}

const samplingMatrix = ({ sourceCount, count, step, start }) =>
  step === 1 && count === sourceCount ? null : interpolationMatrix(sourceCount, count, step, start, step);

function samplingPlan(canonical, spec) {
  const spacing = spacingOf(canonical.affine);
  const slicesPerSlab = Math.max(1, roundEven(spec.slab / spacing[0]));
  const targets = [spacing[0] * slicesPerSlab, spec.pixel, spec.pixel];
  return targets.map((target, axis) => axisSampling(canonical.shape[axis], spacing[axis], target));
}

/** Return an exam as network input: {array, shape, affine, spacing}, and `canonical` and `plan` for the inverse. */
export function preprocess(volume, spec) {
  const canonical = reorient(volume, spec.axes);
  const plan = samplingPlan(canonical, spec);
  const { array, shape } = applyMatrices(toContiguous(canonical), canonical.shape, plan.map(samplingMatrix));
  const origin = voxelToWorld(canonical.affine, plan.map((a) => a.start));
  const affine = [0, 1, 2].map((r) => [...plan.map((a, c) => canonical.affine[r][c] * a.step), origin[r]]);
  affine.push([0, 0, 0, 1]);
  return { array: normaliseIntensity(array, shape, spec), shape, affine, spacing: spacingOf(affine), canonical, plan, spec };
}

/** Normalise the intensity of an image (slices, A, S) to 0..limit; throw when it is constant. */
function normaliseIntensity(array, shape, spec) {
  const n = spec.normalisation;
  const [low, high] = percentiles(array, [n.low, n.high]);
  if (!(high - low > 1e-5 * Math.max(Math.abs(low), Math.abs(high)))) {
    throw new LumbarsegError("the image is constant: there is nothing to segment");
  }
  const image = new Float32Array(array.length);
  let total = 0;
  for (let i = 0; i < array.length; i++) {
    image[i] = clamp((array[i] - low) / (high - low), 0, 1);
    total += image[i];
  }
  const local = localMean(image, shape, n.local / spec.pixel);
  const floor = (n.floor * total) / image.length;
  for (let i = 0; i < image.length; i++) image[i] /= (local[i] + floor) ** n.power;
  const highest = Math.max(percentiles(image, [n.top])[0], 1e-6);
  for (let i = 0; i < image.length; i++) image[i] = clamp(image[i] / highest, 0, n.limit);
  return image;
}

/** Return the local mean. In plane it is computed at every fourth voxel and interpolated by cubics, exact to 1e-5. */
function localMean(image, shape, sigma) {
  const coarse = shape.map((size) => coarseNodes(size));
  const blurs = [null, gaussianMatrix(shape[1], sigma, coarse[1]), gaussianMatrix(shape[2], sigma, coarse[2])];
  const subsampled = applyMatrices(image, shape, blurs);
  const smoothed = applyMatrices(subsampled.array, subsampled.shape, [gaussianMatrix(shape[0], 1, null), null, null]);
  const cubics = [null, cubicMatrix(shape[1], coarse[1]), cubicMatrix(shape[2], coarse[2])];
  return applyMatrices(smoothed.array, smoothed.shape, cubics).array;
}

/** Return every fourth index of an axis and the last one; all indices of a short axis. */
function coarseNodes(size) {
  const all = range(0, size);
  return size < 32 ? all : all.filter((n) => n % 4 === 0 || n === size - 1);
}

/** Return the matrix of Gaussian smoothing at `positions` (null: all), normalised inside the border. */
function gaussianMatrix(size, sigma, positions) {
  const centers = positions ?? range(0, size);
  return matrix(centers.length, size, (r) =>
    Float64Array.from({ length: size }, (_, c) => {
      const value = Math.exp(-0.5 * ((centers[r] - c) / sigma) ** 2);
      return value < 1e-6 ? 0 : value;
    }),
  );
}

/** Return the matrix (size, nodes) of cubics through the four nodes around each index; null if all are nodes. */
function cubicMatrix(size, positions) {
  if (positions.length === size) return null;
  return matrix(size, positions.length, (t) => {
    const row = new Float64Array(positions.length);
    const first = clamp(bisectRight(positions, t) - 2, 0, positions.length - 4);
    for (let n = first; n < first + 4; n++) {
      row[n] = 1;
      for (let o = first; o < first + 4; o++) if (o !== n) row[n] *= (t - positions[o]) / (positions[n] - positions[o]);
    }
    return row;
  });
}

/** Return the most probable class on the exam's grid, in the network's axes and C order.
 * probabilities: (classes, slices, A, S); classMap: of them; flips: whether A and S are reversed in them; previous: the result
 * before a change, where `classMap` shows what changed. */
export function classesOnSourceGrid(probabilities, classMap, prepared, flips, previous = null) {
  const { plan, shape } = prepared;
  const best = previous ? previous.slice() : new Uint8Array(voxelCount(plan.map((a) => a.sourceCount)));
  const box = boundingBox(flipAxes(classMap, shape, flips), shape);
  if (!box) return best;
  const boxes = box.map((side, n) => samplingInBox(side, plan[n]));
  const size = voxelCount(shape);
  const resample = (number) => {
    const upright = flipAxes(probabilities.subarray(number * size, (number + 1) * size), shape, flips);
    const inBox = cropMap(upright, shape, boxes.map((c) => [c.low, c.high]));
    return applyMatrices(inBox, boxes.map((c) => c.high - c.low), boxes.map((c) => c.matrix)).array;
  };
  const highest = resample(0);
  const bestClass = new Uint8Array(highest.length);
  for (let number = 1; number * size < probabilities.length; number++) {
    const values = resample(number);
    for (let i = 0; i < values.length; i++) if (values[i] > highest[i]) [bestClass[i], highest[i]] = [number, values[i]];
  }
  const [, J, K] = plan.map((a) => a.sourceCount);
  forEachVoxel(boxes.map((c) => c.last - c.first), (at, i, j, k) => {
    best[((boxes[0].first + i) * J + boxes[1].first + j) * K + boxes[2].first + k] = bestClass[at];
  });
  return best;
}

/** Return along one axis the box of the foreground with a margin, the source voxels inside, and their matrix. */
function samplingInBox([start, stop], a) {
  const low = Math.max(0, start - 2);
  const high = Math.min(a.count, stop + 2);
  const positions = Float64Array.from({ length: a.sourceCount }, (_, n) => (n - a.start) / a.step);
  const first = low === 0 ? 0 : bisectLeft(positions, low);
  const last = high === a.count ? a.sourceCount : bisectRight(positions, high - 1);
  const weights = interpolationMatrix(high - low, last - first, 1 / a.step, positions[first] - low);
  return { low, high, first, last, matrix: weights };
}

/** Return for each axis the index of the nearest network voxel of each exam voxel, flipped as the probabilities. */
export function nearestNetworkVoxels(prepared, flips) {
  return prepared.plan.map((a, n) =>
    Int32Array.from({ length: a.sourceCount }, (_, s) => {
      const position = clamp(roundEven((s - a.start) / a.step), 0, a.count - 1);
      return n > 0 && flips[n - 1] ? a.count - 1 - position : position;
    }),
  );
}

/** Return voxels in the order of the exam's file, from the network's axes. */
export function toSourceOrder(array, prepared) {
  const { shape, strides, offset } = prepared.canonical;
  const out = new array.constructor(array.length);
  forEachVoxel(shape, (at, i, j, k) => {
    out[offset + i * strides[0] + j * strides[1] + k * strides[2]] = array[at];
  });
  return out;
}
