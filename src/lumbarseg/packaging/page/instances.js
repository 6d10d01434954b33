// Tissue classes taken apart into single bodies, discs and posterior elements: segment/instances.py in JavaScript.

import { CONSTANTS } from "./anatomy.js";
import { ARCH, BODY, CANAL, Column, DISC, REACH, SACRUM, trace, where } from "./column.js";
import { below, cuts } from "./cuts.js";
import { label, maximumFilter } from "./ndimage.js";
import { argmax, clamp, interp, maximum, median, nearest } from "./numpy.js";
import { isSacral } from "./sacral.js";

const { WHOLE_COMPONENT_SHARE: WHOLE, MIN_VOLUME_SHARE: SLIVER, CERTAIN_VOLUME_SHARE: BODILY, CLUSTER_GAP: APART, CANAL_RANGE: BEHIND, MIDLINE, PEDICLE_DISTANCE: PEDICLE, DROP_PER_MM: HANG } = CONSTANTS.instances;

/** A class map (slices, A, S) taken apart: {count, bodies, discs, arches, sacrum, canal, column, at, bodyless}, maps of
 * numbers from 1 for the lowest; disc n lies below body n. null when it shows no column. */
export function split(classes, shape, spacing) {
  const box = boxOf(classes, shape); // the spine is half of the field or less, and all below takes time with it
  if (!box) return null;
  const found = splitField(cut(classes, shape, box), [shape[0], ...box.size], spacing);
  if (!found) return null;
  for (const part of ["bodies", "discs", "arches", "sacrum", "canal"]) found[part] = back(found[part], shape, box);
  const shift = [0, box.first[0] * spacing[1], box.first[1] * spacing[2]];
  const { points, at } = found.column;
  return { ...found, column: new Column(points.map((p) => p.map((value, axis) => value + shift[axis])), at), shape };
}

/** Where a class map is not background, in plane: {first, size}, each [A, S]; null when it is nowhere. */
function boxOf(classes, [I, A, S]) {
  const [low, high] = [[A, S], [-1, -1]];
  for (let i = 0, at = 0; i < I; i++) {
    for (let a = 0; a < A; a++) {
      for (let s = 0; s < S; s++, at++) {
        if (!classes[at]) continue;
        [low[0], high[0]] = [Math.min(low[0], a), Math.max(high[0], a)];
        [low[1], high[1]] = [Math.min(low[1], s), Math.max(high[1], s)];
      }
    }
  }
  return high[0] < 0 ? null : { first: low, size: high.map((place, axis) => place - low[axis] + 1) };
}

/** For each row of a box: its place in the whole map, then in the box. */
function* rows([I, A, S], { first, size }) {
  for (let i = 0, there = 0; i < I; i++) {
    for (let a = 0; a < size[0]; a++, there += size[1]) yield [(i * A + first[0] + a) * S + first[1], there];
  }
}

function cut(map, shape, box) {
  const out = new map.constructor(shape[0] * box.size[0] * box.size[1]);
  for (const [here, there] of rows(shape, box)) out.set(map.subarray(here, here + box.size[1]), there);
  return out;
}

function back(part, shape, box) {
  const out = new part.constructor(shape[0] * shape[1] * shape[2]);
  for (const [here, there] of rows(shape, box)) out.set(part.subarray(there, there + box.size[1]), here);
  return out;
}

/** The same, of all the field there is. */
function splitField(classes, shape, spacing) {
  const column = trace(classes, shape, spacing);
  if (!column) return null;
  const voxels = where(classes, (c) => c === BODY || c === DISC || c === SACRUM);
  const kinds = Uint8Array.from(voxels, (at) => classes[at]);
  const places = column.place(voxels, shape, spacing);
  const { segments, planes } = withoutSlivers(places, kinds, cuts(places, kinds, shape[0] > 4));
  let [low, high] = occupied(segments, kinds, places);
  if (high < low) return null;
  const near = (kind) => (v) => kinds[v] === kind && places.away[v] < REACH;
  const between = wholePieces(painted(classes.length, voxels, segments.map((s) => s + 1), near(BODY)), shape);
  let seen = new Uint8Array(classes.length);
  if (planes.length) {
    const at = planes.map((plane) => plane.at);
    const mine = Int32Array.from(places.along, (along) => nearest(at, along) + 1);
    seen = wholePieces(painted(classes.length, voxels, mine, near(DISC)), shape);
  }
  const bones = classes.map((c) => (c === SACRUM ? 1 : 0));
  let [bodies, discs] = numbered(between, seen, low, high);
  const sacral = high - low > 1 && isSacral(bodies, discs, bones, shape, spacing);
  if (sacral) [bodies, discs] = numbered(between, seen, ++low, high);
  const count = high - low + 1;
  const at = middles(bodies, count, column, shape, spacing);
  const arches = archesOf(classes.map((c) => (c === ARCH ? 1 : 0)), at, column, shape, spacing);
  const mass = bones.map((bone, v) => (bone || (between[v] > 0 && between[v] <= low) ? 1 : 0));
  const sacrum = connected(mass, centres(bodies, 1, shape)[0], shape, spacing);
  const canal = behind(classes.map((c) => (c === CANAL ? 1 : 0)), column, shape, spacing);
  return { count, bodies, discs, arches, sacrum, canal, column, at, bodyless: false, sacral };
}

/** Bodies and discs numbered from the segment `low` upward. between: segment + 1; seen: disc + 1. */
function numbered(between, seen, low, high) {
  const bodies = between.map((n) => (n > low && n <= high + 1 ? n - low : 0));
  return [bodies, seen.map((n) => (n > 0 ? clamp(n - low + 1, 0, high - low + 2) : 0))];
}

/** What names are counted along. */
export const counted = (found) => (found.bodyless ? found.discs : found.bodies);

export function painted(size, voxels, numbers, chosen) {
  const out = new Uint8Array(size);
  for (let v = 0; v < voxels.length; v++) if (chosen(v)) out[voxels[v]] = numbers[v];
  return out;
}

/** The segment of each voxel; of two planes with next to nothing between, one is given up. */
function withoutSlivers(places, kinds, planes) {
  for (;;) {
    const segments = new Uint8Array(kinds.length);
    for (const plane of planes) for (let v = 0; v < kinds.length; v++) if (below(plane, places, v)) segments[v]++;
    const volumes = new Array(planes.length + 1).fill(0);
    for (let v = 0; v < kinds.length; v++) if (kinds[v] === BODY && places.away[v] < REACH) volumes[segments[v]]++;
    const some = volumes.filter((n) => n > 0);
    const usual = some.length ? median(some) : 0;
    const full = [...volumes.keys()].filter((s) => volumes[s] >= Math.max(SLIVER * usual, 1));
    const empty = [...planes.keys()].find((s) => s >= 1 && !full.includes(s) && full[0] < s && s < full.at(-1));
    if (empty === undefined) return { segments, planes };
    const given = planes[empty].disc < planes[empty - 1].disc ? planes[empty] : planes[empty - 1];
    planes = planes.filter((plane) => plane !== given);
  }
}

/** First and last segment that hold a vertebral body. */
function occupied(segments, kinds, places) {
  const count = segments.length ? maximum(segments) + 1 : 0;
  const [volumes, sacral] = [new Array(count).fill(0), new Array(count).fill(0)];
  for (let v = 0; v < kinds.length; v++) {
    if (Math.abs(places.side[v]) >= MIDLINE || places.away[v] >= REACH) continue;
    if (kinds[v] === BODY) volumes[segments[v]]++;
    if (kinds[v] === SACRUM) sacral[segments[v]]++;
  }
  const some = volumes.filter((n) => n > 0);
  const usual = some.length ? median(some) : 0;
  const real = [...volumes.keys()].filter(
    (s) => volumes[s] > Math.max(SLIVER * usual, 1) && (volumes[s] > BODILY * usual || volumes[s] > 2 * sacral[s]),
  );
  return real.length ? [real[0], real.at(-1)] : [1, 0];
}

/** Pieces that lie almost wholly in one segment get its number throughout; pieces across two stay cut. */
export function wholePieces(numbers, shape) {
  const { labels, count } = label(numbers, shape);
  if (!count) return numbers;
  const kinds = maximum(numbers) + 1;
  const votes = new Int32Array((count + 1) * kinds);
  for (let at = 0; at < numbers.length; at++) if (labels[at]) votes[labels[at] * kinds + numbers[at]]++;
  const pieces = Array.from({ length: count + 1 }, (_, piece) => {
    const mine = votes.subarray(piece * kinds, (piece + 1) * kinds);
    const top = argmax(mine);
    return { size: mine.reduce((a, b) => a + b, 0), top, most: mine[top] };
  });
  const biggest = new Array(kinds).fill(0);
  for (const { top, size } of pieces) biggest[top] = Math.max(biggest[top], size);
  const out = new Uint8Array(numbers.length);
  for (let at = 0; at < numbers.length; at++) {
    if (!labels[at]) continue;
    const { size, top, most } = pieces[labels[at]];
    if (size < 0.02 * biggest[top]) continue;
    out[at] = most >= WHOLE * Math.max(size, 1) ? top : numbers[at];
  }
  return out;
}

export const coordinates = (at, [, A, S]) => [Math.floor(at / (A * S)), Math.floor(at / S) % A, at % S];

/** Pixels of structure n in its largest slice. */
export function largest(numbers, n, [I, A, S]) {
  const sizes = new Array(I).fill(0);
  for (let at = 0; at < numbers.length; at++) if (numbers[at] === n) sizes[Math.floor(at / (A * S))]++;
  return Math.max(...sizes);
}

/** Distance of two voxels, mm. */
export function apart(first, second, spacing) {
  return Math.sqrt([0, 1, 2].reduce((total, axis) => total + ((first[axis] - second[axis]) * spacing[axis]) ** 2, 0));
}

/** Of a mask, the cluster that is largest and nearest to a voxel; its pieces lie a few pixels apart at most. */
export function connected(mask, near, shape, spacing) {
  const voxels = where(mask, Boolean);
  if (!voxels.length) return mask;
  const reach = APART >> 1;
  const { labels, count } = label(maximumFilter(mask, shape, [shape[0] > 1 ? 1 : 0, reach, reach]), shape);
  const away = new Array(count + 1).fill(Infinity);
  const sizes = new Array(count + 1).fill(0);
  for (const at of voxels) {
    const distance = apart(coordinates(at, shape), near, spacing);
    away[labels[at]] = Math.min(away[labels[at]], Number.isNaN(distance) ? 1 : distance);
    sizes[labels[at]]++;
  }
  const best = argmax(sizes.map((size, n) => size / away[n] ** 2));
  return mask.map((value, at) => (value && labels[at] === best ? 1 : 0));
}

/** What lies where a canal can lie: behind the column, not far to its sides. */
export function behind(mask, column, shape, spacing) {
  const voxels = where(mask, Boolean);
  const { front, side } = column.place(voxels, shape, spacing);
  const ones = new Uint8Array(voxels.length).fill(1);
  return painted(mask.length, voxels, ones, (v) => front[v] < 0 && front[v] > -BEHIND[0] && Math.abs(side[v]) < BEHIND[1]);
}

/** Voxel coordinates of the centre of each of the instances 1..count; NaN for one without voxels. */
export function centres(numbers, count, shape) {
  const sums = Array.from({ length: count }, () => [0, 0, 0, 0]);
  for (let at = 0; at < numbers.length; at++) {
    const n = numbers[at];
    if (!n || n > count) continue;
    const place = coordinates(at, shape);
    const mine = sums[n - 1];
    for (const axis of [0, 1, 2]) mine[axis] += place[axis];
    mine[3]++;
  }
  return sums.map(([i, a, s, size]) => [i / size, a / size, s / size]);
}

/** Where the middle of each body lies along the column, mm; a missing one between its neighbours. */
function middles(bodies, count, column, shape, spacing) {
  const places = centres(bodies, count, shape);
  const known = [...places.keys()].filter((n) => Number.isFinite(places[n][0]));
  const along = known.map((n) => column.along(places[n], spacing));
  return Array.from({ length: count }, (_, n) => interp(n, known, along));
}

/** Posterior elements, slice by slice: each piece goes to the body it hangs from. */
export function archesOf(mask, at, column, shape, spacing) {
  const { labels, count } = label(mask, shape, true);
  const voxels = where(mask, Boolean);
  if (!count) return new Uint8Array(mask.length);
  const { along, away } = column.place(voxels, shape, spacing);
  const pitch = at.length > 1 ? median(at.slice(1).map((value, n) => value - at[n])) : 34;
  const level = along.map((value, v) => value + pitch * clamp((away[v] - PEDICLE) * HANG, 0, 0.5));
  const [size, sums, squares] = [0, 1, 2].map(() => new Float64Array(count + 1));
  voxels.forEach((voxel, v) => {
    size[labels[voxel]]++;
    sums[labels[voxel]] += level[v];
  });
  const mean = sums.map((total, n) => total / Math.max(size[n], 1));
  voxels.forEach((voxel, v) => (squares[labels[voxel]] += (level[v] - mean[labels[voxel]]) ** 2));
  const numbers = level.map((value, v) => {
    const piece = labels[voxels[v]];
    const place = Math.sqrt(squares[piece] / Math.max(size[piece], 1)) < 0.36 * pitch ? mean[piece] : value;
    const best = nearest(at, place);
    return Math.abs(place - at[best]) < 0.8 * pitch ? best + 1 : 0;
  });
  return painted(mask.length, voxels, numbers, () => true);
}
