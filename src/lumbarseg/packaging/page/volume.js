// Volumes: {array, shape, strides, offset, affine}. Element (i, j, k) is
// array[offset + i strides[0] + j strides[1] + k strides[2]]; affine (nested lists) maps (i, j, k, 1) to RAS+ in mm.

import { greatest, sum } from "d3-array";
import { determinant } from "./numpy.js";

export const DIRECTION_LETTERS = ["LR", "PA", "IS"];
const PERMUTATIONS = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

/** An error in a file or an exam, described in one line for the user. */
export class LumbarsegError extends Error {
  name = "LumbarsegError";
}

/** Return the voxel size along each axis in mm. */
export function spacingOf(affine) {
  return [0, 1, 2].map((c) => Math.sqrt(affine[0][c] ** 2 + affine[1][c] ** 2 + affine[2][c] ** 2));
}

/** Return the nearest anatomical direction of each axis: "RAS", "LPS", ... */
export function axesOf(affine) {
  const spacing = spacingOf(affine);
  const cosine = (world, axis) => affine[world][axis] / spacing[axis];
  const best = greatest(PERMUTATIONS, (worldAxes) => sum(worldAxes, (world, axis) => Math.abs(cosine(world, axis))));
  return best.map((world, axis) => DIRECTION_LETTERS[world][cosine(world, axis) > 0 ? 1 : 0]).join("");
}

/** Convert a voxel index to RAS+ in mm. */
export function voxelToWorld(affine, index) {
  return [0, 1, 2].map((r) => affine[r][0] * index[0] + affine[r][1] * index[1] + affine[r][2] * index[2] + affine[r][3]);
}

/** Convert RAS+ in mm to a voxel index, not rounded. */
export function worldToVoxel(affine, point) {
  const columns = [0, 1, 2].map((c) => [0, 1, 2].map((r) => affine[r][c]));
  const offset = point.map((value, r) => value - affine[r][3]);
  return columns.map((_, axis) => determinant(columns.with(axis, offset)) / determinant(columns)); // Cramer's rule
}

/** Return an affine with the anterior and superior world axes reversed where `flips` is true. */
export function reverseWorldAxes(affine, flips) {
  const signs = [1, ...flips.map((flip) => (flip ? -1 : 1)), 1];
  return affine.map((row, r) => row.map((value) => value * signs[r]));
}

export const voxelCount = (shape) => shape[0] * shape[1] * shape[2];

/** Call `visit` with the flat index and the three indices of each voxel, in C order. */
export function forEachVoxel([I, J, K], visit) {
  for (let i = 0, at = 0; i < I; i++) for (let j = 0; j < J; j++) for (let k = 0; k < K; k++) visit(at++, i, j, k);
}

/** Call `visit` as `forEachVoxel` does, for the voxels in a box, [start, stop] of each axis. */
export function forEachInBox(box, [, J, K], visit) {
  const shape = box.map(([start, stop]) => stop - start);
  const [i0, j0, k0] = box.map(([start]) => start);
  forEachVoxel(shape, (_, i, j, k) => visit(((i0 + i) * J + j0 + j) * K + k0 + k, i0 + i, j0 + j, k0 + k));
}

/** Return the voxels in a box, [start, stop] of each axis. */
export function cropMap(map, shape, box) {
  const out = new map.constructor(box.reduce((total, [start, stop]) => total * (stop - start), 1));
  let to = 0;
  forEachInBox(box, shape, (at) => (out[to++] = map[at]));
  return out;
}

/** Return for each value of a map, from 0, its count, the sums of its indices, and its box, [start, stop] of each axis;
 * undefined for values that do not occur, and for 0. */
export function regionsOf(map, shape) {
  const regions = [];
  forEachVoxel(shape, (at, i, j, k) => {
    if (!map[at]) return;
    const index = [i, j, k];
    const region = (regions[map[at]] ??= { count: 0, sums: [0, 0, 0], box: shape.map((size) => [size, 0]) });
    region.count++;
    for (let axis = 0; axis < 3; axis++) {
      region.sums[axis] += index[axis];
      const side = region.box[axis];
      if (index[axis] < side[0]) side[0] = index[axis];
      if (index[axis] >= side[1]) side[1] = index[axis] + 1;
    }
  });
  return regions;
}

/** Return the box of the non-zero voxels of a map, [start, stop] of each axis; null without any. */
export function boundingBox(map, shape) {
  const [, region] = regionsOf(map.map((value) => (value ? 1 : 0)), shape);
  return region ? region.box : null;
}

/** Return an array (slices, A, S) reversed along A and S where `flips` is true. */
export function flipAxes(array, shape, flips) {
  if (!flips.includes(true)) return array;
  const [, A, S] = shape;
  const out = new array.constructor(array.length);
  forEachVoxel(shape, (at, i, a, s) => {
    out[at] = array[(i * A + (flips[0] ? A - 1 - a : a)) * S + (flips[1] ? S - 1 - s : s)];
  });
  return out;
}

const voxelLists = new WeakMap(); // maps are read many times and never changed

/** Return the flat indices of the voxels of a map that have a value, not 0. */
export function voxelsOf(map, value) {
  if (!voxelLists.has(map)) {
    const lists = [];
    for (let at = 0; at < map.length; at++) if (map[at]) (lists[map[at]] ??= []).push(at);
    voxelLists.set(map, lists);
  }
  return voxelLists.get(map)[value] ?? [];
}
