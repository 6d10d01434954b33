// The exams in files that the user opened: NIfTI images, ZIP archives, and DICOM studies, which dcm2niix converts.

import { ascending, maxIndex } from "d3-array";
import createDcm2niix from "dcm2niix";
import { unzipSync } from "fflate";
import { CONSTANTS } from "./anatomy.js";
import { decompress, isNifti } from "./nifti.js";
import { cross } from "./numpy.js";
import { LumbarsegError } from "./volume.js";

const ZIP_MAGIC = [0x50, 0x4b, 0x03, 0x04];
const DCM2NIIX_OPTIONS = ["-f", "%s_%j", "-b", "y", "-ba", "n", "-z", "n", "-o", "/out", "/in"];
const INCOMPLETE = /not stacked|distance varies|missing images/i; // messages of dcm2niix that the user should see
const UNREADABLE = /transfer syntax|unsupported|decod|failed/i;
const MODALITIES = ["MR", "CT"];
const {
  PLANES, LOCALISER, CONTRASTS, CONTRAST_RANK, NON_MAGNITUDE_TYPES, LUMBAR, OTHER_REGION, MIN_EXAM_SLICES,
} = CONSTANTS.series;

/** Return the exams in files, {title, name, modality, notes, bytes of a .nii file}, the one to segment first at the front.
 * files: File objects; dcm2niix: bytes of the WebAssembly program. */
export async function listExams(files, dcm2niix) {
  const contents = [];
  for (const file of files) contents.push(...(await unpack(file.name, new Uint8Array(await file.arrayBuffer()))));
  const images = contents.filter(({ bytes }) => isNifti(bytes));
  if (images.length) return images.map(({ name, bytes }) => ({ title: name, name, notes: [], bytes }));
  const { series, messages } = await convertDicom(contents, dcm2niix);
  const [{ name }] = files;
  if (new Set(series.map(({ patient }) => patient)).size > 1) {
    throw new LumbarsegError(`${name}: DICOM files of several patients; open those of one`);
  }
  const notes = messages.filter((line) => INCOMPLETE.test(line)).map((line) => line.trim());
  if (series.length) return series.map((exam) => ({ ...exam, notes }));
  const reason = messages.find((line) => UNREADABLE.test(line));
  if (reason) throw new LumbarsegError(`${name}: DICOM that cannot be read (${reason.trim()}); export it uncompressed`);
  throw new LumbarsegError(`${name}: not a NIfTI file, a DICOM study or a ZIP archive of one; export the exam again`);
}

/** Return the files, {name, bytes}, in a file: those of a ZIP archive, or itself; gzip data decompressed. */
async function unpack(name, bytes) {
  if (!ZIP_MAGIC.every((value, n) => bytes[n] === value)) return [{ name, bytes: await decompress(bytes, name) }];
  let entries;
  try {
    entries = Object.entries(unzipSync(bytes));
  } catch {
    throw new LumbarsegError(`${name}: truncated or damaged ZIP archive; copy or export it again`);
  }
  const files = entries.filter(([path]) => !path.endsWith("/"));
  return (await Promise.all(files.map(([path, content]) => unpack(path.split("/").at(-1), content)))).flat();
}

/** Convert DICOM files: {series, the best first, messages of the program}. */
async function convertDicom(files, wasmBinary) {
  const messages = [];
  const print = (line) => messages.push(line);
  const { FS, callMain } = await createDcm2niix({ wasmBinary, print, printErr: print });
  for (const folder of ["/in", "/out"]) FS.mkdir(folder);
  files.forEach(({ bytes }, n) => FS.writeFile(`/in/${n}`, bytes));
  callMain(DCM2NIIX_OPTIONS);
  const descriptions = FS.readdir("/out").filter((file) => file.endsWith(".json"));
  const series = descriptions.map((file) => {
    const header = JSON.parse(FS.readFile(`/out/${file}`, { encoding: "utf8" }));
    return describeSeries(header, FS.readFile(`/out/${file.replace(/json$/, "nii")}`));
  });
  const images = series.filter(({ modality, key }) => MODALITIES.includes(modality) && key);
  images.sort((a, b) => a.key.map((value, n) => ascending(value, b.key[n])).find(Boolean) ?? 0);
  return { series: images, messages };
}

/** Describe a converted series; key: numbers by which series are sorted, as in io/dicom/series.py, or null. */
function describeSeries(header, bytes) {
  const { SeriesDescription: name = "", SeriesNumber: number = 0, ImageOrientationPatientDICOM: axes } = header;
  const [, , , slices, volumes] = new Int16Array(bytes.slice(40, 50).buffer);
  const texts = [name, header.ProtocolName, header.SequenceName].map((text) => (text ?? "").toLowerCase());
  const plane = axes ? PLANES[maxIndex(cross(axes.slice(0, 3), axes.slice(3)), Math.abs)] : "";
  const contrast = contrastOf(texts, header);
  const [text, types] = [texts.join(" "), header.ImageType ?? []];
  const region = `${text} ${(header.BodyPartExamined ?? "").toLowerCase()}`;
  const isLocaliser = types.includes("LOCALIZER") || new RegExp(LOCALISER).test(text);
  const regionRank = new RegExp(LUMBAR).test(region) ? 0 : new RegExp(OTHER_REGION).test(region) ? 2 : 1;
  const key = [
    isLocaliser, volumes > 1, plane !== PLANES[0], slices < MIN_EXAM_SLICES, regionRank,
    types.some((type) => NON_MAGNITUDE_TYPES.includes(type)), CONTRAST_RANK[contrast] ?? Infinity, types.includes("DERIVED"),
    -slices, number,
  ].map(Number);
  const title = `${number} ${name}: ${isLocaliser ? "localiser, " : ""}${plane}, ${contrast}, ${slices} slices`;
  return { title, name: name || `series ${number}`, modality: header.Modality, patient: header.PatientID, key: plane && key, bytes };
}

/** Return the contrast by the description, else by echo and repetition time. */
function contrastOf(texts, { EchoTime: echo = 0, RepetitionTime: repetition = 0 }) {
  for (const text of texts) {
    const contrast = Object.keys(CONTRASTS).find((name) => new RegExp(CONTRASTS[name]).test(text));
    if (contrast) return contrast;
  }
  const [t2, t1] = Object.keys(CONTRAST_RANK);
  if (echo >= 0.06 && repetition >= 1.5) return t2;
  return echo > 0 && echo <= 0.03 && repetition > 0 && repetition <= 1.2 ? t1 : "other";
}
