// Class maps separated into single bodies, discs and posterior elements: port of segmentation/instances.py.

import { greatest, group, max, maxIndex, mean, median, min, range, rollup } from "d3-array";
import { CONSTANTS } from "./anatomy.js";
import { ARCH, BODY, CANAL, Centerline, DISC, MAX_DISTANCE, SACRUM, fitCenterline, indicesWhere, mask } from "./centerline.js";
import { isBelow, findDiscPlanes } from "./disc_planes.js";
import { IN_PLANE_NEIGHBOURS, label, maximumFilter } from "./ndimage.js";
import { bincount, clamp, differences, interp, nearestIndex } from "./numpy.js";
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
  const bones = mask(classes, SACRUM);
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
  const arches = assignArches(mask(classes, ARCH), positions, centerline, shape, spacing);
  const canal = selectCanal(mask(classes, CANAL), centerline, shape, spacing);
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
const usualVolume = (volumes) => median(volumes.filter((volume) => volume > 0)) ?? 0;

/** Return the segment of each voxel; where two planes enclose almost nothing, the weaker one is removed. */
function removeSlivers(coordinates, kinds, planes) {
  for (;;) {
    const segments = new Uint8Array(kinds.length);
    for (const plane of planes) for (let v = 0; v < kinds.length; v++) if (isBelow(plane, coordinates, v)) segments[v]++;
    const isBody = (_, v) => kinds[v] === BODY && coordinates.distance[v] < MAX_DISTANCE;
    const volumes = bincount(segments.filter(isBody), planes.length + 1);
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
  const count = (max(segments) ?? -1) + 1;
  const isNear = (v) => Math.abs(coordinates.lateral[v]) < MIDLINE && coordinates.distance[v] < MAX_DISTANCE;
  const volumesOf = (kind) => bincount(segments.filter((_, v) => kinds[v] === kind && isNear(v)), count);
  const [volumes, sacralVolumes] = [BODY, SACRUM].map(volumesOf);
  const usual = usualVolume(volumes);
  const isBody = (volume, s) =>
    volume > Math.max(MIN_VOLUME_SHARE * usual, 1) && volume > Math.min(CERTAIN_VOLUME_SHARE * usual, 2 * sacralVolumes[s]);
  return volumes.some(isBody) ? [volumes.findIndex(isBody), volumes.findLastIndex(isBody)] : [1, 0];
}

/** Give components that lie almost completely in one segment its number throughout; others stay divided. */
export function assignWholeComponents(numbers, shape) {
  const { labels } = label(numbers, shape);
  const components = Array.from(group(indicesWhere(numbers, Boolean), (at) => labels[at]).values(), (voxels) => {
    const votes = bincount(voxels.map((at) => numbers[at]));
    return { voxels, votes, top: maxIndex(votes) };
  });
  const biggest = rollup(components, (same) => max(same, ({ voxels }) => voxels.length), ({ top }) => top);
  const out = new Uint8Array(numbers.length);
  for (const { voxels, votes, top } of components) {
    if (voxels.length < SPECK_SHARE * biggest.get(top)) continue;
    const isWhole = votes[top] >= WHOLE_COMPONENT_SHARE * voxels.length;
    for (const at of voxels) out[at] = isWhole ? top : numbers[at];
  }
  return out;
}

export const voxelIndex = (at, [, A, S]) => [Math.floor(at / (A * S)), Math.floor(at / S) % A, at % S];

/** Return the number of pixels of instance n in its largest slice. */
export function maxSliceArea(numbers, n, [, A, S]) {
  return max(bincount(voxelsOf(numbers, n).map((at) => Math.floor(at / (A * S))), 1));
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
  const { labels } = label(maximumFilter(mask, shape, [shape[0] > 1 ? 1 : 0, radius, radius]), shape);
  const nearest = (cluster) => min(cluster, (at) => distanceMm(voxelIndex(at, shape), voxel, spacing)) ?? 1; // NaN is skipped
  const clusters = group(voxels, (at) => labels[at]).values();
  const best = new Set(greatest(clusters, (cluster) => cluster.length / nearest(cluster) ** 2));
  return mask.map((_, at) => Number(best.has(at)));
}

/** Return the part of a mask where the canal can be: behind the column, not far to its sides. */
export function selectCanal(mask, centerline, shape, spacing) {
  const voxels = indicesWhere(mask, Boolean);
  const { anterior, lateral } = centerline.curveCoordinates(voxels, shape, spacing);
  const [depth, width] = CANAL_RANGE;
  const isInRange = (v) => anterior[v] < 0 && anterior[v] > -depth && Math.abs(lateral[v]) < width;
  return numberMap(mask.length, voxels, voxels.map(() => 1), isInRange);
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
  const { labels } = label(mask, shape, IN_PLANE_NEIGHBOURS);
  const voxels = indicesWhere(mask, Boolean);
  const { along, distance } = centerline.curveCoordinates(voxels, shape, spacing);
  const pitch = positions.length > 1 ? median(differences(positions)) : DEFAULT_PITCH;
  const level = along.map((value, v) => value + pitch * clamp((distance[v] - PEDICLE_DISTANCE) * DROP_PER_MM, 0, 0.5));
  const out = new Uint8Array(mask.length);
  for (const component of group(range(voxels.length), (v) => labels[voxels[v]]).values()) {
    const centre = mean(component, (v) => level[v]);
    const isOneLevel = Math.sqrt(mean(component, (v) => (level[v] - centre) ** 2)) < 0.36 * pitch;
    for (const v of component) {
      const position = isOneLevel ? centre : level[v];
      const best = nearestIndex(positions, position);
      if (Math.abs(position - positions[best]) < 0.8 * pitch) out[voxels[v]] = best + 1;
    }
  }
  return out;
}
