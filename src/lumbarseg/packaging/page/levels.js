// Names for the vertebrae of a column, counted from an anchor, with reasons: segment/levels.py in JavaScript.

import { byName, column as upwardFrom, CONSTANTS, EXTRA, LEVELS, SACRAL, USUAL } from "./anatomy.js";
import { BODY, CORE, DISC, where } from "./column.js";
import { centres, coordinates, counted } from "./instances.js";
import { clamp, maximum, median, minimum, percentile } from "./numpy.js";
import { CUSHION, onDisc } from "./sacral.js";
import { Refusal, toWorld } from "./volume.js";

const { MIN_FIELD_BELOW: ROOM, MIDLINE, MIN_CERTAIN_CONFIDENCE: CERTAIN } = CONSTANTS.levels;
const whole = (number) => number.toFixed(0);
const percent = (share) => `${whole(share * 100)}%`;

/** Names of the bodies of a column: {names, anchor, confidence, reasons, warnings}, the lowest body first.
 * scores: probabilities; lowest: the user's name of the lowest whole body; pinned: [name, number] of one that the user
 * named; taught: [name, share] of the card. */
export function nameBodies(found, scores, spacing, lowest, pinned, taught) {
  const told = given(found, lowest, pinned);
  if (told) return told;
  const seen = sacrumOf(found, spacing);
  const sure = meanScore(scores, BODY, found.bodies, (n) => n > 0);
  const anchored = seen.length >= 8 && seen.gap < 30;
  if (taught && !anchored) return asTaught(found, taught, sure, spacing);
  const [confidence, reasons] = anchored ? trust(found, seen, sure, spacing) : [0.2 * sure, ["no sacrum in view"]];
  const anchor = anchored ? "sacrum" : `none: the lowest body is assumed to be ${USUAL}`;
  return { names: namesUpward(USUAL, found.count), anchor, confidence, reasons, warnings: doubts(confidence, reasons) };
}

/** What a person should look at. */
export function doubts(confidence, reasons) {
  return confidence < CERTAIN ? [`names are uncertain (${reasons.join("; ")}); correct one in the table`] : [];
}

/** Names as the user told one of them, null where nothing was told. */
export function given(found, lowest, pinned) {
  const told = lowest ? [[lowest, wholeBody(found)]] : [];
  if (pinned) told.push(pinned);
  const starts = [...new Set(told.map(([level, number]) => lowestName(level, number)))];
  if (starts.length > 1) throw new Refusal(`two names disagree: the lowest body would be ${starts.sort().join(" and ")}`);
  if (!starts.length) return null;
  const names = namesUpward(starts[0], found.count);
  return { names, anchor: "given by the user", confidence: 1, reasons: ["named by the user"], warnings: [] };
}

/** The lowest body that the lower edge of the field of view does not cut. */
function wholeBody(found) {
  return !partial(found.bodies, 1, found.shape) || found.count === 1 ? 1 : 2;
}

function asTaught(found, [level, share], sure, spacing) {
  const first = wholeBody(found);
  const heights = where(found.bodies, (n) => n === first).map((at) => at % found.shape[2]);
  const clear = first === 1 && minimum(heights) * spacing[2] >= ROOM;
  const reasons = [`counted from the lowest body: it was ${level} in ${percent(share)} of the training exams`];
  if (!clear) reasons.push("the field of view ends close below it, so one below may be missing");
  const confidence = (clear ? 0.95 : 0.4) * sure * (share >= 1 ? 1 : 0.75);
  const names = namesUpward(lowestName(level, first), found.count);
  return { names, anchor: "the lowest body, as in training", confidence, reasons, warnings: doubts(confidence, reasons) };
}

/** Names of `count` bodies, the lowest first; Refusal when there are not so many names. */
export function namesUpward(lowest, count) {
  const room = LEVELS.indexOf(lowest) + 1;
  if (count > room) throw new Refusal(`${count} vertebrae above and with ${lowest} reach past ${LEVELS[0]}; name the lowest one`);
  return upwardFrom(lowest, count);
}

/** The name of body 1 when body `number` is called `level`. */
export function lowestName(level, number) {
  const upward = upwardFrom(level === EXTRA ? EXTRA : USUAL, LEVELS.length - (level === EXTRA ? 0 : 1));
  const index = upward.indexOf(level) - (number - 1);
  if (index === -1 && level !== EXTRA) return EXTRA;
  if (index < 0) throw new Refusal(`${number - 1} vertebrae lie below the one called ${level}; there is no name for the lowest`);
  return upward[index];
}

/** Evidence of a sacrum under the lowest body: {length, gap} mm, whether there is a disc, share of the body on it. */
function sacrumOf(found, spacing) {
  const { shape } = found;
  const sizes = new Array(found.count + 2).fill(0);
  for (const n of found.discs) sizes[n]++;
  const discs = sizes.slice(1);
  const some = discs.filter((n) => n > 0);
  const disc = some.length > 0 && discs[0] > 0.15 * median(some);
  const none = { length: 0, gap: Infinity, disc, cushion: onDisc(found.bodies, found.discs, found.sacrum, shape) };
  const [body, sacral] = [where(found.bodies, (n) => n === 1), where(found.sacrum, Boolean)];
  if (!body.length || !sacral.length) return none;
  const { along } = found.column.place(body, shape, spacing);
  const low = percentile(along, 10);
  const low10 = body.filter((_, v) => along[v] <= low);
  const foot = [0, 0, 0];
  for (const at of low10) coordinates(at, shape).forEach((value, axis) => (foot[axis] += value / low10.length));
  const away = [];
  for (const at of sacral) {
    const place = coordinates(at, shape);
    if (Math.abs(place[0] - foot[0]) * spacing[0] >= MIDLINE) continue;
    away.push(Math.hypot(...place.map((value, axis) => (value - foot[axis]) * spacing[axis])));
  }
  if (away.length <= 20) return none;
  const [near, far] = [percentile(away, 2), percentile(away, 98)];
  return { ...none, length: far - near, gap: near };
}

/** From where to where body n reaches along the column, mm; null for one without voxels. */
function span(found, n, spacing) {
  const voxels = where(found.bodies, (value) => value === n);
  if (!voxels.length) return null;
  const { along, away } = found.column.place(voxels, found.shape, spacing);
  const near = along.filter((_, v) => away[v] < CORE);
  const chosen = near.length ? near : along;
  return percentile(chosen, 97) - percentile(chosen, 3);
}

/** How far the count from the sacrum can be trusted, with the reasons in words. */
function trust(found, seen, sure, spacing) {
  const reasons = [`counted from the sacrum, ${whole(seen.length)} mm of it in view`];
  let value = clamp(0.3 + seen.length / 45, 0, 1);
  const doubt = (factor, reason) => {
    value *= factor;
    reasons.push(reason);
  };
  if (!seen.disc) doubt(0.7, "no disc visible between the sacrum and the lowest body");
  if (seen.cushion < CUSHION) doubt(0.6, "the lowest body has no complete disc below it: it may be " + SACRAL);
  if (found.sacral) doubt(0.6, `the body below was counted as ${SACRAL}: it has no complete disc below it and leans forward`);
  const numbers = Array.from({ length: Math.min(found.count, 4) }, (_, n) => n + 1);
  const heights = numbers.map((n) => span(found, n, spacing)).filter((height) => height !== null);
  const ratio = heights[0] / median(heights.slice(1));
  if (heights.length > 2 && !(0.7 < ratio && ratio < 1.35)) doubt(0.6, "the lowest body differs from its neighbours in height");
  const steps = found.at.slice(1).map((at, n) => at - found.at[n]);
  if (steps.length > 2 && maximum(steps) > 1.6 * median(steps)) {
    doubt(0.5, "a vertebra may be missing: one distance between vertebrae is much longer than the others");
  }
  if (sure < 0.85) doubt(sure, "the network is uncertain about the vertebral bodies");
  if (found.count < 3) doubt(0.8, "fewer than three vertebrae in view");
  return [value, reasons];
}

/** Mean probability of a class over the voxels whose number `holds`. */
export function meanScore(scores, kind, numbers, holds) {
  const from = kind * numbers.length;
  let [total, many] = [0, 0];
  for (let at = 0; at < numbers.length; at++) {
    if (!holds(numbers[at])) continue;
    total += scores[from + at];
    many++;
  }
  return total / many;
}

/** The named vertebrae, or discs where there are no bodies, from head to foot: {name, number, confidence, uncertain,
 * partial, reasons, centre}. affine: voxel of the instance maps to RAS+ mm. */
export function levelsOf(found, naming, scores, affine) {
  const numbers = counted(found);
  const names = found.bodyless ? discNames(found, naming.names).slice(0, found.count) : naming.names;
  const out = [];
  centres(numbers, found.count, found.shape).forEach((centre, n) => {
    const name = names[n];
    if (!name || Number.isNaN(centre[0])) return;
    const sure = meanScore(scores, found.bodyless ? DISC : BODY, numbers, (value) => value === n + 1);
    const cut = partial(numbers, n + 1, found.shape);
    out.push({
      name,
      number: n + 1,
      vertebra: naming.names[n],
      confidence: Math.round(naming.confidence * sure * 1000) / 1000,
      uncertain: naming.confidence < CERTAIN,
      partial: cut,
      reasons: cut ? [...naming.reasons, "cut by the edge of the field of view"] : [...naming.reasons],
      centre: toWorld(affine, centre).map((value) => Math.round(value * 10) / 10),
    });
  });
  return out.reverse();
}

/** Names of the discs 1 to count + 1 about bodies with these names, "" where the table has none. */
export function discNames(found, names) {
  const top = LEVELS.indexOf(names.at(-1));
  const below = found.bodyless && ![USUAL, EXTRA].includes(names[0]) ? LEVELS[LEVELS.indexOf(names[0]) + 1] : SACRAL;
  const uppers = [...names, top ? LEVELS[top - 1] : ""];
  const lowers = [below, ...names];
  return uppers.map((upper, n) => (byName(`${upper}-${lowers[n]}`) ? `${upper}-${lowers[n]}` : ""));
}

/** Whether structure n touches the upper or lower edge of the field of view. */
function partial(numbers, n, [I, A, S]) {
  for (let row = 0; row < I * A; row++) if (numbers[row * S] === n || numbers[row * S + S - 1] === n) return true;
  return false;
}
