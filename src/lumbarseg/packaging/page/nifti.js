// Read NIfTI-1 and NIfTI-2 images, write exams, and label maps with their table: port of io/nifti.py.

import { quat } from "gl-matrix";
import { isNIFTI1, isNIFTI2, NIFTI1, NIFTI2, NIFTIEXTENSION } from "nifti-reader-js";
import { CARET, CONSTANTS, STRUCTURES } from "./anatomy.js";
import { cross, determinant, unit } from "./numpy.js";
import { LumbarsegError, spacingOf, voxelCount } from "./volume.js";

const ARRAY_TYPES = {
  2: Uint8Array, 4: Int16Array, 8: Int32Array, 16: Float32Array, 64: Float64Array, 256: Int8Array, 512: Uint16Array,
  768: Uint32Array, 1024: BigInt64Array, 1280: BigUint64Array,
};
const VERSIONS = [
  { test: isNIFTI1, Header: NIFTI1, size: 348, offset: 352, qformCode: [252, 254] },
  { test: isNIFTI2, Header: NIFTI2, size: 540, offset: 544, qformCode: [344, 348] },
];
const LABEL_INTENT = 1002;
const MAX_VOXELS = 2 ** 29;
const { ASSUMED_THICKNESS, FINEST_SPACING, LARGEST_EXTENT } = CONSTANTS.raw_image;

/** Return the bytes of a file, decompressed if they are gzip data. */
export async function decompress(bytes, name) {
  if (!(bytes[0] === 0x1f && bytes[1] === 0x8b)) return bytes;
  try {
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  } catch {
    throw new LumbarsegError(`${name}: truncated or damaged gzip file; copy or export it again`);
  }
}

const versionOf = (bytes) => VERSIONS.find(({ test, size }) => bytes.length >= size && test(bytes.slice(0, size).buffer));

/** Return whether decompressed bytes are a NIfTI file. */
export const isNifti = (bytes) => versionOf(bytes) !== undefined;

/** Read decompressed bytes as a float32 volume in the order of the file, with notes on assumptions. */
export function readNifti(bytes, name) {
  const header = readHeader(bytes, name);
  const { shape, affine, notes, ArrayType, offset } = header;
  const total = voxelCount(shape);
  if (total > MAX_VOXELS) {
    throw new LumbarsegError(`${name}: ${shape.join(" x ")} voxels are too many for a browser; use the lumbarseg command`);
  }
  if (offset + total * ArrayType.BYTES_PER_ELEMENT > bytes.length) {
    throw new LumbarsegError(`${name}: truncated: it has fewer voxels than its header claims; copy it again`);
  }
  const array = readVoxels(bytes, header, total);
  if (!array.every(Number.isFinite)) throw new LumbarsegError(`${name}: contains NaN or infinite values; replace them`);
  return { array, shape, strides: [1, shape[0], shape[0] * shape[1]], offset: 0, affine, notes };
}

function readHeader(bytes, name) {
  const version = versionOf(bytes);
  if (!version) throw new LumbarsegError(`${name}: not a NIfTI file; export it again (the command reads other formats too)`);
  const head = bytes.slice(0, version.size);
  const header = new version.Header();
  header.readHeader(head.buffer);
  if (header.sform_code > 0 && header.qform_code > 0) {
    header.readHeader(head.fill(0, ...version.qformCode).buffer); // the sform counts, whatever the code of the qform
  }
  const dims = header.dims.slice(1, header.dims[0] + 1);
  while (dims.length > 3 && dims.at(-1) === 1) dims.pop();
  if (dims.length > 3) throw new LumbarsegError(`${name}: ${dims.length}-D; save one of its volumes as a 3-D file`);
  if (dims.length < 2 || dims.some((n) => n < 1)) {
    throw new LumbarsegError(`${name}: the header declares no voxels; export the image again`);
  }
  const ArrayType = ARRAY_TYPES[header.datatypeCode];
  if (!ArrayType) throw new LumbarsegError(`${name}: contains colours or values that are not grey levels; convert it`);
  const shape = [...dims, 1, 1].slice(0, 3);
  const offset = Math.max(Math.trunc(header.vox_offset), version.offset);
  const { littleEndian, scl_slope: slope, scl_inter: intercept } = header;
  return { ...affineFromHeader(header, shape, name), shape, ArrayType, offset, littleEndian, slope, intercept };
}

/** Return the affine to RAS+ from sform, else qform, else spacing, and notes on assumptions. */
function affineFromHeader(header, shape, name) {
  const notes = [];
  let { affine } = header;
  if (!(header.sform_code > 0) && header.qform_code > 0) affine = header.getQformMat();
  else if (!(header.sform_code > 0)) {
    const steps = [-header.pixDims[1], header.pixDims[2], header.pixDims[3]];
    const middle = (step, r) => (-step * (shape[r] - 1)) / 2;
    const rows = steps.map((step, r) => [...[0, 1, 2].map((c) => (c === r ? step : 0)), middle(step, r)]);
    affine = [...rows, [0, 0, 0, 1]];
    notes.push("no orientation in the header: axes are assumed to point left, anterior and superior");
  }
  if (fillMissingThickness(affine, shape)) {
    notes.push(`one slice without thickness in the header: ${ASSUMED_THICKNESS} mm assumed`);
  }
  if (!(Math.abs(determinant(directionMatrix(affine))) >= 1e-3)) {
    throw new LumbarsegError(`${name}: the header defines no valid geometry; repair it, or export the image again`);
  }
  const spacing = spacingOf(affine);
  if (Math.min(...spacing) < FINEST_SPACING || Math.max(...spacing.map((s, axis) => s * shape[axis])) > LARGEST_EXTENT) {
    throw new LumbarsegError(`${name}: the voxel size does not fit an exam of a person; repair the spacing in the header`);
  }
  return { affine, notes };
}

/** Set a missing thickness of a single slice, perpendicular to the other axes; returns whether it was missing. */
function fillMissingThickness(affine, shape) {
  const lengths = spacingOf(affine);
  const [axis, ...others] = [0, 1, 2].filter((n) => shape[n] === 1 && lengths[n] === 0);
  if (axis === undefined || others.length) return false;
  const normal = unit(cross(...[1, 2].map((n) => [0, 1, 2].map((r) => affine[r][(axis + n) % 3]))));
  for (const r of [0, 1, 2]) affine[r][axis] = normal[r] * ASSUMED_THICKNESS;
  return true;
}

/** Return the rows of the direction cosine matrix. */
function directionMatrix(affine) {
  const spacing = spacingOf(affine);
  return [0, 1, 2].map((r) => [0, 1, 2].map((c) => affine[r][c] / spacing[c]));
}

/** Return the voxels as float32, scaled by the header's slope and intercept. */
function readVoxels(bytes, { ArrayType, littleEndian, offset, slope, intercept }, total) {
  const size = ArrayType.BYTES_PER_ELEMENT;
  const raw = bytes.slice(offset, offset + total * size);
  if (!littleEndian) for (let at = 0; at < raw.length; at += size) raw.subarray(at, at + size).reverse();
  const numbers = new ArrayType(raw.buffer);
  const isUnscaled = !Number.isFinite(slope) || slope === 0 || (slope === 1 && intercept === 0);
  if (isUnscaled) return typeof numbers[0] === "bigint" ? Float32Array.from(numbers, Number) : new Float32Array(numbers);
  if (size > 2) return Float32Array.from(numbers, (value) => Number(value) * slope + intercept);
  const [factor, add] = [Math.fround(slope), Math.fround(intercept)]; // NumPy scales small integers in float32
  return Float32Array.from(numbers, (value) => Math.fround(value * factor) + add);
}

const labelTable = (rows) =>
  JSON.stringify({ labels: rows.map(({ label: value, code: SCT, name, kind, colour }) => ({ value, name, kind, colour, SCT })) });

/** Return a label map as the bytes of a .nii file with sform, qform, and names and colours in header extensions. */
export function writeLabels(labels, shape, affine, structures = STRUCTURES) {
  const present = new Set(labels);
  const rows = structures.filter((s) => present.has(s.label)).sort((a, b) => a.label - b.label);
  const fields = { intent_code: LABEL_INTENT, description: "lumbarseg label map" };
  return writeNifti(labels, shape, affine, fields, [[CARET.head, ...rows.map(({ label }) => CARET.labels[label]), CARET.tail].join(""), labelTable(rows)]);
}

/** Return the bytes of a .nii file. array: uint8 or float32; fields: of the header; texts: of comment extensions. */
export function writeNifti(array, shape, affine, fields = {}, texts = []) {
  const { quaternion, qfac, isSheared } = quaternionFromAffine(affine);
  const [quatern_b, quatern_c, quatern_d] = quaternion;
  const header = Object.assign(new NIFTI1(), {
    littleEndian: true, dims: [3, ...shape, 1, 1, 1, 1], datatypeCode: array instanceof Uint8Array ? 2 : 16,
    numBitsPerVoxel: 8 * array.BYTES_PER_ELEMENT, pixDims: [qfac, ...spacingOf(affine), 1, 1, 1, 1], vox_offset: 352,
    xyzt_units: NIFTI1.UNITS_MM, qform_code: isSheared ? 0 : 1, sform_code: 1, quatern_b, quatern_c, quatern_d,
    qoffset_x: affine[0][3], qoffset_y: affine[1][3], qoffset_z: affine[2][3], affine, magic: "n+1", ...fields,
  });
  for (const text of texts) header.addExtension(commentExtension(text));
  const voxels = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  const out = new Uint8Array(header.vox_offset + voxels.length);
  out.set(new Uint8Array(header.toArrayBuffer(texts.length > 0)));
  out.set(voxels, header.vox_offset);
  return out;
}

/** Return the quaternion [b, c, d] of an affine, its handedness, and whether the affine is sheared. */
function quaternionFromAffine(affine) {
  const m = directionMatrix(affine);
  const qfac = determinant(m) < 0 ? -1 : 1;
  const dots = [[0, 1], [0, 2], [1, 2]].map(([a, b]) => Math.abs(m.reduce((total, row) => total + row[a] * row[b], 0)));
  const columns = [0, 1, 2].flatMap((c) => m.map((row) => row[c] * (c === 2 ? qfac : 1)));
  const [b, c, d, a] = quat.normalize(quat.create(), quat.fromMat3(quat.create(), columns));
  return { quaternion: [b, c, d].map((value) => (a < 0 ? -value : value)), qfac, isSheared: Math.max(...dots) > 1e-4 };
}

/** Return a header extension with code 6 (comment), padded to a multiple of 16 bytes. */
function commentExtension(text) {
  const bytes = new TextEncoder().encode(text);
  return new NIFTIEXTENSION(Math.ceil((bytes.length + 8) / 16) * 16, 6, bytes, true);
}
