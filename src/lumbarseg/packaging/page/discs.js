// Discs named where the network knows no bodies: segment/discs.py in JavaScript.

import { CONSTANTS } from "./anatomy.js";
import { ARCH, CANAL, DISC, extended, REACH, SACRUM, where } from "./column.js";
import { cuts } from "./cuts.js";
import { apart, archesOf, behind, centres, connected, coordinates, largest, painted, wholePieces } from "./instances.js";
import { doubts, given, meanScore, namesUpward } from "./levels.js";
import { label } from "./ndimage.js";
import { arange, argmax, argmin, interp, maximum, mean, median, minimum } from "./numpy.js";
import { Refusal } from "./volume.js";

const D = CONSTANTS.discs_only;
const is = (kind) => (value) => value === kind;
const mask = (classes, kind) => classes.map((c) => (c === kind ? 1 : 0));

/** A class map without bodies taken apart, as `split` does it; null when it shows no disc. */
export function splitDiscs(classes, shape, spacing) {
  const column = traceDiscs(mask(classes, DISC), shape, spacing);
  if (!column) return null;
  const voxels = where(classes, is(DISC));
  const places = column.place(voxels, shape, spacing);
  const planes = wholeSteps(cuts(places, new Uint8Array(voxels.length).fill(DISC), shape[0] > 4));
  if (!planes.length) return null;
  const numbers = Uint8Array.from(voxels, (_, v) => {
    const off = planes.map((p) => Math.abs(places.along[v] - p.at - p.forward * places.front[v] - p.sideways * places.side[v]));
    return argmin(off) + 1;
  });
  const found = wholePieces(painted(classes.length, voxels, numbers, (v) => places.away[v] < REACH), shape);
  const [first, last] = ends(found, shape);
  const count = last - first + 1;
  const at = planes.slice(first - 1, last).map((plane) => plane.at);
  const discs = found.map((n) => (n >= first && n <= last ? n - first + 1 : 0));
  const step = count > 1 ? median(at.slice(1).map((value, n) => value - at[n])) : D.DEFAULT_SPACING;
  const between = at.map((value, n) => (value + (n + 1 < count ? at[n + 1] : at.at(-1) + step)) / 2);
  return {
    count,
    bodies: new Uint8Array(discs.length),
    discs,
    arches: archesOf(mask(classes, ARCH), between, column, shape, spacing),
    sacrum: connected(mask(classes, SACRUM), centres(discs, 1, shape)[0], shape, spacing),
    canal: behind(mask(classes, CANAL), column, shape, spacing),
    column,
    at: between,
    bodyless: true,
    shape,
  };
}

/** One plane for each level, where the chain has half steps: `_whole_steps`. */
function wholeSteps(planes) {
  const steps = (some) => median(some.slice(1).map((plane, n) => plane.at - some[n].at));
  const full = planes.filter((plane) => plane.disc > D.MIN_DISC_SHARE);
  if (full.length < 2 || steps(planes) >= D.MIN_LUMBAR_SPACING) return planes;
  const usual = steps(full);
  if (usual < D.MIN_LUMBAR_SPACING) return planes;
  const kept = full.slice(0, 1);
  for (const plane of full.slice(1)) {
    const before = kept.at(-1).at;
    const gap = plane.at - before;
    const count = Math.floor(gap / usual + 0.5);
    for (let n = 1; n < count; n++) {
      kept.push(planes[argmin(planes.map((p) => Math.abs(p.at - before - (n * gap) / count)))]);
    }
    kept.push(plane);
  }
  return kept;
}

/** The curve through the middles of discs. */
function traceDiscs(discs, shape, spacing) {
  const { labels, count } = label(discs, shape);
  if (!count) return null;
  const sums = Array.from({ length: count }, () => [0, 0, 0, 0]);
  for (const at of where(discs, Boolean)) {
    const mine = sums[labels[at] - 1];
    coordinates(at, shape).forEach((value, axis) => (mine[axis] += value));
    mine[3]++;
  }
  const most = Math.max(...sums.map((s) => s[3]));
  const pieces = sums.filter((s) => s[3] >= D.MIN_COMPONENT_SHARE * most);
  const middles = pieces.map((s) => ({ point: [0, 1, 2].map((axis) => (s[axis] / s[3]) * spacing[axis]), size: s[3] }));
  const row = longest(middles);
  let curve = through(row, spacing);
  const heights = curve.map((p) => p[2]);
  const fronts = curve.map((p) => p[1]);
  const near = row.filter(({ point }) => Math.abs(interp(point[2], heights, fronts) - point[1]) <= REACH);
  if (near.length && near.length < row.length) curve = through(longest(near), spacing);
  return extended(curve);
}

/** Of places those that follow each other in height without a gap, the heaviest such row of them. */
function longest(middles) {
  const sorted = [...middles].sort((a, b) => a.point[2] - b.point[2]);
  const rows = [[sorted[0]]];
  sorted.slice(1).forEach((middle, n) => {
    if (middle.point[2] - sorted[n].point[2] > D.MAX_DISC_GAP) rows.push([]);
    rows.at(-1).push(middle);
  });
  return rows[argmax(rows.map((row) => row.reduce((total, { size }) => total + size, 0)))];
}

/** One place per row of height from the lowest point to the highest. */
function through(row, spacing) {
  const z = row.map(({ point }) => point[2]);
  const [low, high] = [minimum(z), maximum(z)];
  const heights = arange(low, Math.max(high, low + 25), spacing[2]);
  const degree = high - low > 15 ? Math.min(3, Math.floor((high - low) / D.HEIGHT_PER_DEGREE) + 1) : 0;
  const fits = [0, 1].map((axis) => fit(z, row.map(({ point }) => point[axis]), row.map(({ size }) => Math.sqrt(size)), degree));
  return heights.map((height) => [...fits.map((f) => f(Math.min(height, high))), height]);
}

/** A polynomial by weighed least squares, over heights scaled to -1..1. */
function fit(x, y, w, degree) {
  const [low, high] = [minimum(x), maximum(x)];
  const scaled = (value) => (high > low ? (2 * value - low - high) / (high - low) : 0);
  const rows = x.map((value, n) => Array.from({ length: degree + 1 }, (_, d) => scaled(value) ** d * w[n]));
  const a = Array.from({ length: degree + 1 }, (_, r) => [
    ...Array.from({ length: degree + 1 }, (_, c) => rows.reduce((total, row) => total + row[r] * row[c], 0)),
    rows.reduce((total, row, n) => total + row[r] * y[n] * w[n], 0),
  ]);
  const terms = solved(a);
  return (value) => terms.reduce((total, term, d) => total + term * scaled(value) ** d, 0);
}

/** Gaussian elimination of a small system with its right side as the last column. */
function solved(a) {
  const n = a.length;
  for (let c = 0; c < n; c++) {
    const pivot = [...a.keys()].slice(c).reduce((best, r) => (Math.abs(a[r][c]) > Math.abs(a[best][c]) ? r : best), c);
    [a[c], a[pivot]] = [a[pivot], a[c]];
    for (let r = 0; r < n; r++) {
      if (r === c || !a[c][c]) continue;
      const share = a[r][c] / a[c][c];
      for (let k = c; k <= n; k++) a[r][k] -= share * a[c][k];
    }
  }
  return a.map((row, r) => (row[r] ? row[n] / row[r] : 0));
}

/** First and last number that is a disc of the column. */
function ends(found, shape) {
  const sizes = new Array(maximum(found) + 1).fill(0);
  for (const n of found) sizes[n]++;
  const usual = median(sizes.slice(1).filter((n) => n > 0));
  let real = [...sizes.keys()].slice(1).filter((n) => sizes[n] >= D.MIN_VOLUME_SHARE * usual);
  while (real.length > 2 && (real[1] - real[0] > 1 || slender(found, real, shape))) real = real.slice(1);
  while (real.length > 2 && real.at(-1) - real.at(-2) > 1) real = real.slice(0, -1);
  return [real[0], real.at(-1)];
}

function slender(found, real, shape) {
  const [lowest, ...others] = real.slice(0, 3).map((n) => largest(found, n, shape));
  return lowest < D.MIN_AREA_SHARE * mean(others);
}

/** The column, unless its discs are small and follow each other as cervical ones do; else Refusal. */
export function lumbar(found, spacing) {
  const areas = Array.from({ length: found.count }, (_, n) => largest(found.discs, n + 1, found.shape)).filter(Boolean);
  const area = median(areas) * spacing[1] * spacing[2];
  if (area < D.MIN_LUMBAR_AREA && found.count > 2 && usualStep(found) < D.MIN_LUMBAR_SPACING) {
    throw new Refusal(
      `no lumbar spine found: discs of ${area.toFixed(0)} mm2 that follow each other by ${usualStep(found).toFixed(0)} mm ` +
        "are too small for lumbar ones",
    );
  }
  return found;
}

/** Names of the vertebrae between the discs of a column, as `nameBodies` gives them. */
export function nameDiscs(found, scores, spacing, lowest, pinned, taught) {
  const told = given(found, lowest, pinned);
  if (told) return told;
  const sure = meanScore(scores, DISC, found.discs, (n) => n > 0);
  if (rests(found, spacing)) {
    return naming(D.DEFAULT_LOWEST, found, "sacrum", 0.95 * sure, ["counted from the sacrum, by the discs above it"]);
  }
  if (!taught) {
    const anchor = `none: the lowest disc is assumed to be ${D.DEFAULT_LOWEST}`;
    return naming(D.DEFAULT_LOWEST, found, anchor, 0.2 * sure, ["nothing shows which disc is the lowest"]);
  }
  const [disc, share] = taught;
  const percent = `${(share * 100).toFixed(0)}%`;
  const reasons = [`counted from the lowest disc: it was ${disc} in ${percent} of the training exams`];
  let value = (share >= 1 ? 0.95 : 0.75) * sure;
  if (!room(found, spacing)) {
    reasons.push("the field of view ends close below it, so one below may be missing");
    value *= 0.4;
  }
  if (disc === D.DEFAULT_LOWEST && lean(found, spacing) < D.MIN_L5_S1_LEAN) {
    reasons.push(`it leans forward by less than ${D.MIN_L5_S1_LEAN.toFixed(0)} degrees, which is rare for ${D.DEFAULT_LOWEST}`);
    value *= 0.6;
  }
  return naming(disc, found, "the lowest disc, as in training", value, reasons);
}

function naming(disc, found, anchor, confidence, reasons) {
  const names = namesUpward(disc.split("-")[0], found.count);
  return { names, anchor, confidence, reasons, warnings: doubts(confidence, reasons) };
}

/** Whether there is a sacrum right below the lowest disc. */
function rests(found, spacing) {
  const sacral = where(found.sacrum, Boolean);
  if (sacral.length * spacing[0] * spacing[1] * spacing[2] < D.MIN_SACRUM_VOLUME) return false;
  const middle = centres(found.discs, 1, found.shape)[0];
  return sacral.some((at) => apart(coordinates(at, found.shape), middle, spacing) < D.MAX_SACRUM_DISTANCE);
}

/** How far the lowest disc leans forward in its middle, degrees. */
function lean(found, spacing) {
  const places = Array.from(where(found.discs, is(1)), (at) => coordinates(at, found.shape).map((v, axis) => v * spacing[axis]));
  const centre = median(places.map((p) => p[0]));
  const middle = places.filter((p) => Math.abs(p[0] - centre) < D.MIDLINE);
  const [a, s] = [1, 2].map((axis) => mean(middle.map((p) => p[axis])));
  let [aa, as, ss] = [0, 0, 0];
  for (const p of middle) {
    aa += (p[1] - a) ** 2;
    as += (p[1] - a) * (p[2] - s);
    ss += (p[2] - s) ** 2;
  }
  const turn = 0.5 * Math.atan2(2 * as, aa - ss); // direction in which the disc is longest
  return (-Math.atan2(Math.sin(turn) * Math.sign(Math.cos(turn)), Math.abs(Math.cos(turn))) * 180) / Math.PI;
}

/** Whether a disc below the lowest one would be in the field of view. */
function room(found, spacing) {
  return centres(found.discs, 1, found.shape)[0][2] * spacing[2] > D.NEXT_DISC_SHARE * usualStep(found);
}

function usualStep(found) {
  return found.count > 1 ? median(found.at.slice(1).map((at, n) => at - found.at[n])) : D.DEFAULT_SPACING;
}
