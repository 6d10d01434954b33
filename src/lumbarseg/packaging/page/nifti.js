// NIfTI-1 and -2 in, a label map with its table out: files/nifti.py in JavaScript.

import { CONSTANTS, STRUCTURES } from "./anatomy.js";
import { Refusal, spacingOf } from "./volume.js";

const TYPES = {
  2: ["Uint8", 1], 4: ["Int16", 2], 8: ["Int32", 4], 16: ["Float32", 4], 64: ["Float64", 8], 256: ["Int8", 1],
  512: ["Uint16", 2], 768: ["Uint32", 4], 1024: ["BigInt64", 8], 1280: ["BigUint64", 8],
};
const KINDS = {
  Uint8: Uint8Array, Int16: Int16Array, Int32: Int32Array, Float32: Float32Array, Float64: Float64Array, Int8: Int8Array,
  Uint16: Uint16Array, Uint32: Uint32Array, BigInt64: BigInt64Array, BigUint64: BigUint64Array,
};
const MOST = 2 ** 29; // voxels
const { ASSUMED_THICKNESS, FINEST_SPACING, LARGEST_EXTENT } = CONSTANTS.raw_image;

/** The bytes of a file, unpacked when they are gzipped. */
export async function unpacked(bytes, name) {
  if (!(bytes[0] === 0x1f && bytes[1] === 0x8b)) return bytes;
  try {
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  } catch {
    throw new Refusal(`${name}: truncated or damaged gzip file; copy or export it again`);
  }
}

/** A volume of float32 in the file's own order, with notes on how it was read. bytes: unpacked. */
export function read(bytes, name) {
  const head = headerOf(bytes, name);
  const { shape, affine, notes } = head;
  const total = shape[0] * shape[1] * shape[2];
  if (total > MOST) throw new Refusal(`${name}: ${shape.join(" x ")} voxels are too many for a browser; use the command`);
  if (head.offset + total * head.size > bytes.length) {
    throw new Refusal(`${name}: truncated: its header claims more voxels than the file holds; copy or export it again`);
  }
  const array = voxels(bytes, head, total);
  if (!array.every(Number.isFinite)) throw new Refusal(`${name}: holds NaN or infinite values; replace them`);
  return { array, shape, strides: [1, shape[0], shape[0] * shape[1]], offset: 0, affine, notes };
}

function headerOf(bytes, name) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const text = (at) => String.fromCharCode(...bytes.subarray(at, at + 3));
  const version = bytes.length >= 348 && text(344) === "n+1" ? 1 : bytes.length >= 540 && text(4) === "n+2" ? 2 : 0;
  if (!version) {
    throw new Refusal(`${name}: no NIfTI file inside; give a .nii or .nii.gz (the command reads other formats too)`);
  }
  const little = view.getInt32(0, true) === (version === 1 ? 348 : 540);
  const fields = version === 1 ? first(view, little) : second(view, little);
  const dims = fields.dim.slice(1, fields.dim[0] + 1);
  while (dims.length > 3 && dims.at(-1) === 1) dims.pop();
  if (dims.length > 3) throw new Refusal(`${name}: ${dims.length}-D; save one of its volumes as a 3-D file`);
  if (dims.length < 2 || dims.some((n) => n < 1)) throw new Refusal(`${name}: its header names no voxels; export it again`);
  const [kind, size] = TYPES[fields.datatype] ?? [];
  if (!kind) throw new Refusal(`${name}: holds colours or numbers that are no grey values; convert it`);
  const shape = [...dims, 1, 1].slice(0, 3);
  const { affine, notes } = placeOf(fields, shape, name);
  const offset = Math.max(Math.trunc(fields.offset), version === 1 ? 352 : 544);
  return { ...fields, shape, affine, notes, kind, size, little, offset };
}

function first(view, little) {
  const real = (at) => view.getFloat32(at, little);
  const row = (at, n) => Array.from({ length: n }, (_, i) => real(at + 4 * i));
  return {
    dim: Array.from({ length: 8 }, (_, i) => view.getInt16(40 + 2 * i, little)),
    datatype: view.getInt16(70, little),
    pixdim: row(76, 8),
    offset: real(108),
    slope: real(112),
    intercept: real(116),
    codes: [view.getInt16(252, little), view.getInt16(254, little)],
    quaternion: row(256, 3),
    origin: row(268, 3),
    rows: [row(280, 4), row(296, 4), row(312, 4)],
  };
}

function second(view, little) {
  const real = (at) => view.getFloat64(at, little);
  const row = (at, n) => Array.from({ length: n }, (_, i) => real(at + 8 * i));
  const long = (at) => Number(view.getBigInt64(at, little));
  return {
    dim: Array.from({ length: 8 }, (_, i) => long(16 + 8 * i)),
    datatype: view.getInt16(12, little),
    pixdim: row(104, 8),
    offset: long(168),
    slope: real(176),
    intercept: real(184),
    codes: [view.getInt32(344, little), view.getInt32(348, little)],
    quaternion: row(352, 3),
    origin: row(376, 3),
    rows: [row(400, 4), row(432, 4), row(464, 4)],
  };
}

/** The affine to RAS+, sform before qform before plain spacing, and what is odd about it. */
function placeOf({ codes, rows, pixdim, quaternion, origin }, shape, name) {
  const last = [0, 0, 0, 1];
  const zooms = pixdim.slice(1, 4);
  const notes = [];
  let affine;
  if (codes[1] > 0) affine = [...rows.map((row) => [...row]), last];
  else if (codes[0] > 0) {
    const turn = rotation(quaternion, name);
    const sides = [zooms[0], zooms[1], zooms[2] * (pixdim[0] < 0 ? -1 : 1)];
    affine = [...turn.map((row, r) => [...row.map((value, c) => value * sides[c]), origin[r]]), last];
  } else {
    const steps = [-zooms[0], zooms[1], zooms[2]];
    const middle = (step, r) => (-step * (shape[r] - 1)) / 2;
    affine = [...steps.map((step, r) => [...[0, 1, 2].map((c) => (c === r ? step : 0)), middle(step, r)]), last];
    notes.push("no orientation in its header: axes assumed to point left, anterior and up");
  }
  if (thickened(affine, shape)) {
    notes.push(`one slice without a thickness in its header: ${ASSUMED_THICKNESS} mm assumed`);
  }
  if (!(Math.abs(determinant(directions(affine))) >= 1e-3)) {
    throw new Refusal(`${name}: its header gives voxels without a place; repair it, or export it again`);
  }
  const spacing = spacingOf(affine);
  if (Math.min(...spacing) < FINEST_SPACING || Math.max(...spacing.map((s, axis) => s * shape[axis])) > LARGEST_EXTENT) {
    throw new Refusal(`${name}: its voxels cannot be those of an exam of a person; repair the spacing in its header`);
  }
  return { affine, notes };
}

/** Makes an axis of one voxel that has no length as long as is assumed, upright on the others; whether there was one. */
function thickened(affine, shape) {
  const lengths = spacingOf(affine);
  const empty = [0, 1, 2].filter((axis) => shape[axis] === 1 && lengths[axis] === 0);
  if (empty.length !== 1) return false;
  const axis = empty[0];
  const [a, b] = [1, 2].map((n) => [0, 1, 2].map((r) => affine[r][(axis + n) % 3]));
  const normal = [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
  const length = Math.max(Math.hypot(...normal), 1e-12);
  for (const r of [0, 1, 2]) affine[r][axis] = (normal[r] / length) * ASSUMED_THICKNESS;
  return true;
}

/** Rows of the matrix whose columns are the directions of the axes. */
function directions(affine) {
  const spacing = spacingOf(affine);
  return [0, 1, 2].map((r) => [0, 1, 2].map((c) => affine[r][c] / spacing[c]));
}

function determinant([a, b, c]) {
  return a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0]) + a[2] * (b[0] * c[1] - b[1] * c[0]);
}

function rotation([x, y, z], name) {
  const rest = 1 - x * x - y * y - z * z;
  if (rest < -4e-7) throw new Refusal(`${name}: its qform is no rotation; repair its header, or export it again`);
  const w = Math.sqrt(Math.max(rest, 0));
  const s = 2 / (w * w + x * x + y * y + z * z);
  return [
    [1 - s * (y * y + z * z), s * (x * y - w * z), s * (x * z + w * y)],
    [s * (x * y + w * z), 1 - s * (x * x + z * z), s * (y * z - w * x)],
    [s * (x * z - w * y), s * (y * z + w * x), 1 - s * (x * x + y * y)],
  ];
}

/** The numbers with the header's slope and intercept, as float32. */
function voxels(bytes, { kind, size, little, offset, slope, intercept }, total) {
  const raw = bytes.slice(offset, offset + total * size);
  if (!little) swap(raw, size);
  const numbers = new KINDS[kind](raw.buffer);
  const plain = !Number.isFinite(slope) || slope === 0 || (slope === 1 && intercept === 0);
  const out = new Float32Array(total);
  if (plain && !kind.startsWith("Big")) out.set(numbers);
  else if (plain) for (let i = 0; i < total; i++) out[i] = Number(numbers[i]);
  else if (size <= 2) {
    // NumPy scales small whole numbers in float32
    const [factor, add] = [Math.fround(slope), Math.fround(intercept)];
    for (let i = 0; i < total; i++) out[i] = Math.fround(numbers[i] * factor) + add;
  } else for (let i = 0; i < total; i++) out[i] = Number(numbers[i]) * slope + intercept;
  return out;
}

/** The bytes of each number the other way round, in place. */
function swap(raw, size) {
  for (let at = 0; at < raw.length; at += size) raw.subarray(at, at + size).reverse();
}

/** A label map as the bytes of a .nii file: sform and qform at the same place, names and colours in the header. */
export function write(labels, shape, affine, base = STRUCTURES) {
  const seen = new Uint8Array(256);
  for (const label of labels) seen[label] = 1;
  const rows = base.filter((s) => seen[s.label]).sort((a, b) => a.label - b.label);
  const extensions = [caret(rows), json(rows)].map(extension);
  const offset = 352 + extensions.reduce((n, e) => n + e.length, 0);
  const out = new Uint8Array(offset + labels.length);
  header(new DataView(out.buffer), out, shape, affine, offset);
  out[348] = 1;
  let at = 352;
  for (const e of extensions) {
    out.set(e, at);
    at += e.length;
  }
  out.set(labels, offset);
  return out;
}

function header(view, out, shape, affine, offset) {
  const text = (value, at) => out.set(new TextEncoder().encode(value), at);
  const short = (at, value) => view.setInt16(at, value, true);
  const real = (at, value) => view.setFloat32(at, value, true);
  const { quaternion, qfac, sheared } = upright(affine);
  view.setInt32(0, 348, true);
  out[38] = 114;
  [3, ...shape, 1, 1, 1, 1].forEach((n, i) => short(40 + 2 * i, n));
  short(68, 1002); // intent: label
  short(70, 2); // uint8
  short(72, 8);
  [qfac, ...spacingOf(affine), 1, 1, 1, 1].forEach((n, i) => real(76 + 4 * i, n));
  real(108, offset);
  real(112, 1);
  out[123] = 2; // mm
  text("lumbarseg label map", 148);
  short(252, sheared ? 0 : 1);
  short(254, 1);
  quaternion.forEach((n, i) => real(256 + 4 * i, n));
  [0, 1, 2].forEach((r) => real(268 + 4 * r, affine[r][3]));
  [0, 1, 2].forEach((r) => affine[r].forEach((n, c) => real(280 + 16 * r + 4 * c, n)));
  text("n+1", 344);
}

/** The quaternion of an affine's rotation, its handedness, and whether it is none but for a shear. */
function upright(affine) {
  const m = directions(affine);
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

/** A header extension, code 6 (comment): a multiple of 16 bytes. */
function extension(text) {
  const bytes = new TextEncoder().encode(text);
  const out = new Uint8Array(Math.ceil((bytes.length + 8) / 16) * 16);
  const view = new DataView(out.buffer);
  view.setInt32(0, out.length, true);
  view.setInt32(4, 6, true);
  out.set(bytes, 8);
  return out;
}

function caret(rows) {
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

function json(rows) {
  const told = ({ label, name, kind, colour, code }) => ({ value: label, name, kind, colour, SCT: code });
  return JSON.stringify({ labels: rows.map(told) });
}
