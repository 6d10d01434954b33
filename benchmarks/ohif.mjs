// Drives OHIF as MONAI Label's server shows it, in headless Chromium, and writes what it holds as JSON.
// node ohif.mjs PLAN.json; the plan: {modules, chromium, url, patient, label, shot, out}

import fs from "node:fs";
import { createRequire } from "node:module";

const plan = JSON.parse(fs.readFileSync(process.argv[2]));
const PATIENCE = 120_000; // ms
const { chromium } = createRequire(`${plan.modules}/`)("playwright-core");
const browser = await chromium.launch({
  executablePath: plan.chromium,
  args: ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"],
});
const context = await browser.newContext({ viewport: { width: 1400, height: 780 }, serviceWorkers: "block" });
const page = await context.newPage();
page.setDefaultTimeout(PATIENCE);
const messages = [];
page.on("pageerror", (error) => messages.push(error.message));
page.on("response", (response) => response.status() >= 400 && messages.push(`${response.status()} ${response.url()}`));

const until = (test, argument) => page.waitForFunction(test, argument, { timeout: PATIENCE, polling: 500 });
const loaded = () => {
  const volumes = window.cornerstone?.cache.getVolumes() ?? [];
  return volumes.length && volumes.every((volume) => volume.loadStatus?.loaded ?? true);
};

async function runModel(button) {
  const coming = page.waitForResponse((response) => response.url().includes("/infer/"));
  await page.locator(button).click();
  const response = await coming;
  const data = new TextDecoder().decode(response.request().postDataBuffer());
  await page.waitForTimeout(4000); // until it is drawn
  return { status: response.status(), params: JSON.parse(/\{.*\}/.exec(data)[0]) };
}

await page.goto(`${plan.url}/ohif/`, { waitUntil: "domcontentloaded" });
const warning = page.locator("text=Confirm and Hide");
await page.locator(`text=${plan.patient}`).first().click();
if (await warning.count()) await warning.click();
await page.locator("a", { hasText: "MONAI Label" }).first().click();
await page.waitForSelector("#monailabelServerURL");
await until(loaded);
await page.waitForTimeout(3000);
await page.fill("#monailabelServerURL", `${plan.url}/`); // it is right by itself where the server's port is 8000
await page.locator(".settingsTable button").click();
await page.waitForSelector("text=Auto-Segmentation");
await page.waitForTimeout(5000); // its empty segmentation is made a second later
const automatic = await runModel("button[title='Run Segmentation']");
const held = await page.evaluate(() => {
  const [image, ...others] = window.cornerstone.cache.getVolumes().map((volume) => ({
    dimensions: [...volume.dimensions],
    values: Array.from(volume.voxelManager.getCompleteScalarDataArray()),
  }));
  const [segmentation] = window.services.segmentationService.getSegmentations();
  const names = Object.fromEntries(Object.values(segmentation.segments).map((one) => [one.segmentIndex, one.label]));
  return { image, labels: others[0], names };
});
const views = await page.locator(".cornerstone-canvas").all();
const box = await views[1].boundingBox();
const middle = [box.x + box.width / 2, box.y + box.height / 2];
await page.mouse.dblclick(...middle); // the sagittal view alone
await page.waitForTimeout(4000);
await page.screenshot({ path: plan.shot, type: "jpeg", quality: 70 });
await page.mouse.dblclick(...middle);
await page.waitForTimeout(4000);
await page.locator("label", { hasText: "Point Prompts" }).click();
await page.locator("tr.clickable-row:visible", { has: page.getByText(plan.label, { exact: true }) }).click();
await page.mouse.click(...middle);
await page.waitForTimeout(2000);
const clickResult = await runModel("button[title='Run PointPrompts']");
fs.writeFileSync(plan.out, JSON.stringify({ automatic, clickResult, messages, ...held }));
await browser.close();
