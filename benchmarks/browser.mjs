// Drives a page that `lumbarseg page` wrote in headless Chromium and prints what was state as JSON.
// node browser.mjs PLAN.json; the plan: {modules, chromium, page, steps}. A step is one of
//   {open: FILE, save: FILE, shot: FILE}   give an exam (FILE may be a list); keep its label map, a picture of the page
//   {folder: FOLDER}                       give a folder
//   {series: NUMBER}                       choose a series of the study
//   {correct: STRUCTURE, positive: true}   say that a structure is at the clicked position, or is not
//   {undoClick: true}                      take back the last correction
//   {view: NAME}                           show one plane, "3-D" or "all"
//   {download: SELECTOR, save: FILE}       press a button that saves a file
//   {name: [NUMBER, NAME], save: FILE}     choose a name for a level
//   {undo: true, save: FILE}               take the names back
//   {cancel: FILE}                         give an exam and cancel once the network looks at it
//   {click: [X, Y]}                        click there in the picture, in shares of its size

import fs from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const plan = JSON.parse(fs.readFileSync(process.argv[2]));
const PATIENCE = (plan.patience ?? 300) * 1000; // ms
const { chromium } = createRequire(`${plan.modules}/`)("playwright-core");

const browser = await chromium.launch({
  executablePath: plan.chromium,
  args: ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"].concat(plan.flags ?? []),
});
const context = await browser.newContext({ viewport: plan.viewport ?? { width: 1500, height: 1080 } });
const page = await context.newPage();
page.setDefaultTimeout(PATIENCE);
const press = (selector) => page.dispatchEvent(selector, "click"); // does not wait for a frame to be drawn
const requests = [];
const messages = [];
context.on("request", (request) => requests.push(request.url().slice(0, 60)));
page.on("console", (message) => ["error", "warning"].includes(message.type()) && messages.push(message.text()));
page.on("pageerror", (error) => messages.push(`error: ${error.message}`));
if (plan.without) await context.addInitScript(`delete globalThis.${plan.without}`);

const seconds = (start) => Math.round((performance.now() - start) / 10) / 100;
const broken = () => messages.filter((line) => line.startsWith("error: "));
const body = () => page.evaluate(() => ({ ...document.body.dataset }));

async function waitForResult(before) {
  for (const end = performance.now() + PATIENCE; performance.now() < end; await page.waitForTimeout(30)) {
    const { error, results } = await body();
    if (error) return { refused: error };
    if (Number(results ?? 0) > Number(before.results ?? 0)) return {};
    if (broken().length) break;
  }
  throw new Error(`no answer: ${messages.join("; ")}`);
}

async function state(step) {
  if (step.save) {
    const coming = page.waitForEvent("download", { timeout: PATIENCE });
    await press(step.download ?? "#save");
    await (await coming).saveAs(step.save);
  }
  if (step.shot) {
    await page.waitForTimeout(1500); // what is drawn shows with the next frame
    await page.screenshot({ path: step.shot });
  }
  return page.evaluate(() => {
    const rows = [...document.querySelectorAll("#levels tr")].slice(1);
    const texts = (selector) => [...document.querySelectorAll(selector)].map((e) => e.textContent);
    return {
      names: rows.map((row) => row.dataset.name),
      numbers: rows.map((row) => Number(row.querySelector("select").dataset.number)),
      confidences: rows.map((row) => Number(row.cells[1].textContent)),
      sizes: texts("#measurements tr"),
      warnings: texts("#warnings div"),
      marks: performance.getEntriesByType("mark").map((mark) => [mark.name, Math.round(mark.startTime) / 1000]),
      here: document.querySelector("#location").textContent,
      examName: document.querySelector("#exam-name").textContent,
      series: texts("#series option"),
      namesOnSlices: texts("#names span"),
      chosen: [...document.querySelectorAll("tr.selected")].map((row) => row.dataset.name),
    };
  });
}

/** Act and wait for the next result, or for an error. */
async function resultOf(act) {
  await page.evaluate(() => delete document.body.dataset.error);
  const before = await body();
  await act();
  return waitForResult(before);
}

const actions = {
  open: ({ open }) => resultOf(() => page.setInputFiles("#file", open)),
  folder: ({ folder }) => resultOf(() => page.setInputFiles("#folder", folder)),
  series: ({ series }) => resultOf(() => page.selectOption("#series", String(series))),
  name: ({ name: [number, name] }) => resultOf(() => page.selectOption(`select[data-number="${number}"]`, name)),
  undo: () => resultOf(() => press("#undo")),
  correct: async ({ correct, positive }) => {
    await page.selectOption("#structure", correct);
    return resultOf(() => press(positive ? "#is-here" : "#is-not-here"));
  },
  undoClick: () => resultOf(() => press("#undo-click")),
  view: async ({ view }) => {
    await press(`#view-buttons button[value="${view}"]`);
    return {};
  },
  download: async () => ({}),
  cancel: async ({ cancel }) => {
    await page.setInputFiles("#file", cancel);
    const state = await page.evaluate(async () => {
      const [work, stage] = ["#progress", "#stage"].map((selector) => document.querySelector(selector));
      while (!work.hidden && !stage.textContent.includes("slices")) await new Promise((resolve) => setTimeout(resolve, 5));
      const result = [work.hidden ? "nothing to cancel" : stage.textContent];
      document.querySelector("#cancel").click();
      return [...result, work.hidden];
    });
    if (!state[0].includes("slices") || !state[1]) throw new Error(`not cancelled: ${state}`);
    return {};
  },
  click: async ({ click: [x, y] }) => {
    const box = await page.locator("#planes").boundingBox();
    await page.mouse.click(box.x + x * box.width, box.y + y * box.height);
    return {};
  },
};

const start = performance.now();
await page.goto(pathToFileURL(plan.page).href);
const unable = await page.evaluate(() => (document.querySelector("#unsupported").hidden ? "" : document.querySelector("#unsupported").textContent));
const steps = [];
for (const step of unable ? [] : plan.steps) {
  const begin = performance.now();
  const result = await actions[Object.keys(actions).find((key) => key in step)](step);
  const time = seconds(begin);
  steps.push({ ...result, seconds: time, since: seconds(start), ...(result.refused ? {} : await state(step)) });
}
await browser.close();
console.log(JSON.stringify({ unable, steps, requests, messages }));
