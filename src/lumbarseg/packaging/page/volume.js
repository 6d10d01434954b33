// Where voxels are. A volume is {array, shape, strides, offset, affine}: element (i, j, k) is
// array[offset + i strides[0] + j strides[1] + k strides[2]]; affine, nested lists, takes (i, j, k, 1) to RAS+ mm.

const LETTERS = ["LR", "PA", "IS"];
const PERMUTATIONS = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

/** What is wrong with a file or an exam, in one line for a person. */
export class Refusal extends Error {}

/** Distance of neighbouring voxel centres along each axis, mm. */
export function spacingOf(affine) {
  return [0, 1, 2].map((c) => Math.sqrt(affine[0][c] ** 2 + affine[1][c] ** 2 + affine[2][c] ** 2));
}

/** Where each axis points, nearest anatomical direction: "RAS", "LPS", ... */
export function axesOf(affine) {
  const spacing = spacingOf(affine);
  const cosine = (world, axis) => affine[world][axis] / spacing[axis];
  let best = null;
  let most = -Infinity;
  for (const p of PERMUTATIONS) {
    const fit = Math.abs(cosine(p[0], 0)) + Math.abs(cosine(p[1], 1)) + Math.abs(cosine(p[2], 2));
    if (fit > most) [best, most] = [p, fit];
  }
  return best.map((world, axis) => LETTERS[world][cosine(world, axis) > 0 ? 1 : 0]).join("");
}

/** The place of a voxel, RAS+ mm. */
export function toWorld(affine, index) {
  return [0, 1, 2].map((r) => affine[r][0] * index[0] + affine[r][1] * index[1] + affine[r][2] * index[2] + affine[r][3]);
}

export const count = (shape) => shape[0] * shape[1] * shape[2];

/** A volume whose voxels lie in C order. */
export function contiguous(array, shape, affine) {
  return { array, shape, strides: [shape[1] * shape[2], shape[2], 1], offset: 0, affine };
}
