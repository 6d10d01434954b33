// Class maps separated into single bodies, discs and posterior elements: port of segmentation/instances.py.

import { max, maxIndex, median, sum } from "d3-array";
import { CONSTANTS } from "./anatomy.js";
import { ARCH, BODY, CANAL, Centerline, DISC, MAX_DISTANCE, SACRUM, fitCenterline, indicesWhere } from "./centerline.js";
import { isBelow, findDiscPlanes } from "./disc_planes.js";
import { IN_PLANE_NEIGHBOURS, label, maximumFilter } from "./ndimage.js";
import { clamp, differences, interp, nearestIndex } from "./numpy.js";
import { findSacralSigns, isSacral } from "./sacrum.js";
import { boundingBox, cropMap, forEachInBox, regionsOf, voxelCount, voxelsOf } from "./volume.js";

const {
  WHOLE_COMPONENT_SHARE, MIN_VOLUME_SHARE, CERTAIN_VOLUME_SHARE, CLUSTER_GAP, CANAL_RANGE, MIDLINE, PEDICLE_DISTANCE,
  DROP_PER_MM, DEFAULT_PITCH, SPECK_SHARE,
} = CONSTANTS.instances;
const PARTS = ["bodies", "discs", "arches", "sacrum", "canal"];

/** Separate a class map (slices, A, S) into {count, bodies, discs, arches, sacrum, canal, centerline, positions, discsOnly}:
 * maps of instance numbers from 1, the lowest; disc n lies below body n. null when the map contains no column. */
export function separateInstances(classes, shape, spacing) {
  const bounds = boundingBox(classes, shape); // a crop saves time: the spine fills half of the field of view or less
  if (!bounds) return null;
  const box = [[0, shape[0]], ...bounds.slice(1)];
  const instances = separateInCrop(cropMap(classes, shape, box), box.map(([start, stop]) => stop - start), spacing);
  if (!instances) return null;
  for (const part of PARTS) instances[part] = uncropMap(instances[part], shape, box);
  const { points, arcLength } = instances.centerline;
  const shifted = points.map((point) => point.map((value, axis) => value + box[axis][0] * spacing[axis]));
  return { ...instances, centerline: new Centerline(shifted, arcLength), shape };
}

function uncropMap(crop, shape, box) {
  const out = new crop.constructor(voxelCount(shape));
  let from = 0;
  forEachInBox(box, shape, (at) => (out[at] = crop[from++]));
  return out;
}

function separateInCrop(classes, shape, spacing) {
  const centerline = fitCenterline(classes, shape, spacing);
  if (!centerline) return null;
  const voxels = indicesWhere(classes, (c) => c === BODY || c === DISC || c === SACRUM);
  const kinds = Uint8Array.from(voxels, (at) => classes[at]);
  const coordinates = centerline.curveCoordinates(voxels, shape, spacing);
  const { segments, planes } = removeSlivers(coordinates, kinds, findDiscPlanes(coordinates, kinds, shape[0] > 4));
  let [low, high] = firstAndLastBody(segments, kinds, coordinates);
  if (high < low) return null;
  const isNear = (kind) => (v) => kinds[v] === kind && coordinates.distance[v] < MAX_DISTANCE;
  const numberComponents = (kind, numbers) =>
    assignWholeComponents(numberMap(classes.length, voxels, numbers, isNear(kind)), shape);
  const bodyNumbers = numberComponents(BODY, segments.map((s) => s + 1));
  const planePositions = planes.map((plane) => plane.position);
  const nearestPlane = (along) => (planes.length ? nearestIndex(planePositions, along) + 1 : 0);
  const discNumbers = numberComponents(DISC, Uint8Array.from(coordinates.along, nearestPlane));
  const mask = (kind) => classes.map((c) => (c === kind ? 1 : 0));
  const bones = mask(SACRUM);
  let [bodies, discs, sacrum, sacralSigns, excludedS1Signs] = [null, null, null, [], []];
  for (;;) {
    [bodies, discs] = renumbered(bodyNumbers, discNumbers, low, high);
    const sacral = bones.map((bone, v) => (bone || (bodyNumbers[v] > 0 && bodyNumbers[v] <= low) ? 1 : 0));
    sacrum = selectCluster(sacral, instanceCenters(bodies, 1, shape)[0], shape, spacing);
    sacralSigns = findSacralSigns(bodies, discs, sacrum, shape, spacing);
    if (excludedS1Signs.length || !isSacral(sacralSigns)) break;
    [excludedS1Signs, low] = [sacralSigns, low + 1];
  }
  const count = high - low + 1;
  const positions = bodyPositions(bodies, count, centerline, shape, spacing);
  const arches = assignArches(mask(ARCH), positions, centerline, shape, spacing);
  const canal = selectCanal(mask(CANAL), centerline, shape, spacing);
  return {
    count, bodies, discs, arches, sacrum, canal, centerline, positions, discsOnly: false, sacralSigns, excludedS1Signs,
  };
}

/** Number bodies and discs from segment `low` upward. bodyNumbers: segment + 1; discNumbers: disc + 1. */
function renumbered(bodyNumbers, discNumbers, low, high) {
  const bodies = bodyNumbers.map((n) => (n > low && n <= high + 1 ? n - low : 0));
  return [bodies, discNumbers.map((n) => (n > 0 ? clamp(n - low + 1, 0, high - low + 2) : 0))];
}

/** Return the map of the instances that levels are assigned to. */
export const levelMap = (instances) => (instances.discsOnly ? instances.discs : instances.bodies);

export function numberMap(size, voxels, numbers, selected) {
  const out = new Uint8Array(size);
  for (let v = 0; v < voxels.length; v++) if (selected(v)) out[voxels[v]] = numbers[v];
  return out;
}

/** Return the median of the positive volumes, 0 without any. */
function usualVolume(volumes) {
  const positive = volumes.filter((volume) => volume > 0);
  return positive.length ? median(positive) : 0;
}

/** Return the segment of each voxel; where two planes enclose almost nothing, the weaker one is removed. */
function removeSlivers(coordinates, kinds, planes) {
  for (;;) {
    const segments = new Uint8Array(kinds.length);
    for (const plane of planes) for (let v = 0; v < kinds.length; v++) if (isBelow(plane, coordinates, v)) segments[v]++;
    const volumes = new Array(planes.length + 1).fill(0);
    for (let v = 0; v < kinds.length; v++) {
      if (kinds[v] === BODY && coordinates.distance[v] < MAX_DISTANCE) volumes[segments[v]]++;
    }
    const minVolume = Math.max(MIN_VOLUME_SHARE * usualVolume(volumes), 1);
    const fullSegments = [...volumes.keys()].filter((s) => volumes[s] >= minVolume);
    const [first, last] = [fullSegments[0], fullSegments.at(-1)];
    const sliver = [...planes.keys()].find((s) => s >= 1 && !fullSegments.includes(s) && first < s && s < last);
    if (sliver === undefined) return { segments, planes };
    const removed = planes[sliver].discShare < planes[sliver - 1].discShare ? planes[sliver] : planes[sliver - 1];
    planes = planes.filter((plane) => plane !== removed);
  }
}

/** Return the first and last segment that contain a vertebral body. */
function firstAndLastBody(segments, kinds, coordinates) {
  const count = segments.length ? max(segments) + 1 : 0;
  const [volumes, sacralVolumes] = [new Array(count).fill(0), new Array(count).fill(0)];
  for (let v = 0; v < kinds.length; v++) {
    if (Math.abs(coordinates.lateral[v]) >= MIDLINE || coordinates.distance[v] >= MAX_DISTANCE) continue;
    if (kinds[v] === BODY) volumes[segments[v]]++;
    if (kinds[v] === SACRUM) sacralVolumes[segments[v]]++;
  }
  const usual = usualVolume(volumes);
  const isBody = (volume, s) =>
    volume > Math.max(MIN_VOLUME_SHARE * usual, 1) && volume > Math.min(CERTAIN_VOLUME_SHARE * usual, 2 * sacralVolumes[s]);
  return volumes.some(isBody) ? [volumes.findIndex(isBody), volumes.findLastIndex(isBody)] : [1, 0];
}

/** Give components that lie almost completely in one segment its number throughout; others stay divided. */
export function assignWholeComponents(numbers, shape) {
  const { labels, count } = label(numbers, shape);
  if (!count) return numbers;
  const kinds = max(numbers) + 1;
  const votes = new Int32Array((count + 1) * kinds);
  for (let at = 0; at < numbers.length; at++) if (labels[at]) votes[labels[at] * kinds + numbers[at]]++;
  const components = Array.from({ length: count + 1 }, (_, component) => {
    const counts = votes.subarray(component * kinds, (component + 1) * kinds);
    const top = maxIndex(counts);
    return { size: sum(counts), top, votesForTop: counts[top] };
  });
  const biggest = new Array(kinds).fill(0);
  for (const { top, size } of components) biggest[top] = Math.max(biggest[top], size);
  const out = new Uint8Array(numbers.length);
  for (let at = 0; at < numbers.length; at++) {
    if (!labels[at]) continue;
    const { size, top, votesForTop } = components[labels[at]];
    if (size < SPECK_SHARE * biggest[top]) continue;
    out[at] = votesForTop >= WHOLE_COMPONENT_SHARE * Math.max(size, 1) ? top : numbers[at];
  }
  return out;
}

export const voxelIndex = (at, [, A, S]) => [Math.floor(at / (A * S)), Math.floor(at / S) % A, at % S];

/** Return the number of pixels of instance n in its largest slice. */
export function maxSliceArea(numbers, n, [I, A, S]) {
  const sizes = new Array(I).fill(0);
  for (const at of voxelsOf(numbers, n)) sizes[Math.floor(at / (A * S))]++;
  return Math.max(...sizes);
}

/** Return the distance between two voxels in mm. */
export function distanceMm(first, second, spacing) {
  return Math.sqrt([0, 1, 2].reduce((total, axis) => total + ((first[axis] - second[axis]) * spacing[axis]) ** 2, 0));
}

/** Return the cluster of components, at most a few pixels apart, that is largest and nearest to a voxel. */
export function selectCluster(mask, voxel, shape, spacing) {
  const voxels = indicesWhere(mask, Boolean);
  if (!voxels.length) return mask;
  const radius = CLUSTER_GAP >> 1;
  const { labels, count } = label(maximumFilter(mask, shape, [shape[0] > 1 ? 1 : 0, radius, radius]), shape);
  const nearestDistance = new Array(count + 1).fill(Infinity);
  const sizes = new Array(count + 1).fill(0);
  for (const at of voxels) {
    const distance = distanceMm(voxelIndex(at, shape), voxel, spacing);
    nearestDistance[labels[at]] = Math.min(nearestDistance[labels[at]], Number.isNaN(distance) ? 1 : distance);
    sizes[labels[at]]++;
  }
  const best = maxIndex(sizes.map((size, n) => size / nearestDistance[n] ** 2));
  return mask.map((value, at) => (value && labels[at] === best ? 1 : 0));
}

/** Return the part of a mask where the canal can be: behind the column, not far to its sides. */
export function selectCanal(mask, centerline, shape, spacing) {
  const voxels = indicesWhere(mask, Boolean);
  const { anterior, lateral } = centerline.curveCoordinates(voxels, shape, spacing);
  const ones = new Uint8Array(voxels.length).fill(1);
  const [depth, width] = CANAL_RANGE;
  const isInRange = (v) => anterior[v] < 0 && anterior[v] > -depth && Math.abs(lateral[v]) < width;
  return numberMap(mask.length, voxels, ones, isInRange);
}

/** Return the centres of instances 1 to count in voxel coordinates; NaN for an instance without voxels. */
export function instanceCenters(numbers, count, shape) {
  const regions = regionsOf(numbers, shape);
  const centre = (region) => (region ? region.sums.map((total) => total / region.count) : [NaN, NaN, NaN]);
  return Array.from({ length: count }, (_, n) => centre(regions[n + 1]));
}

/** Return the positions of the bodies along the centerline in mm; missing ones are interpolated. */
function bodyPositions(bodies, count, centerline, shape, spacing) {
  const centers = instanceCenters(bodies, count, shape);
  const present = [...centers.keys()].filter((n) => Number.isFinite(centers[n][0]));
  const along = present.map((n) => centerline.arcLengthOf(centers[n], spacing));
  return Array.from({ length: count }, (_, n) => interp(n, present, along));
}

/** Assign posterior elements, slice by slice, to the bodies they belong to. */
export function assignArches(mask, positions, centerline, shape, spacing) {
  const { labels, count } = label(mask, shape, IN_PLANE_NEIGHBOURS);
  const voxels = indicesWhere(mask, Boolean);
  if (!count) return new Uint8Array(mask.length);
  const { along, distance } = centerline.curveCoordinates(voxels, shape, spacing);
  const pitch = positions.length > 1 ? median(differences(positions)) : DEFAULT_PITCH;
  const level = along.map((value, v) => value + pitch * clamp((distance[v] - PEDICLE_DISTANCE) * DROP_PER_MM, 0, 0.5));
  const [size, sums, squares] = [0, 1, 2].map(() => new Float64Array(count + 1));
  voxels.forEach((voxel, v) => {
    size[labels[voxel]]++;
    sums[labels[voxel]] += level[v];
  });
  const mean = sums.map((total, n) => total / Math.max(size[n], 1));
  voxels.forEach((voxel, v) => (squares[labels[voxel]] += (level[v] - mean[labels[voxel]]) ** 2));
  const numbers = level.map((value, v) => {
    const component = labels[voxels[v]];
    const deviation = Math.sqrt(squares[component] / Math.max(size[component], 1));
    const position = deviation < 0.36 * pitch ? mean[component] : value;
    const best = nearestIndex(positions, position);
    return Math.abs(position - positions[best]) < 0.8 * pitch ? best + 1 : 0;
  });
  return numberMap(mask.length, voxels, numbers, () => true);
}
