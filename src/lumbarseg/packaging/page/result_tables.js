// Tables of a result: HTML for the page, CSV for a file.

import { LEVELS, MEASUREMENT_TITLES, STRUCTURES, structureByName } from "./anatomy.js";

const MEASURED_KINDS = ["body", "disc"];

const escapeHtml = (text) => String(text).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);

function chip(name) {
  const colour = structureByName(name)?.colour;
  return colour ? `<span class="chip" style="background:rgb(${colour.join(",")})"></span>` : "";
}

/** Return the HTML of the key numbers above the tables. */
export function keyNumbers(report) {
  const cells = [[report.discsOnly ? "discs named" : "vertebrae named", String(report.levels.length)]];
  cells.push(["confidence", report.confidence.toFixed(2)]);
  if (!isMissing(report.lordosis)) cells.push(["lordosis", `${report.lordosis.toFixed(0)}°`]);
  const cellsHtml = cells.map(([name, value]) => `<div><b>${value}</b><span class="quiet">${name}</span></div>`);
  return cellsHtml.join("");
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

const measuredRows = (report) => report.measurements.filter((row) => MEASURED_KINDS.includes(row.kind));
const isMissing = (value) => value === undefined || value === null;
const columnsOf = (rows) => Object.keys(MEASUREMENT_TITLES).filter((key) => !rows.every((row) => isMissing(row[key])));
const cell = (row, key) => (isMissing(row[key]) ? "" : row[key].toFixed(1));

/** Return the table of measurements of bodies and discs. */
export function measurementTable(report) {
  const rows = measuredRows(report);
  const columns = columnsOf(rows);
  const head = `<tr><th></th>${columns.map((key) => `<th>${MEASUREMENT_TITLES[key]}</th>`).join("")}</tr>`;
  const body = rows.map((row) => {
    const suffix = row.complete === false ? " (cut off)" : "";
    const cells = columns.map((key) => `<td>${cell(row, key)}</td>`).join("");
    return `<tr><td>${chip(row.name)}${row.name}${suffix}</td>${cells}</tr>`;
  });
  return head + body.join("");
}

/** Return measurements and confidences as comma-separated values. */
export function tableCsv(report) {
  const rows = report.measurements;
  const columns = columnsOf(rows);
  const confidences = new Map(report.levels.map((level) => [level.name, level.confidence]));
  const cells = (row) => [row.name, row.kind, confidences.get(row.name) ?? "", ...columns.map((key) => row[key] ?? "")];
  const lines = rows.map((row) => cells(row).join(","));
  return [["name", "kind", "confidence", ...columns.map((key) => MEASUREMENT_TITLES[key])].join(","), ...lines, ""].join("\n");
}

/** Return the result that the page shows as a page of its own, which prints on one sheet. picture: data URL. */
export function reportHtml(name, picture) {
  const content = document.querySelector("main").cloneNode(true);
  for (const element of content.querySelectorAll("button, .hint")) element.remove();
  for (const select of content.querySelectorAll("select")) select.replaceWith(select.closest("tr").dataset.name);
  const [style, warnings, notice, versions] = ["style", "#warnings", "#notice", "#versions"].map(
    (selector) => document.querySelector(selector).innerHTML,
  );
  const image = Object.assign(document.createElement("img"), { className: "planes", alt: "the exam in three planes", src: picture });
  return (
    `<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>${escapeHtml(name)} - lumbarseg</title>\n` +
    `<meta name="viewport" content="width=device-width, initial-scale=1"><style>${style}</style></head><body>\n` +
    `${warnings}${image.outerHTML}\n${content.innerHTML}<footer>${notice} ${versions}</footer></body></html>\n`
  );
}
