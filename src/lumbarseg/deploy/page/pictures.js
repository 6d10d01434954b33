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

async function view(id, options) {
  if (!views[id]) {
    views[id] = new niivue.Niivue({ show3Dcrosshair: false, isOrientationTextVisible: true, loadingText: "", ...options });
    await views[id].attachTo(id);
  }
  return views[id];
}

/** A new exam: bytes of its file. clicked: is told the label at each place that the user points to. */
export async function showExam(bytes, name, clicked) {
  const planes = await view("planes", { backColor: [0, 0, 0, 1], isColorbar: false });
  while (planes.volumes.length) planes.removeVolumeByIndex(planes.volumes.length - 1);
  await planes.loadFromArrayBuffer(bytes.slice(0), name);
  planes.setSliceType(planes.sliceTypeMultiplanar);
  planes.opts.multiplanarShowRender = niivue.SHOW_RENDER.NEVER;
  planes.onLocationChange = ({ values }) => values[1] && clicked(Math.round(values[1].value));
  const spine = await view("spine", { backColor: [0, 0, 0, 1] });
  spine.setSliceType(spine.sliceTypeRender);
}

/** The label map, bytes of its file, over the planes and in 3-D. */
export async function showLabels(bytes, opacity) {
  for (const [id, first] of [["planes", 1], ["spine", 0]]) {
    const nv = views[id];
    while (nv.volumes.length > first) nv.removeVolumeByIndex(nv.volumes.length - 1);
    await nv.loadFromArrayBuffer(bytes.slice(0), "labels.nii");
    const volume = nv.volumes.at(-1);
    volume.setColormapLabel(colours());
    nv.setOpacity(nv.volumes.length - 1, id === "planes" ? opacity : 1);
    nv.updateGLVolume();
  }
}

export function setOpacity(opacity) {
  if (views.planes?.volumes.length > 1) views.planes.setOpacity(1, opacity);
}
