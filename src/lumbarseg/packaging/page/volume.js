// Volumes: {array, shape, strides, offset, affine}. Element (i, j, k) is
// array[offset + i strides[0] + j strides[1] + k strides[2]]; affine (nested lists) maps (i, j, k, 1) to RAS+ in mm.

export const DIRECTION_LETTERS = ["LR", "PA", "IS"];
const PERMUTATIONS = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

/** An error in a file or an exam, described in one line for the user. */
export class LumbarsegError extends Error {}

/** Return the voxel size along each axis in mm. */
export function spacingOf(affine) {
  return [0, 1, 2].map((c) => Math.sqrt(affine[0][c] ** 2 + affine[1][c] ** 2 + affine[2][c] ** 2));
}

/** Return the nearest anatomical direction of each axis: "RAS", "LPS", ... */
export function axesOf(affine) {
  const spacing = spacingOf(affine);
  const cosine = (world, axis) => affine[world][axis] / spacing[axis];
  let best = null;
  let bestScore = -Infinity;
  for (const p of PERMUTATIONS) {
    const score = Math.abs(cosine(p[0], 0)) + Math.abs(cosine(p[1], 1)) + Math.abs(cosine(p[2], 2));
    if (score > bestScore) [best, bestScore] = [p, score];
  }
  return best.map((world, axis) => DIRECTION_LETTERS[world][cosine(world, axis) > 0 ? 1 : 0]).join("");
}

/** Convert a voxel index to RAS+ in mm. */
export function voxelToWorld(affine, index) {
  return [0, 1, 2].map((r) => affine[r][0] * index[0] + affine[r][1] * index[1] + affine[r][2] * index[2] + affine[r][3]);
}

/** Return an affine with the anterior and superior world axes reversed where `flips` is true. */
export function reverseWorldAxes(affine, flips) {
  const signs = [1, ...flips.map((flip) => (flip ? -1 : 1)), 1];
  return affine.map((row, r) => row.map((value) => value * signs[r]));
}

export const voxelCount = (shape) => shape[0] * shape[1] * shape[2];
