// Views drawn by NiiVue: the exam with its labels in three planes, and the labels alone in 3-D.
/* global niivue */

import { VIEWER_COLOURS } from "./anatomy.js";

const viewers = {};
const PLANES = { axial: 0, coronal: 1, sagittal: 2 }; // NiiVue's slice types; the axis across a plane is 2 minus its type
const MIN_STACKED_WIDTH = 0.4; // of the coronal plane, relative to its height
const MIN_TILE_WIDTH = 0.2; // of the picture
const FROM_BEHIND = [235, 8]; // azimuth and elevation in degrees, at which arches and bodies are visible
const MIN_NAME_DISTANCE = 14; // px from name to name, downward
const AXIAL_REACH = 8; // mm from an axial slice within which a structure is named in it
const OPTIONS = { show3Dcrosshair: false, isColorbar: false, loadingText: "", fontColor: [1, 1, 1, 1], fontMinPx: 15 };
let names = []; // {name, position in RAS+ mm} of the structures to name on the planes

async function createViewers() {
  const planes = new niivue.Niivue({
    ...OPTIONS, sagittalNoseLeft: true, isRadiologicalConvention: true, showAllOrientationMarkers: true, crosshairWidth: 0.7,
    crosshairWidthUnit: "mm", crosshairColor: [1, 1, 1, 0.4],
  });
  const spine = new niivue.Niivue({ ...OPTIONS, crosshairWidth: 0 });
  Object.assign(viewers, { planes, spine });
  for (const [id, nv] of Object.entries(viewers)) await nv.attachTo(id);
  const draw = planes.drawScene.bind(planes);
  planes.drawScene = () => {
    draw();
    placeNames();
  };
  spine.setSliceType(spine.sliceTypeRender);
}

/** Show a new exam, given the bytes of its .nii file. onLocation is called with the label at each clicked position. */
export async function showExam(bytes, onLocation) {
  if (!viewers.spine) await createViewers();
  const { planes, spine } = viewers;
  for (const nv of [planes, spine]) while (nv.volumes.length) nv.removeVolumeByIndex(nv.volumes.length - 1);
  await planes.loadFromArrayBuffer(bytes, "exam.nii");
  planes.onLocationChange = ({ mm, values }) =>
    values[1] && onLocation(Math.round(values[1].value), Array.from(mm).slice(0, 3));
  setView(document.getElementById("views").dataset.view);
}

/** Return the places of the planes, [left, top, width, height] in shares of the picture. */
function layout({ dimsRAS, pixDimsRAS }) {
  const [width, depth, height] = [1, 2, 3].map((axis) => dimsRAS[axis] * pixDimsRAS[axis]);
  if (width > MIN_STACKED_WIDTH * height) {
    return { sagittal: [0, 0, 0.5, 1], coronal: [0.5, 0, 0.5, 0.5], axial: [0.5, 0.5, 0.5, 0.5] };
  }
  const tile = Math.max(MIN_TILE_WIDTH, width / (depth + 2 * width));
  return { sagittal: [0, 0, 1 - 2 * tile, 1], coronal: [1 - 2 * tile, 0, tile, 1], axial: [1 - tile, 0, tile, 1] };
}

/** Show one plane, the 3-D view, or all of them. */
export function setView(view) {
  document.getElementById("views").dataset.view = view;
  const { planes } = viewers;
  planes.clearCustomLayout();
  planes.setSliceType(PLANES[view] ?? planes.sliceTypeMultiplanar);
  if (!(view in PLANES)) {
    const tiles = Object.entries(layout(planes.volumes[0]));
    planes.setCustomLayout(tiles.map(([plane, position]) => ({ sliceType: PLANES[plane], position })));
  }
  for (const nv of Object.values(viewers)) nv.resizeListener();
}

/** Show a label map, given the bytes of its .nii file, on top of the planes and in 3-D. */
export async function showLabels(bytes, opacity) {
  for (const [id, first] of [["planes", 1], ["spine", 0]]) {
    const nv = viewers[id];
    while (nv.volumes.length > first) nv.removeVolumeByIndex(nv.volumes.length - 1);
    await nv.loadFromArrayBuffer(bytes.slice(0), "labels.nii");
    nv.volumes.at(-1).setColormapLabel(VIEWER_COLOURS);
    nv.setOpacity(nv.volumes.length - 1, first ? opacity : 1);
    nv.updateGLVolume();
  }
  viewers.spine.setRenderAzimuthElevation(...FROM_BEHIND);
}

/** Show names, {name, position}, at the structures in the planes. */
export function showNames(positions) {
  names = positions;
  viewers.planes.drawScene();
}

/** Return the names with their positions in the planes, {name, x, y}, in pixels of the canvas; those of discs only where they
 * overlap no other. */
function positionsOfNames() {
  const nv = viewers.planes;
  if (nv.volumes.length < 2) return [];
  const positions = Object.values(PLANES).flatMap((plane) => names.map((structure) => positionInPlane(nv, structure, plane)));
  const distance = MIN_NAME_DISTANCE * (nv.uiData.dpr ?? 1);
  const isNear = (a, b) => a.name !== b.name && Math.abs(a.x - b.x) < 3 * distance && Math.abs(a.y - b.y) < distance;
  const shown = positions.filter((position) => position && position.y > distance / 2); // not cut off by the upper edge
  return shown.filter((label) => !label.name.includes("-") || !shown.some((other) => isNear(label, other)));
}

/** Return where a structure is named in a plane, or null. */
function positionInPlane(nv, { name, position }, plane) {
  const at = Array.from(nv.mm2frac(position)).slice(0, 3);
  const axis = 2 - plane;
  const distance = Math.abs(at[axis] - nv.scene.crosshairPos[axis]);
  const thickness = nv.volumes[0].dimsRAS[axis + 1] * nv.volumes[0].pixDimsRAS[axis + 1];
  if (plane === PLANES.axial && distance * thickness > AXIAL_REACH) return null;
  at[axis] = nv.scene.crosshairPos[axis];
  const canvasPosition = nv.frac2canvasPosWithTile(at, plane);
  return canvasPosition && { name, x: canvasPosition.pos[0], y: canvasPosition.pos[1] };
}

function placeNames() {
  const ratio = viewers.planes.uiData.dpr ?? 1;
  const spans = positionsOfNames().map(({ name, x, y }) => {
    const span = Object.assign(document.createElement("span"), { textContent: name });
    Object.assign(span.style, { left: `${x / ratio}px`, top: `${y / ratio}px` });
    return span;
  });
  document.getElementById("names").replaceChildren(...spans);
}

/** Return the planes with the names as a data URL. */
export function pictureOfPlanes() {
  const { view } = document.getElementById("views").dataset;
  if (view === "3-D") setView("all"); // a hidden canvas has no size
  viewers.planes.drawScene();
  const source = document.getElementById("planes");
  const canvas = Object.assign(document.createElement("canvas"), { width: source.width, height: source.height });
  const context = canvas.getContext("2d");
  context.drawImage(source, 0, 0);
  Object.assign(context, { textAlign: "center", textBaseline: "middle", fillStyle: "#fff", shadowColor: "#000", shadowBlur: 4 });
  context.font = `${source.width / 58}px sans-serif`;
  for (const { name, x, y } of positionsOfNames()) context.fillText(name, x, y);
  if (view === "3-D") setView(view);
  return canvas.toDataURL("image/png");
}

/** Set the opacity of the labels, 0 to 1. */
export function setOpacity(opacity) {
  if (viewers.planes?.volumes.length > 1) viewers.planes.setOpacity(1, opacity);
}
