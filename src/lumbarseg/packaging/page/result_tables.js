// Tables of a result: HTML for the page, CSV for a file.

import { LEVELS, LORDOSIS_TOP, MEASUREMENTS, SACRAL, STRUCTURES, structureByName } from "./anatomy.js";

const escapeHtml = (text) => String(text).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);

function chip(name) {
  const colour = structureByName(name)?.colour;
  return colour ? `<span class="chip" style="background:rgb(${colour.join(",")})"></span>` : "";
}

/** Return the HTML of the key numbers above the tables. */
export function keyNumbers(report) {
  const kind = report.discsOnly ? "discs" : "vertebrae";
  const cells = [[`${kind} named`, String(report.levels.length)], ["confidence", report.confidence.toFixed(2)]];
  if (!isMissing(report.lordosis)) {
    const error = errorHtml(MEASUREMENTS.lordosisError, 0, "°");
    cells.push([`lordosis ${LORDOSIS_TOP}-${SACRAL}`, `${report.lordosis.toFixed(0)}°${error}`]);
  }
  return cells.map(([name, value]) => `<div><b>${value}</b><span class="quiet">${name}</span></div>`).join("");
}

/** Return one sentence on how the names were assigned. */
export const namingReasons = (report) => `Names from: ${report.anchor}; ${report.reasons.join("; ")}.`;

/** Return the list of names beside the 3-D view, from head to foot. */
export const legend = (report) => report.levels.map(({ name }) => `<li>${chip(name)}${name}</li>`).join("");

/** Return the table of levels, each with a menu of names. */
export function levelTable(report) {
  const names = report.discsOnly ? STRUCTURES.filter((s) => s.kind === "disc").map((s) => s.name) : LEVELS;
  const rows = report.levels.map((level) => {
    const options = names.map((name) => `<option${name === level.name ? " selected" : ""}>${name}</option>`).join("");
    const remarks = [...(level.uncertain ? ["uncertain"] : []), ...(level.partial ? ["partly in view"] : [])];
    const centre = level.centre.map((c) => Math.round(c) || 0).join(", ");
    return (
      `<tr data-name="${level.name}"><td>${chip(level.name)}<select data-number="${level.number}" aria-label="name">` +
      `${options}</select>${level.uncertain ? " ?" : ""}</td><td>${level.confidence.toFixed(2)}</td><td>${centre}</td>` +
      `<td class="text">${escapeHtml(remarks.join("; "))}</td></tr>`
    );
  });
  return `<tr><th>level</th><th>confidence</th><th>centre, RAS+ mm</th><th class="text">remarks</th></tr>${rows.join("")}`;
}

const isMissing = (value) => value === undefined || value === null;
const errorHtml = (error, digits, unit = "") => (isMissing(error) ? "" : ` <small>±${error.toFixed(digits)}${unit}</small>`);

/** Return the tables of sizes, and of angles and slips, of bodies and discs. */
export function measurementTables(report) {
  const rows = report.measurements.filter((row) => MEASUREMENTS.kinds.includes(row.kind));
  const measured = MEASUREMENTS.list.filter(({ name }) => rows.some((row) => !isMissing(row[name])));
  return [["Sizes", true], ["Angles and slips", false]].map(([title, isSizeTable]) => {
    const shown = measured.filter(({ isSize }) => isSize === isSizeTable);
    const head = `<tr><th></th>${shown.map((measurement) => `<th>${measurement.title}</th>`).join("")}</tr>`;
    const body = rows.filter((row) => shown.some(({ name }) => !isMissing(row[name]))).map((row) => measurementRow(row, shown));
    return `<section><h2>${title}</h2><div class="wide"><table>${head}${body.join("")}</table></div></section>`;
  }).join("");
}

function measurementRow(row, measurements) {
  const cells = measurements.map(({ name }) =>
    isMissing(row[name]) ? "" : row[name].toFixed(1) + errorHtml(MEASUREMENTS.errors[row.kind][name], 1),
  );
  const suffix = row.complete ? "" : " (cut off)";
  return `<tr><td>${chip(row.name)}${row.name}${suffix}</td>${cells.map((cell) => `<td>${cell}</td>`).join("")}</tr>`;
}

const csvCell = (value = "") => (/[",\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);

/** Return the measurements as comma-separated values, with the columns of the command, and the confidences. */
export function tableCsv(report, exam) {
  const confidences = new Map(report.levels.map((level) => [level.name, level.confidence]));
  const records = report.measurements.map((row) => {
    const measured = MEASUREMENTS.list.filter(({ name }) => !isMissing(row[name]));
    const values = measured.flatMap(({ name, column }) => [
      [column, row[name]],
      [`${column}_sd`, MEASUREMENTS.errors[row.kind][name]],
    ]);
    const complete = row.complete ? "True" : "False";
    return { ...row, exam, complete, confidence: confidences.get(row.name), ...Object.fromEntries(values) };
  });
  const columns = [...MEASUREMENTS.columns, "confidence"];
  const lines = records.map((record) => columns.map((column) => csvCell(record[column])).join(","));
  return [columns.join(","), ...lines, ""].join("\n");
}

/** Return the result that the page shows as a page of its own, which prints on one sheet. picture: data URL. */
export function reportHtml(name, picture) {
  const content = document.querySelector("#result").cloneNode(true);
  const image = Object.assign(document.createElement("img"), { alt: "the exam in three planes", src: picture });
  content.querySelector("figure").replaceChildren(image);
  for (const element of content.querySelectorAll("button, .hint")) element.remove();
  for (const select of content.querySelectorAll("select")) select.replaceWith(select.closest("tr").dataset.name);
  const [style, warnings, notice, versions] = ["style", "#warnings", "#notice", "#versions"].map(
    (selector) => document.querySelector(selector).innerHTML,
  );
  return (
    `<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>${escapeHtml(name)} - lumbarseg</title>\n` +
    `<meta name="viewport" content="width=device-width, initial-scale=1"><style>${style}</style></head><body>\n` +
    `<p class="notice">${notice}</p>${warnings}${content.innerHTML}<footer>${versions}</footer></body></html>\n`
  );
}
