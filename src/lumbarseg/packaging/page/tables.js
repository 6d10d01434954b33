// The answer as tables: HTML for the page, text for a file.

import { byName, LEVELS, STRUCTURES } from "./anatomy.js";

const SIZES = {
  volume: "volume ml",
  anterior: "anterior mm",
  middle: "middle mm",
  posterior: "posterior mm",
  depth: "depth mm",
  tilt_top: "upper tilt °",
  tilt_bottom: "lower tilt °",
  canal: "canal mm",
  slip: "slip mm",
};
const SIZED = ["body", "disc"];

const escaped = (text) => String(text).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);

function chip(name) {
  const colour = byName(name)?.colour;
  return colour ? `<span class="chip" style="background:rgb(${colour.join(",")})"></span>` : "";
}

/** The figures above the tables. */
export function figures(facts) {
  const cells = [[facts.bodyless ? "discs named" : "vertebrae named", String(facts.levels.length)]];
  cells.push(["confidence", facts.confidence.toFixed(2)]);
  if (facts.lordosis !== undefined && facts.lordosis !== null) cells.push(["lordosis", `${facts.lordosis.toFixed(0)}°`]);
  const told = cells.map(([what, value]) => `<div><b>${value}</b><span class="quiet">${what}</span></div>`);
  return told.join("");
}

/** What the names were counted from, and why they are trusted so far. */
export const reasons = (facts) => `Names from: ${facts.anchor}; ${facts.reasons.join("; ")}.`;

/** Names beside the spine in 3-D, from head to foot. */
export const legend = (facts) => facts.levels.map(({ name }) => `<li>${chip(name)}${name}</li>`).join("");

/** Levels with a choice of names each. */
export function levelRows(facts) {
  const names = facts.bodyless ? STRUCTURES.filter((s) => s.kind === "disc").map((s) => s.name) : LEVELS;
  const rows = facts.levels.map((level) => {
    const options = names.map((name) => `<option${name === level.name ? " selected" : ""}>${name}</option>`).join("");
    const doubts = [...(level.uncertain ? ["uncertain"] : []), ...(level.partial ? ["partly in view"] : [])];
    return (
      `<tr data-name="${level.name}"><td>${chip(level.name)}<select data-number="${level.number}" aria-label="name">` +
      `${options}</select>${level.uncertain ? " ?" : ""}</td><td>${level.confidence.toFixed(2)}</td>` +
      `<td>${level.centre.map((c) => Math.round(c) || 0).join(", ")}</td><td class="text">${escaped(doubts.join("; "))}</td></tr>`
    );
  });
  return `<tr><th>level</th><th>confidence</th><th>centre, RAS+ mm</th><th class="text">remarks</th></tr>${rows.join("")}`;
}

const sized = (facts) => facts.measurements.filter((row) => SIZED.includes(row.kind));
const shownOf = (rows) => Object.keys(SIZES).filter((key) => rows.some((row) => row[key] !== undefined && row[key] !== null));
const cell = (row, key) => (row[key] === undefined || row[key] === null ? "" : row[key].toFixed(1));

/** Sizes of bodies and discs. */
export function sizeRows(facts) {
  const rows = sized(facts);
  const shown = shownOf(rows);
  const head = `<tr><th></th>${shown.map((key) => `<th>${SIZES[key]}</th>`).join("")}</tr>`;
  const body = rows.map((row) => {
    const cut = row.complete === false ? " (cut off)" : "";
    return `<tr><td>${chip(row.name)}${row.name}${cut}</td>${shown.map((key) => `<td>${cell(row, key)}</td>`).join("")}</tr>`;
  });
  return head + body.join("");
}

/** The same as comma-separated values, with confidences. */
export function tableText(facts) {
  const rows = facts.measurements;
  const shown = shownOf(rows);
  const sure = new Map(facts.levels.map((level) => [level.name, level.confidence]));
  const cells = (row) => [row.name, row.kind, sure.get(row.name) ?? "", ...shown.map((key) => row[key] ?? "")];
  const lines = rows.map((row) => cells(row).join(","));
  return [["name", "kind", "confidence", ...shown.map((key) => SIZES[key])].join(","), ...lines, ""].join("\n");
}
