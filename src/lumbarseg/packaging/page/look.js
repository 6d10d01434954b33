// From an exam to named structures: segment/look.py in JavaScript.

import { CONSTANTS } from "./anatomy.js";
import { lumbar as lumbarDiscs, nameDiscs, splitDiscs } from "./discs.js";
import { largest, split } from "./instances.js";
import { levelsOf, nameBodies } from "./levels.js";
import { median } from "./numpy.js";
import { flipped, told, wrongWay } from "./orientation.js";
import { paint } from "./paint.js";
import { prepare, restoreClasses } from "./prepare.js";
import { count, Refusal } from "./volume.js";
import { bestOf, predict } from "./window.js";

const { CT_AIR_VALUE: CT_AIR } = CONSTANTS.preprocessing;
const { MIN_LUMBAR_AREA: SMALL } = CONSTANTS.pipeline;

/** What the network sees in an exam, kept for other names. network: as `predict` takes it.
 * tell: is told the stage and, in the network, how much of it is done; it may wait and may throw to cancel. */
export async function look(volume, card, network, tell) {
  refuseCt(volume.array);
  await tell("preparing the exam", 0);
  const prepared = prepare(volume, card.spec);
  const { shape, spacing } = prepared;
  const classes = card.classes.length;
  const see = async (stop) => {
    let done = 0;
    await tell("looking at slices", 0);
    return predict(prepared, card, network, () => tell("looking at slices", ++done / shape[0]), stop);
  };
  let flips = [false, false];
  const turned = (map, [slices]) => (flips = wrongWay(map, [slices, shape[1], shape[2]], spacing)).includes(true);
  // a header that is plainly wrong shows in the first slices: the others need not be looked at for it
  let scores = await see(turned);
  if (scores && turned(bestOf(scores, classes, count(shape)), shape)) scores = null;
  if (!scores) {
    prepared.array = flipped(prepared.array, shape, flips);
    scores = await see();
  }
  const map = bestOf(scores, classes, count(shape));
  await tell("finding the levels", 1);
  const found = lumbar(map, shape, spacing, card);
  await tell("drawing the labels", 1);
  const tissues = restoreClasses(scores, classes, prepared, flips);
  return { prepared, flips, scores, found, tissues, card };
}

/** Names and label map of what was seen: {labels, levels, notes, anchor, reasons, confidence}; labels in the file's order.
 * lowest: the user's name of the lowest whole vertebra; pinned: [name, number] of one that the user named. */
export function answer(seen, lowest = null, pinned = null) {
  const { prepared, flips, scores, found, tissues, card } = seen;
  const naming = (found.bodyless ? nameDiscs : nameBodies)(found, scores, prepared.spacing, lowest, pinned, card.lowest);
  return {
    labels: paint(tissues, found, naming.names, prepared, flips, card.painted),
    levels: levelsOf(found, naming, scores, frame(prepared, flips)),
    notes: [told(flips), ...naming.warnings].filter(Boolean),
    anchor: naming.anchor,
    reasons: naming.reasons,
    confidence: Math.round(naming.confidence * 1000) / 1000,
  };
}

function refuseCt(array) {
  let low = Infinity;
  for (let i = 0; i < array.length; i++) if (array[i] < low) low = array[i];
  if (low < CT_AIR) {
    throw new Refusal("this looks like CT (values down to that of air, -1000); lumbarseg reads MRI");
  }
}

/** A class map taken apart; Refusal when it shows no column, or none that can be lumbar. */
export function lumbar(classes, shape, spacing, card) {
  const bodies = card.taught.includes("body");
  const found = bodies ? split(classes, shape, spacing) : splitDiscs(classes, shape, spacing);
  if (!found) throw new Refusal("no lumbar spine found: nothing in the exam looks like a column of vertebrae and discs");
  if (found.bodyless) return lumbarDiscs(found, spacing);
  const areas = Array.from({ length: found.count }, (_, n) => largest(found.bodies, n + 1, shape));
  const area = median(areas) * spacing[1] * spacing[2];
  if (area < SMALL && shape[0] > 2) {
    throw new Refusal(
      `no lumbar spine found: vertebrae of ${area.toFixed(0)} mm2 in their middle slice are too small for lumbar ones`,
    );
  }
  return found;
}

/** From voxels of the turned network grid to RAS+ mm as the header says. */
function frame({ affine, shape }, flips) {
  const out = affine.map((row) => [...row]);
  flips.forEach((flip, n) => {
    const axis = n + 1;
    if (!flip) return;
    for (const r of [0, 1, 2]) {
      out[r][3] += affine[r][axis] * (shape[axis] - 1);
      out[r][axis] = -affine[r][axis];
    }
  });
  return out;
}
