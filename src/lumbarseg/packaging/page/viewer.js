// Views drawn by NiiVue: the exam with its labels in three planes, and the labels alone in 3-D.
/* global niivue */

import { STRUCTURES } from "./anatomy.js";

const viewers = {};

/** Return the label table in NiiVue's format. */
function colourMap() {
  const rows = [{ label: 0, name: "", colour: [0, 0, 0] }, ...STRUCTURES].sort((a, b) => a.label - b.label);
  return {
    R: rows.map((s) => s.colour[0]),
    G: rows.map((s) => s.colour[1]),
    B: rows.map((s) => s.colour[2]),
    A: rows.map((s) => (s.label ? 255 : 0)),
    I: rows.map((s) => s.label),
    labels: rows.map((s) => s.name),
  };
}

const SAGITTAL = { sliceType: 2, position: [0, 0, 0.6, 1] };
const [CORONAL, AXIAL] = [1, 0];
const NARROW = 0.4; // width of the coronal plane, relative to its height, below which planes are side by side
const SIDE_BY_SIDE = [[0.6, 0, 0.2, 1], [0.8, 0, 0.2, 1]];
const STACKED = [[0.6, 0, 0.4, 0.55], [0.6, 0.55, 0.4, 0.45]];
const FROM_BEHIND = [235, 8]; // azimuth and elevation in degrees, at which arches and bodies are visible

async function getViewer(id, options) {
  if (!viewers[id]) {
    viewers[id] = new niivue.Niivue({ show3Dcrosshair: false, isColorbar: false, loadingText: "", ...options });
    await viewers[id].attachTo(id);
  }
  return viewers[id];
}

/** Show a new exam, given the bytes of its file. onLocation is called with the label at each clicked position. */
export async function showExam(bytes, onLocation) {
  const planes = await getViewer("planes", { sagittalNoseLeft: true, crosshairWidth: 1, crosshairColor: [1, 1, 1, 0.4] });
  const spine = await getViewer("spine", { crosshairWidth: 0 });
  for (const nv of [planes, spine]) while (nv.volumes.length) nv.removeVolumeByIndex(nv.volumes.length - 1);
  const gzip = new Uint8Array(bytes, 0, 1)[0] === 0x1f; // NiiVue chooses the decoder by file name
  await planes.loadFromArrayBuffer(bytes.slice(0), gzip ? "exam.nii.gz" : "exam.nii");
  planes.setSliceType(planes.sliceTypeMultiplanar);
  const [width, , height] = [1, 2, 3].map((axis) => planes.volumes[0].dimsRAS[axis] * planes.volumes[0].pixDimsRAS[axis]);
  const positions = width < NARROW * height ? SIDE_BY_SIDE : STACKED;
  planes.setCustomLayout([SAGITTAL, ...[CORONAL, AXIAL].map((sliceType, n) => ({ sliceType, position: positions[n] }))]);
  planes.onLocationChange = ({ values }) => values[1] && onLocation(Math.round(values[1].value));
  spine.setSliceType(spine.sliceTypeRender);
}

/** Show a label map, given the bytes of its .nii file, on top of the planes and in 3-D. */
export async function showLabels(bytes, opacity) {
  for (const [id, first] of [["planes", 1], ["spine", 0]]) {
    const nv = viewers[id];
    while (nv.volumes.length > first) nv.removeVolumeByIndex(nv.volumes.length - 1);
    await nv.loadFromArrayBuffer(bytes.slice(0), "labels.nii");
    nv.volumes.at(-1).setColormapLabel(colourMap());
    nv.setOpacity(nv.volumes.length - 1, first ? opacity : 1);
    nv.updateGLVolume();
  }
  viewers.spine.setRenderAzimuthElevation(...FROM_BEHIND);
}

/** Set the opacity of the labels, 0 to 1. */
export function setOpacity(opacity) {
  if (viewers.planes?.volumes.length > 1) viewers.planes.setOpacity(1, opacity);
}
