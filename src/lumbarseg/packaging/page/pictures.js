// The exam in three planes with its labels, and the labels alone in 3-D, drawn by NiiVue.
/* global niivue */

import { STRUCTURES } from "./anatomy.js";

const views = {};

/** The label table as NiiVue takes it. */
export function colours() {
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
const CORONAL = { sliceType: 1, position: [0.6, 0, 0.4, 0.55] };
const AXIAL = { sliceType: 0, position: [0.6, 0.55, 0.4, 0.45] };
const FROM_BEHIND = [235, 8]; // degrees: the arches show, and the order of the bodies

async function view(id, options) {
  if (!views[id]) {
    views[id] = new niivue.Niivue({ show3Dcrosshair: false, isColorbar: false, loadingText: "", ...options });
    await views[id].attachTo(id);
  }
  return views[id];
}

/** A new exam: bytes of its file. clicked: is told the label at each place that the user points to. */
export async function showExam(bytes, clicked) {
  const planes = await view("planes", { sagittalNoseLeft: true, crosshairWidth: 1, crosshairColor: [1, 1, 1, 0.4] });
  const spine = await view("spine", { crosshairWidth: 0 });
  for (const nv of [planes, spine]) while (nv.volumes.length) nv.removeVolumeByIndex(nv.volumes.length - 1);
  const gzip = new Uint8Array(bytes, 0, 1)[0] === 0x1f; // the viewer goes by the name, this page by what is inside
  await planes.loadFromArrayBuffer(bytes.slice(0), gzip ? "exam.nii.gz" : "exam.nii");
  planes.setSliceType(planes.sliceTypeMultiplanar);
  planes.setCustomLayout([SAGITTAL, CORONAL, AXIAL]);
  planes.onLocationChange = ({ values }) => values[1] && clicked(Math.round(values[1].value));
  spine.setSliceType(spine.sliceTypeRender);
}

/** The label map, bytes of its file, over the planes and in 3-D. */
export async function showLabels(bytes, opacity) {
  for (const [id, first] of [["planes", 1], ["spine", 0]]) {
    const nv = views[id];
    while (nv.volumes.length > first) nv.removeVolumeByIndex(nv.volumes.length - 1);
    await nv.loadFromArrayBuffer(bytes.slice(0), "labels.nii");
    nv.volumes.at(-1).setColormapLabel(colours());
    nv.setOpacity(nv.volumes.length - 1, first ? opacity : 1);
    nv.updateGLVolume();
  }
  views.spine.setRenderAzimuthElevation(...FROM_BEHIND);
}

/** How far the labels cover the exam, 0 to 1. */
export function setOpacity(opacity) {
  if (views.planes?.volumes.length > 1) views.planes.setOpacity(1, opacity);
}
