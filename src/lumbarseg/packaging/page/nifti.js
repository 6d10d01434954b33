// Read NIfTI-1 and NIfTI-2 images, write label maps with their table: port of io/nifti.py.

import { CONSTANTS, STRUCTURES } from "./anatomy.js";
import { cross, determinant } from "./numpy.js";
import { LumbarsegError, spacingOf } from "./volume.js";

const TYPES = {
  2: ["Uint8", 1], 4: ["Int16", 2], 8: ["Int32", 4], 16: ["Float32", 4], 64: ["Float64", 8], 256: ["Int8", 1],
  512: ["Uint16", 2], 768: ["Uint32", 4], 1024: ["BigInt64", 8], 1280: ["BigUint64", 8],
};
const ARRAY_TYPES = {
  Uint8: Uint8Array, Int16: Int16Array, Int32: Int32Array, Float32: Float32Array, Float64: Float64Array, Int8: Int8Array,
  Uint16: Uint16Array, Uint32: Uint32Array, BigInt64: BigInt64Array, BigUint64: BigUint64Array,
};
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

/** Read decompressed bytes as a float32 volume in the order of the file, with notes on assumptions. */
export function readNifti(bytes, name) {
  const header = parseHeader(bytes, name);
  const { shape, affine, notes } = header;
  const total = shape[0] * shape[1] * shape[2];
  if (total > MAX_VOXELS) {
    throw new LumbarsegError(`${name}: ${shape.join(" x ")} voxels are too many for a browser; use the lumbarseg command`);
  }
  if (header.offset + total * header.size > bytes.length) {
    throw new LumbarsegError(`${name}: truncated: it has fewer voxels than its header claims; copy it again`);
  }
  const array = readVoxels(bytes, header, total);
  if (!array.every(Number.isFinite)) throw new LumbarsegError(`${name}: contains NaN or infinite values; replace them`);
  return { array, shape, strides: [1, shape[0], shape[0] * shape[1]], offset: 0, affine, notes };
}

function parseHeader(bytes, name) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const text = (at) => String.fromCharCode(...bytes.subarray(at, at + 3));
  const version = bytes.length >= 348 && text(344) === "n+1" ? 1 : bytes.length >= 540 && text(4) === "n+2" ? 2 : 0;
  if (!version) {
    throw new LumbarsegError(`${name}: not a NIfTI file; open a .nii or .nii.gz file (the command reads other formats too)`);
  }
  const little = view.getInt32(0, true) === (version === 1 ? 348 : 540);
  const fields = parseFields(view, little, version);
  const dims = fields.dim.slice(1, fields.dim[0] + 1);
  while (dims.length > 3 && dims.at(-1) === 1) dims.pop();
  if (dims.length > 3) throw new LumbarsegError(`${name}: ${dims.length}-D; save one of its volumes as a 3-D file`);
  if (dims.length < 2 || dims.some((n) => n < 1)) {
    throw new LumbarsegError(`${name}: the header declares no voxels; export the image again`);
  }
  const [kind, size] = TYPES[fields.datatype] ?? [];
  if (!kind) throw new LumbarsegError(`${name}: contains colours or values that are not grey levels; convert it`);
  const shape = [...dims, 1, 1].slice(0, 3);
  const { affine, notes } = affineFromHeader(fields, shape, name);
  const offset = Math.max(Math.trunc(fields.offset), version === 1 ? 352 : 544);
  return { ...fields, shape, affine, notes, kind, size, little, offset };
}

/** Return the header fields of NIfTI-1 or NIfTI-2, which differ in offsets and number types. */
function parseFields(view, little, version) {
  const isFirst = version === 1;
  const [datatype, pixdim, scaling, codes, quaternion, origin, rows] = isFirst
    ? [70, 76, 108, 252, 256, 268, 280]
    : [12, 104, 168, 344, 352, 376, 400];
  const size = isFirst ? 4 : 8;
  const float = (at) => (isFirst ? view.getFloat32(at, little) : view.getFloat64(at, little));
  const floats = (at, count) => Array.from({ length: count }, (_, n) => float(at + size * n));
  const long = (at) => Number(view.getBigInt64(at, little));
  const dimension = (_, n) => (isFirst ? view.getInt16(40 + 2 * n, little) : long(16 + 8 * n));
  const code = (at) => (isFirst ? view.getInt16(at, little) : view.getInt32(at, little));
  return {
    dim: Array.from({ length: 8 }, dimension),
    datatype: view.getInt16(datatype, little),
    pixdim: floats(pixdim, 8),
    offset: isFirst ? float(scaling) : long(scaling),
    slope: float(scaling + size),
    intercept: float(scaling + 2 * size),
    codes: [code(codes), code(codes + size / 2)],
    quaternion: floats(quaternion, 3),
    origin: floats(origin, 3),
    rows: [0, 1, 2].map((r) => floats(rows + 4 * size * r, 4)),
  };
}

/** Return the affine to RAS+ from sform, else qform, else spacing, and notes on assumptions. */
function affineFromHeader({ codes, rows, pixdim, quaternion, origin }, shape, name) {
  const last = [0, 0, 0, 1];
  const zooms = pixdim.slice(1, 4);
  const notes = [];
  let affine;
  if (codes[1] > 0) affine = [...rows.map((row) => [...row]), last];
  else if (codes[0] > 0) {
    const rotation = rotationFromQuaternion(quaternion, name);
    const sides = [zooms[0], zooms[1], zooms[2] * (pixdim[0] < 0 ? -1 : 1)];
    affine = [...rotation.map((row, r) => [...row.map((value, c) => value * sides[c]), origin[r]]), last];
  } else {
    const steps = [-zooms[0], zooms[1], zooms[2]];
    const middle = (step, r) => (-step * (shape[r] - 1)) / 2;
    affine = [...steps.map((step, r) => [...[0, 1, 2].map((c) => (c === r ? step : 0)), middle(step, r)]), last];
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
  const empty = [0, 1, 2].filter((axis) => shape[axis] === 1 && lengths[axis] === 0);
  if (empty.length !== 1) return false;
  const axis = empty[0];
  const [a, b] = [1, 2].map((n) => [0, 1, 2].map((r) => affine[r][(axis + n) % 3]));
  const normal = cross(a, b);
  const length = Math.max(Math.hypot(...normal), 1e-12);
  for (const r of [0, 1, 2]) affine[r][axis] = (normal[r] / length) * ASSUMED_THICKNESS;
  return true;
}

/** Return the rows of the direction cosine matrix. */
function directionMatrix(affine) {
  const spacing = spacingOf(affine);
  return [0, 1, 2].map((r) => [0, 1, 2].map((c) => affine[r][c] / spacing[c]));
}

function rotationFromQuaternion([x, y, z], name) {
  const remainder = 1 - x * x - y * y - z * z;
  if (remainder < -4e-7) throw new LumbarsegError(`${name}: the qform is not a rotation; repair or export it again`);
  const w = Math.sqrt(Math.max(remainder, 0));
  const s = 2 / (w * w + x * x + y * y + z * z);
  return [
    [1 - s * (y * y + z * z), s * (x * y - w * z), s * (x * z + w * y)],
    [s * (x * y + w * z), 1 - s * (x * x + z * z), s * (y * z - w * x)],
    [s * (x * z - w * y), s * (y * z + w * x), 1 - s * (x * x + y * y)],
  ];
}

/** Return the voxels as float32, scaled by the header's slope and intercept. */
function readVoxels(bytes, { kind, size, little, offset, slope, intercept }, total) {
  const raw = bytes.slice(offset, offset + total * size);
  if (!little) swapBytes(raw, size);
  const numbers = new ARRAY_TYPES[kind](raw.buffer);
  const isUnscaled = !Number.isFinite(slope) || slope === 0 || (slope === 1 && intercept === 0);
  const out = new Float32Array(total);
  if (isUnscaled && !kind.startsWith("Big")) out.set(numbers);
  else if (isUnscaled) for (let i = 0; i < total; i++) out[i] = Number(numbers[i]);
  else if (size <= 2) {
    // NumPy scales small integers in float32
    const [factor, add] = [Math.fround(slope), Math.fround(intercept)];
    for (let i = 0; i < total; i++) out[i] = Math.fround(numbers[i] * factor) + add;
  } else for (let i = 0; i < total; i++) out[i] = Number(numbers[i]) * slope + intercept;
  return out;
}

/** Reverse the bytes of each number in place. */
function swapBytes(raw, size) {
  for (let at = 0; at < raw.length; at += size) raw.subarray(at, at + size).reverse();
}

/** Return the bytes of a decompressed file with another affine in its header, as sform. */
export function replaceAffine(bytes, affine) {
  const out = bytes.slice();
  const view = new DataView(out.buffer);
  const isFirst = String.fromCharCode(...bytes.subarray(344, 347)) === "n+1";
  const little = view.getInt32(0, true) === (isFirst ? 348 : 540);
  const [code, rows, size] = isFirst ? [252, 280, 4] : [344, 400, 8];
  const setCode = (at, value) => (isFirst ? view.setInt16(at, value, little) : view.setInt32(at, value, little));
  setCode(code, 0); // qform
  setCode(code + size / 2, 1); // sform
  affine.slice(0, 3).flat().forEach((value, n) => {
    const at = rows + size * n;
    if (isFirst) view.setFloat32(at, value, little);
    else view.setFloat64(at, value, little);
  });
  return out;
}

/** Return a label map as the bytes of a .nii file with sform, qform, and names and colours in header extensions. */
export function writeLabels(labels, shape, affine, structures = STRUCTURES) {
  const isPresent = new Uint8Array(256);
  for (const label of labels) isPresent[label] = 1;
  const rows = structures.filter((s) => isPresent[s.label]).sort((a, b) => a.label - b.label);
  const extensions = [caretXml(rows), labelTableJson(rows)].map(headerExtension);
  const offset = 352 + extensions.reduce((n, e) => n + e.length, 0);
  const out = new Uint8Array(offset + labels.length);
  writeHeader(new DataView(out.buffer), out, shape, affine, offset);
  out[348] = 1;
  let at = 352;
  for (const e of extensions) {
    out.set(e, at);
    at += e.length;
  }
  out.set(labels, offset);
  return out;
}

function writeHeader(view, out, shape, affine, offset) {
  const text = (value, at) => out.set(new TextEncoder().encode(value), at);
  const short = (at, value) => view.setInt16(at, value, true);
  const float = (at, value) => view.setFloat32(at, value, true);
  const { quaternion, qfac, sheared } = quaternionFromAffine(affine);
  view.setInt32(0, 348, true);
  out[38] = 114;
  [3, ...shape, 1, 1, 1, 1].forEach((n, i) => short(40 + 2 * i, n));
  short(68, 1002); // intent: label
  short(70, 2); // uint8
  short(72, 8);
  [qfac, ...spacingOf(affine), 1, 1, 1, 1].forEach((n, i) => float(76 + 4 * i, n));
  float(108, offset);
  float(112, 1);
  out[123] = 2; // mm
  text("lumbarseg label map", 148);
  short(252, sheared ? 0 : 1);
  short(254, 1);
  quaternion.forEach((n, i) => float(256 + 4 * i, n));
  [0, 1, 2].forEach((r) => float(268 + 4 * r, affine[r][3]));
  [0, 1, 2].forEach((r) => affine[r].forEach((n, c) => float(280 + 16 * r + 4 * c, n)));
  text("n+1", 344);
}

/** Return the quaternion of an affine, its handedness, and whether the affine is sheared. */
function quaternionFromAffine(affine) {
  const m = directionMatrix(affine);
  const qfac = determinant(m) < 0 ? -1 : 1;
  const dots = [[0, 1], [0, 2], [1, 2]].map(([a, b]) => Math.abs(m.reduce((total, row) => total + row[a] * row[b], 0)));
  for (const row of m) row[2] *= qfac;
  const squares = [
    1 + m[0][0] + m[1][1] + m[2][2],
    1 + m[0][0] - m[1][1] - m[2][2],
    1 - m[0][0] + m[1][1] - m[2][2],
    1 - m[0][0] - m[1][1] + m[2][2],
  ];
  const top = squares.indexOf(Math.max(...squares));
  const s = 2 * Math.sqrt(squares[top]);
  const signs = [m[2][1] - m[1][2], m[0][2] - m[2][0], m[1][0] - m[0][1]];
  const pairs = [m[1][0] + m[0][1], m[2][0] + m[0][2], m[2][1] + m[1][2]];
  let q = [
    [s / 4, signs[0] / s, signs[1] / s, signs[2] / s],
    [signs[0] / s, s / 4, pairs[0] / s, pairs[1] / s],
    [signs[1] / s, pairs[0] / s, s / 4, pairs[2] / s],
    [signs[2] / s, pairs[1] / s, pairs[2] / s, s / 4],
  ][top];
  if (q[0] < 0) q = q.map((value) => -value);
  return { quaternion: q.slice(1), qfac, sheared: Math.max(...dots) > 1e-4 };
}

/** Return a header extension with code 6 (comment), padded to a multiple of 16 bytes. */
function headerExtension(text) {
  const bytes = new TextEncoder().encode(text);
  const out = new Uint8Array(Math.ceil((bytes.length + 8) / 16) * 16);
  const view = new DataView(out.buffer);
  view.setInt32(0, out.length, true);
  view.setInt32(4, 6, true);
  out.set(bytes, 8);
  return out;
}

function caretXml(rows) {
  const labels = rows.map(({ label, name, colour }) => {
    const [red, green, blue] = colour.map((value) => (value / 255).toFixed(4));
    return `<Label Key="${label}" Red="${red}" Green="${green}" Blue="${blue}" Alpha="1"><![CDATA[${name}]]></Label>\n`;
  });
  return (
    '<?xml version="1.0" encoding="UTF-8"?>\n<CaretExtension><VolumeInformation Index="0">\n' +
    `<LabelTable>\n${labels.join("")}</LabelTable>\n` +
    "<VolumeType><![CDATA[Label]]></VolumeType></VolumeInformation></CaretExtension>\n"
  );
}

function labelTableJson(rows) {
  const entry = ({ label, name, kind, colour, code }) => ({ value: label, name, kind, colour, SCT: code });
  return JSON.stringify({ labels: rows.map(entry) });
}
