// Voxels and planes of a labelled spine, for measuring: port of measurement/geometry.py.

import { max } from "d3-array";
import { CONSTANTS, STRUCTURES } from "./anatomy.js";
import { clamp, cross, roundEven, unit } from "./numpy.js";
import { toContiguous, reorient } from "./resampling.js";
import { forEachInBox, forEachVoxel, regionsOf, reverseWorldAxes, spacingOf, voxelToWorld } from "./volume.js";

const { SLAB, MARGIN, MIN_BORDER_FRACTION } = CONSTANTS.geometry;
const scaled = (a, factor) => a.map((value) => value * factor);
const dot = (a, b) => a.reduce((total, value, n) => total + value * b[n], 0);

/** Labels in RAS order and their regions. matrix (2, 3) and base: from voxels to [anterior, superior] in mm. */
export class SpineGeometry {
  constructor(volume, flips) {
    const canonical = reorient({ ...volume, affine: reverseWorldAxes(volume.affine, flips) }, "RAS");
    this.array = toContiguous(canonical);
    this.shape = canonical.shape;
    this.affine = canonical.affine;
    this.spacing = spacingOf(canonical.affine);
    const steps = [0, 1, 2].map((c) => [0, 1, 2].map((r) => canonical.affine[r][c]));
    const normal = unit(cross(steps[1], steps[2]));
    const up = unit([0, 1, 2].map((r) => (r === 2 ? 1 : 0) - normal[r] * normal[2]));
    const anterior = cross(up, normal);
    const axes = [scaled(anterior, Math.sign(anterior[1])), up];
    this.matrix = axes.map((axis) => steps.map((step) => dot(axis, step)));
    this.base = axes.map((axis) => dot(axis, [0, 1, 2].map((r) => canonical.affine[r][3])));
    const regions = regionsOf(this.array, this.shape);
    this.regions = STRUCTURES.filter((s) => regions[s.label]).map((s) => this.makeRegion(s, regions[s.label]));
  }

  /** Return a structure with its box, voxel count, middle slice, centre [anterior, superior] and
   * position in RAS+, mm. */
  makeRegion(structure, { count, sums, box }) {
    const voxel = sums.map((total) => total / count);
    const centre = this.matrix.map((row, r) => dot(row, voxel) + this.base[r]);
    return { structure, box, count, middle: voxel[0], centre, position: voxelToWorld(this.affine, voxel) };
  }

  /** Return the slices that form the sagittal plane of a region, [start, stop]. */
  planeSlices(region) {
    const reach = Math.max(0, Math.trunc(SLAB / this.spacing[0]));
    const middle = clamp(roundEven(region.middle), region.box[0][0], region.box[0][1] - 1);
    return [Math.max(0, middle - reach), Math.min(this.shape[0], middle + reach + 1)];
  }

  /** Return whether a region ends before the border of the exam, in its plane. */
  isComplete(region) {
    const { data, rows, columns, low } = this.occupancyPlane(region, region);
    const widths = [new Float64Array(this.shape[1]), new Float64Array(this.shape[2])];
    forEachVoxel([1, rows, columns], (at, _, row, column) => {
      widths[0][low[0] + row] += data[at];
      widths[1][low[1] + column] += data[at];
    });
    return widths.every((width, n) => {
      const edge = 1 + Math.trunc(MARGIN / this.spacing[n + 1]);
      return Math.max(max(width.slice(0, edge)), max(width.slice(-edge))) < MIN_BORDER_FRACTION * max(width) || !max(width);
    });
  }

  /** Sample `region` in the plane of `at` at points (x, y) of a frame around `centre` that leans forward by `lean`. */
  samplePlane(region, at, centre, lean, x, y) {
    const mask = this.occupancyPlane(region, at);
    const [[, a, b], [, c, d]] = this.matrix;
    const det = a * d - b * c;
    const [cos, sin] = [Math.cos(lean), Math.sin(lean)];
    const inverse = (v) => [(d * v[0] - b * v[1]) / det, (a * v[1] - c * v[0]) / det];
    const middle = roundEven(at.middle);
    const origin = inverse(centre.map((value, r) => value - this.base[r] - this.matrix[r][0] * middle));
    const start = [origin[0] - mask.low[0], origin[1] - mask.low[1]];
    const [alongX, alongY] = [inverse([cos, -sin]), inverse([sin, cos])];
    const out = new Uint8Array(x.length * y.length);
    for (let m = 0, to = 0; m < x.length; m++) {
      for (let n = 0; n < y.length; n++, to++) {
        const row = start[0] + alongX[0] * x[m] + alongY[0] * y[n];
        const column = start[1] + alongX[1] * x[m] + alongY[1] * y[n];
        out[to] = bilinear(mask, row, column) >= 0.5 ? 1 : 0;
      }
    }
    return out;
  }

  /** Return the share of slices in which each pixel belongs to a region, with an empty border. */
  occupancyPlane(region, at) {
    const [first, last] = this.planeSlices(at);
    const [[j0, j1], [k0, k1]] = region.box.slice(1);
    const [rows, columns] = [j1 - j0 + 2, k1 - k0 + 2];
    const data = new Float32Array(rows * columns);
    forEachInBox([[first, last], [j0, j1], [k0, k1]], this.shape, (voxel, _, j, k) => {
      if (this.array[voxel] === region.structure.label) data[(j - j0 + 1) * columns + k - k0 + 1]++;
    });
    for (let n = 0; n < data.length; n++) data[n] /= last - first;
    return { data, rows, columns, low: [j0 - 1, k0 - 1] };
  }
}

/** Interpolate a plane bilinearly; 0 outside. */
function bilinear({ data, rows, columns }, row, column) {
  if (row < 0 || column < 0 || row > rows - 1 || column > columns - 1) return 0;
  const [r, c] = [Math.min(Math.floor(row), rows - 2), Math.min(Math.floor(column), columns - 2)];
  const [u, v] = [row - r, column - c];
  const at = r * columns + c;
  const upper = data[at] * (1 - v) + data[at + 1] * v;
  return Math.fround(upper * (1 - u) + (data[at + columns] * (1 - v) + data[at + columns + 1] * v) * u);
}
