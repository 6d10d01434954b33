// Where discs cut the column: segment/cuts.py in JavaScript.

import { CONSTANTS } from "./anatomy.js";
import { BODY, CORE, DISC } from "./column.js";
import { gaussianFilter1d, maximumFilter1d } from "./ndimage.js";
import { argmax, clamp, maximum, percentile } from "./numpy.js";

const { ANTERIOR_SLOPES: FORWARD, LATERAL_SLOPES: SIDEWAYS, STEP_RANGE: STEPS, PITCHES, STEP_PENALTY: STIFF, LONG_STEP_PENALTY: LONG, TAPER, PLANE_BONUS: WORTH, TILT_PENALTY: TILT } = CONSTANTS.disc_planes;

/** Whether the plane of a cut lies below place v. */
export const below = (cut, places, v) =>
  places.along[v] > cut.at + cut.forward * places.front[v] + cut.sideways * places.side[v];

/** The planes between the bodies, {at, forward, sideways, disc}, the lowest first. thick: enough slices for a tilt. */
export function cuts(places, kinds, thick) {
  const core = [];
  for (let v = 0; v < kinds.length; v++) {
    if (places.away[v] < CORE && (kinds[v] === BODY || kinds[v] === DISC)) core.push(v);
  }
  if (core.length < 50) return [];
  const along = Float64Array.from(core, (v) => Math.max(0, places.along[v]));
  const { gain, slopes } = gains(places, kinds, core, along, thick);
  const low = Math.trunc(percentile(along, 0.5));
  const high = Math.trunc(percentile(along, 99.5));
  return chain(gain.slice(low, high + 1)).map((place) => {
    const [forward, sideways] = slopes[low + place];
    return { at: low + place + 0.5, forward, sideways, disc: clamp(gain[low + place] / (1 + WORTH), 0, 1) };
  });
}

const smooth = (values) => gaussianFilter1d(values, 0.7, "zero");

/** Per mm of the curve what the best plane there gains, and its slopes. */
function gains(places, kinds, core, along, thick) {
  const length = Math.trunc(maximum(along)) + 30;
  const counts = new Float64Array(length);
  for (const a of along) counts[Math.trunc(a)]++;
  let size = smooth(counts);
  const most = maximum(size);
  size = maximumFilter1d(size, 41).map((value) => Math.max(value, 0.3 * most));
  const gain = new Float64Array(length);
  const best = new Float64Array(length).fill(-Infinity);
  const slopes = new Array(length);
  for (const forward of FORWARD) {
    for (const sideways of thick ? SIDEWAYS : [0]) {
      const sums = new Float64Array(length);
      core.forEach((v, n) => {
        const at = Math.trunc(clamp(along[n] - forward * places.front[v] - sideways * places.side[v], 0, length - 1));
        sums[at] += (kinds[v] === DISC ? 1 : -1) + WORTH;
      });
      const cost = TILT * (Math.abs(forward) + Math.abs(sideways));
      smooth(sums).forEach((value, at) => {
        const here = value / size[at];
        if (here - cost > best[at]) [best[at], gain[at], slopes[at]] = [here - cost, here, [forward, sideways]];
      });
    }
  }
  return { gain, slopes };
}

/** The best chain of places in `gain`, over all usual steps. */
function chain(gain) {
  const count = gain.length;
  const log = (length) => Math.log(Math.max(length, 1));
  const long = (length) => LONG[1] * Math.max(length - LONG[0], 0);
  const usualAt = (pitch, place) => Math.log(pitch) - TAPER * place;
  const end = (length, usual) => STIFF * Math.max(log(length) - usual, 0) ** 2 + long(length);
  const rows = PITCHES.map((pitch) => follow(gain, pitch, { count, log, long, usualAt, end }));
  const worth = rows.map((row) => Math.max(maximum(row.best), row.alone) - row.prior);
  const { best, before, alone } = rows[argmax(worth)];
  if (maximum(best) < alone) return [];
  const places = [argmax(best)];
  while (before[places.at(-1)] >= 0) places.push(before[places.at(-1)]);
  return places.reverse();
}

/** For one usual step: the worth of the best chain that ends at each place, and the place before it. */
function follow(gain, pitch, { count, log, long, usualAt, end }) {
  const best = gain.map((value, place) => value - end(place, usualAt(pitch, place)));
  const before = new Int32Array(count).fill(-1);
  for (let place = STEPS[0]; place < count; place++) {
    const usual = usualAt(pitch, place);
    let top = -Infinity;
    let from = -1;
    for (let step = STEPS[0]; step <= Math.min(STEPS[1], place); step++) {
      const value = best[place - step] - (STIFF * (log(step) - usual) ** 2 + long(step));
      if (value > top) [top, from] = [value, place - step];
    }
    if (gain[place] + top > best[place]) [best[place], before[place]] = [gain[place] + top, from];
  }
  for (let place = 0; place < count; place++) best[place] -= end(count - 1 - place, usualAt(pitch, place));
  return { best, before, alone: -end(count, usualAt(pitch, count - 1)), prior: 0.5 * Math.log(pitch / 33) ** 2 };
}
