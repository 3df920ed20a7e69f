// The page in Chromium against a real coordinator: every page, live updates over a restart, 100,000 trials, hostile names, no token.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, describe, test } from "node:test";
import { chromium } from "playwright-core";
import { Service, until } from "./service.mjs";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const service = new Service();
let browser, context;
const complaints = [];

async function signedIn(options = {}) {
  const made = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await made.newPage();
  // Nothing from anywhere else, and nothing refused.
  await made.route((url) => url.origin !== service.url, (route) => { complaints.push(`asks ${route.request().url()}`); return route.abort(); });
  page.on("console", (message) => { if (message.type() === "error" && !/ERR_CONNECTION|401|Failed to load resource/.test(message.text())) complaints.push(message.text()); });
  page.on("pageerror", (error) => complaints.push(String(error)));
  await page.goto(service.url + "/");
  await page.getByLabel("Token").fill(service.token);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("heading", { name: "Sweeps" }).waitFor();
  return { made, page };
}

async function show(page, hash) {
  await page.goto(`${service.url}/#${hash}`);
  await page.locator("main h1").first().waitFor();
}

async function violations(page) {
  // Evaluated by the browser's debugger, which the page's policy does not bind.
  await page.evaluate(axe);
  const found = await page.evaluate(() => globalThis.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"] }));
  return found.violations.map((one) => `${one.id}: ${one.nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join(" | ")}`);
}

before(async () => {
  await service.start();
  await service.create("small", { factors: { "method.input": ["SA_in", "CA_in", "CA_out"], "method.output": ["FFN_in", "Trans_out"], "method.activation": ["relu", "silu"] }, displayName: "Where an adapter reads and writes" });
  await service.create("other", { factors: { "method.input": ["SA_in", "CA_in"], "method.output": ["FFN_in", "Trans_out"] } });
  for (const name of ["first", "second"]) service.startWorker(name, "--points", "400", "--seconds", "0.02", "--log", "the base <b>is</b> being loaded");
  await service.untilDone("small");
  await service.untilDone("other");
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu"] });
});
after(async () => { await browser?.close(); await service.end(); });

const pages = {
  sweeps: ["/", (page) => page.getByRole("link", { name: "small" }).waitFor()],
  results: ["/sweeps/small", (page) => page.getByText("Best cells").waitFor()],
  interactions: ["/sweeps/small?terms=" + encodeURIComponent("(input + output + activation)^2"), (page) => page.getByRole("rowheader", { name: "input:output" }).waitFor()],
  trials: ["/sweeps/small/table", (page) => page.getByText("of 24 trials").waitFor()],
  groups: ["/sweeps/small/table?group=input|output", (page) => page.getByRole("columnheader", { name: "95 % interval" }).waitFor()],
  pictures: ["/sweeps/small/pictures", (page) => page.getByRole("region", { name: "Pictures by levels" }).locator("img").nth(5).waitFor()],
  curves: ["/sweeps/small/curves", (page) => page.locator(".curves canvas").first().waitFor()],
  means: ["/sweeps/small/curves?mean=1", (page) => page.getByText("Means are of these curves").waitFor()],
  design: ["/sweeps/small/design", (page) => page.getByText("Fixed settings").waitFor()],
  trial: ["/sweeps/small/trials/3", (page) => page.locator(".curves canvas").first().waitFor()],
  workers: ["/workers", (page) => page.locator(".gantt canvas").waitFor()],
  editor: ["/new", (page) => page.getByText("Dry run").waitFor()],
  compare: ["/compare/small/other", (page) => page.getByText("Cells that both have run").waitFor()],
};

describe("every page", () => {
  for (const [name, [hash, ready]] of Object.entries(pages)) {
    test(`${name}: shown, accessible, fits a phone`, async () => {
      const { made, page } = await signedIn();
      for (const colorScheme of ["light", "dark"]) {
        await page.emulateMedia({ colorScheme });
        await show(page, hash);
        await ready(page);
        assert.deepEqual(await violations(page), [], colorScheme);
      }
      await page.emulateMedia({ media: "print" });
      assert.equal(await page.evaluate(() => getComputedStyle(document.body).backgroundColor), "rgb(255, 255, 255)", "printed on white, also from the dark");
      await page.emulateMedia({ media: "screen", colorScheme: "light" });
      if (process.env.LOUPE_PICTURES) await page.screenshot({ path: `${process.env.LOUPE_PICTURES}/${name}.png`, fullPage: true });
      await page.setViewportSize({ width: 390, height: 800 });
      await page.waitForTimeout(100);
      assert.equal(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true, "no sideways scrolling");
      assert.deepEqual(complaints.splice(0), []);
      await made.close();
    });
  }
});

test("numbers are the report's", async () => {
  const { made, page } = await signedIn();
  const report = JSON.parse((await service.call("ViewService/GetReport", { name: "sweeps/small" })).json);
  await show(page, "/sweeps/small");
  const row = page.getByRole("region", { name: "F table" }).locator("tr", { has: page.getByRole("rowheader", { name: "input", exact: true }) });
  const f = report.terms.find((term) => term.term === "input").f;
  await until("the F value", async () => (await row.textContent()).includes(f.toPrecision(4)));
  // The heat map is computed in the browser, over all trials.
  for (const cell of report.heat_map.cells) await page.locator(".heat td", { hasText: `${cell.mean.toPrecision(3)}` }).first().waitFor();
  await made.close();
});

test("keyboard: filter, group and sort", async () => {
  const { made, page } = await signedIn();
  await show(page, "/sweeps/small/table");
  await page.locator("summary", { hasText: /^input/ }).focus();
  await page.keyboard.press("Enter");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Space");
  await page.getByText("16 of 24 trials").waitFor();
  assert.match(page.url(), /f\.input=CA_in/);
  await page.reload();
  await page.getByText("16 of 24 trials").waitFor();
  // One menu at a time; Escape gives the focus back.
  await page.locator("summary", { hasText: /^Columns/ }).click();
  await page.locator("summary", { hasText: /^Scores/ }).click();
  assert.equal(await page.locator("details.menu[open]").count(), 1);
  await page.keyboard.press("Escape");
  assert.equal(await page.locator("details.menu[open]").count(), 0);
  assert.match(await page.evaluate(() => document.activeElement.textContent), /^Scores/);
  await page.getByRole("button", { name: "CLIP-I", exact: true }).focus();
  await page.keyboard.press("Enter");
  await page.locator("th[aria-sort=descending]").waitFor();
  await made.close();
});

test("a trial's pictures beside the base's; its log", async () => {
  const { made, page } = await signedIn();
  await show(page, "/sweeps/small/trials/3");
  for (const title of ["The training pictures", "This trial", "The untuned base"]) {
    const picture = page.locator("figure", { hasText: title }).locator("img");
    await picture.waitFor();
    await until(`${title}: a picture`, () => picture.evaluate((image) => image.complete && image.naturalWidth > 0));
  }
  assert.match(await page.getByRole("log").textContent(), /warning the base <b>is<\/b> being loaded/);
  await made.close();
});

test("no token: nothing is shown; a wrong one is refused", async () => {
  const made = await browser.newContext();
  const page = await made.newPage();
  await page.goto(service.url + "/#/sweeps/small");
  await page.getByLabel("Token").fill("wrong-" + "0".repeat(40));
  assert.equal(await page.getByText("Where an adapter reads").count(), 0);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("alert").waitFor();
  await page.getByLabel("Token").fill(service.token);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByText("Where an adapter reads").waitFor();
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("Token").waitFor();
  await made.close();
});

test("hostile names are text", async () => {
  const evil = '<img src=x onerror="window.pwned=1">';
  await service.create("evil", {
    factors: { "method.input": ["SA_in", "CA_in"], "task.class_prompt": [evil, "a \u202ephoto", "'; DROP TABLE trials; --"] },
    displayName: `</title><script>window.pwned=1</script>${evil}`, settings: { "method.output": "FFN_in" },
  });
  await service.untilDone("evil");
  const { made, page } = await signedIn();
  for (const hash of ["/", "/sweeps/evil", "/sweeps/evil/table", "/sweeps/evil/design", "/sweeps/evil/curves", "/sweeps/evil/trials/0", `/sweeps/${encodeURIComponent(evil)}`, `/compare/evil/small`]) {
    await show(page, hash);
    await page.waitForTimeout(300);
    assert.equal(await page.evaluate(() => globalThis.pwned), undefined, hash);
    assert.equal(await page.locator("img[src=x], main script").count(), 0, hash);
    assert.equal((await page.locator("body").textContent()).includes("\u202e"), false, hash);
  }
  await made.close();
});

test("a file with a mistake says where; a good one runs", async () => {
  const { made, page } = await signedIn();
  await show(page, "/new");
  const good = "name: from-page\nbase: /base\nscorer: /scorer\ntask: {images: /images, instance_prompt: a photo of sks, class_prompt: a photo of cat face}\nmethod: {width: 8}\nbudget: {steps: 5}\nfactors:\n  input: [SA_in, CA_in]\n  output: [FFN_in, Trans_out]\nreplicates: 2\n";
  await page.getByLabel("Sweep file").fill(good.replace("input:", "imput:"));
  await page.locator(".violations, .problem").first().waitFor();
  assert.match(await page.locator(".violations, .problem").first().textContent(), /imput/);
  assert.equal(await page.getByRole("button", { name: /^Submit/ }).isDisabled(), true);
  await page.getByLabel("Sweep file").fill(good);
  // Of a kind that has run before, and then of one that has not.
  await page.getByText(/the median of \d+ finished trials/).waitFor();
  await page.getByLabel("Sweep file").fill(good.replace("steps: 5", "steps: 5, batch: 3"));
  await page.getByText("Unknown: no finished trial of this kind").waitFor();
  await page.getByLabel("Sweep file").fill(good);
  await page.getByText(/the median of/).waitFor();
  await page.getByRole("button", { name: "Submit 8 trials" }).click();
  await page.getByRole("heading", { name: "from-page" }).waitFor();
  await until("eight results", async () => (await page.locator(".figures").textContent()).includes("8 of 8"));
  await made.close();
});

test("a clone has the paths of its sweep", async () => {
  const text = "name: relative\nbase: bases/small\nscorer: /scorer\ntask: {images: /images, instance_prompt: a photo of sks, class_prompt: a photo of cat face}\nmethod: {width: 8}\nbudget: {steps: 5}\nfactors:\n  input: [SA_in, CA_in]\n  output: [FFN_in, Trans_out]\n";
  await service.call("SweepService/CreateSweep", { file: { text, fileName: "relative.yaml", workingDirectory: "/some/where" } });
  const { made, page } = await signedIn();
  await show(page, "/sweeps/relative");
  await page.getByRole("link", { name: "Clone and change" }).click();
  await page.getByText("/some/where").waitFor();
  await page.getByRole("button", { name: "Submit 4 trials" }).click();
  await page.getByRole("heading", { name: "relative-2" }).waitFor();
  assert.equal((await service.sweep("relative-2")).spec.settings.base, "/some/where/bases/small");
  await made.close();
});

test("a restart while open: nothing is lost or doubled", async () => {
  const { made, page } = await signedIn();
  for (const worker of service.workers.splice(0)) worker.kill("SIGTERM");
  service.startWorker("slow", "--seconds", "0.1");
  await service.create("long", { factors: { "method.input": ["SA_in", "CA_in", "CA_out"], "method.output": ["FFN_in", "Trans_out"], "method.scale": [1, 2, 3, 4, 5, 6, 7, 8] }, replicates: 2 });
  await show(page, "/sweeps/long");
  const done = async () => Number((await page.locator(".figure").first().locator("dd").textContent()).replace(/ of.*/, ""));
  await until("some trials", async () => (await done()) > 5);
  await page.getByText("not final").waitFor();
  await service.stop();
  await page.getByRole("status").getByText("The coordinator does not answer").waitFor();
  const before = await done();
  await service.start();
  await page.locator(".live-live").waitFor();
  await until("more trials", async () => (await done()) > before);
  await service.untilDone("long");
  await until("all of them", async () => (await page.locator(".figures").textContent()).includes("96 of 96"));
  await until("the heat map's last", async () => (await page.locator(".heat td small").allTextContents()).reduce((sum, text) => sum + Number(text.replace(/\D/g, "")), 0) === 96);
  assert.deepEqual(complaints.splice(0), []);
  await made.close();
});

// Failed trials that are tried again after the sweep's end: the page hears of them.
test("a sweep that has ended goes on", async () => {
  const { made, page } = await signedIn();
  for (const worker of service.workers.splice(0)) worker.kill("SIGTERM");
  const failing = service.startWorker("failing", "--failure-rate", "1");
  await service.create("again", { factors: { "method.input": ["SA_in", "CA_in"] }, settings: { "method.output": "FFN_in" } });
  await show(page, "/sweeps/again");
  await page.getByRole("button", { name: "Retry 4 failed" }).waitFor({ timeout: 30000 });
  failing.kill("SIGTERM");
  service.startWorker("mended");
  await page.getByRole("button", { name: "Retry 4 failed" }).click();
  await until("four results", async () => (await page.locator(".heat td small, .figures").allTextContents()).join(" ").includes("4 of 4") && (await page.getByRole("button", { name: /^Retry/ }).count()) === 0);
  await page.locator("h1 .state-completed").waitFor();
  assert.deepEqual(complaints.splice(0), []);
  await made.close();
});

// Each change is told by an event: the table is loaded when the stream begins, and once more for the first result, which has columns
// that it did not have.
test("results come without loading all trials again", async () => {
  const { made, page } = await signedIn();
  let loads = 0;
  page.on("request", (request) => { if (request.url().endsWith("/GetTrialTable")) ++loads; });
  for (const worker of service.workers.splice(0)) worker.kill("SIGTERM");
  await service.create("told", { factors: { "method.input": ["SA_in", "CA_in", "CA_out"], "method.output": ["FFN_in", "Trans_out"] }, replicates: 4 });
  await show(page, "/sweeps/told/table?sort=-clip_i");
  await page.getByText("24 of 24 trials").waitFor();
  service.startWorker("teller", "--seconds", "0.1");
  await service.untilDone("told");
  await until("all results", async () => (await page.locator("tbody .state-succeeded").count()) === 24);
  assert.equal(loads <= 3, true, `the table was loaded ${loads} times`);
  const best = (await service.call("ViewService/GetSweepDigest", { name: "sweeps/told" })).bestTrial;
  assert.equal(await page.locator("tbody tr").first().locator("th a").textContent(), best.split("/").at(-1));
  assert.deepEqual(complaints.splice(0), []);
  await made.close();
});

test("pause, resume and cancel", async () => {
  const { made, page } = await signedIn();
  await service.create("verbs", { factors: { "method.input": ["SA_in", "CA_in"], "method.output": ["FFN_in"], "method.scale": Array.from({ length: 40 }, (_, i) => i + 1) }, replicates: 4 });
  await show(page, "/sweeps/verbs");
  await page.getByRole("button", { name: "Pause" }).click();
  await page.locator("h1 .state-paused").waitFor();
  await page.getByRole("button", { name: "Resume" }).click();
  await page.locator("h1 .state-active").waitFor();
  await page.getByRole("button", { name: "Cancel…" }).click();
  await page.getByRole("button", { name: "Cancel the sweep" }).click();
  await page.locator("h1 .state-cancelled").waitFor();
  await made.close();
});

test("100,000 trials: loaded, brushed, grouped over all", async () => {
  for (const worker of service.workers.splice(0)) worker.kill("SIGTERM");
  await service.create("huge", { factors: { "method.input": ["SA_in", "CA_in", "CA_out"], "method.scale": Array.from({ length: 20 }, (_, i) => i + 1), "train.learning_rate": Array.from({ length: 21 }, (_, i) => `${i + 1}e-4`), "method.width": [4, 8, 12, 16, 20, 24, 28, 32, 36, 40] }, settings: { "method.output": "Trans_out" }, replicates: 8 });
  await until("its trials to be stored", async () => (await service.sweep("huge")).state === "ACTIVE", 120);
  await service.stop();
  service.fill("huge");
  await service.start();
  const { made, page } = await signedIn();
  const started = Date.now();
  await show(page, "/sweeps/huge/table");
  await page.getByText("of 100,800 trials").waitFor();
  console.log(`# 100,800 trials shown after ${Date.now() - started} ms`);
  // Brush: the right half of the first score's axis.
  const box = await page.locator("canvas.parallel").boundingBox();
  const axes = 4 + 4;
  const x = box.x + 46 + (4 / (axes - 1)) * (box.width - 92);
  await page.mouse.move(x, box.y + 40);
  await page.mouse.down();
  await page.mouse.move(x, box.y + 120, { steps: 4 });
  const released = Date.now();
  await page.mouse.up();
  await page.locator(".chip").waitFor();
  const kept = await until("fewer trials", async () => { const n = Number((await page.locator(".card h2", { hasText: "trials" }).textContent()).replace(/ of.*/, "").replaceAll(",", "")); return n < 100800 && n > 0 && n; });
  console.log(`# brushed to ${kept} trials ${Date.now() - released} ms after the button was let go`);
  await page.getByRole("button", { name: "Clear filters" }).click();
  await show(page, "/sweeps/huge/table?group=input");
  const total = (await page.locator("tbody tr td:nth-child(2)").allTextContents()).reduce((sum, text) => sum + Number(text.replaceAll(",", "")), 0);
  const missing = (await page.locator("tbody tr td:nth-child(3)").allTextContents()).reduce((sum, text) => sum + Number(text.replaceAll(",", "")), 0);
  assert.equal(total + missing, 100800);
  assert.equal(missing, 100);
  // The page says its mean over all; so does the coordinator.
  const digest = await service.call("ViewService/GetSweepDigest", { name: "sweeps/huge" });
  assert.equal(Number(digest.results), total);
  await page.getByText(`mean CLIP-I ${digest.mean.toPrecision(4)}`).waitFor();
  await show(page, "/sweeps/huge");
  await page.getByRole("region", { name: "F table" }).waitFor({ timeout: 300000 });
  console.log(`# the F table after ${Date.now() - started} ms`);
  assert.deepEqual(complaints.splice(0), []);
  await made.close();
});
