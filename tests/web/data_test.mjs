// What the page computes itself, without a browser: its sources, bundled as they are.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { after, before, test } from "node:test";
import { build } from "../../web/node_modules/esbuild/lib/main.js";

const sources = join(dirname(fileURLToPath(import.meta.url)), "../../web/src");
const folder = mkdtempSync(join(tmpdir(), "loupe-page-data-"));
const page = {};

before(async () => {
  for (const name of ["wire", "table_data", "curve_means", "scores", "student"]) {
    const outfile = join(folder, `${name}.mjs`);
    await build({ entryPoints: [join(sources, `${name}.ts`)], outfile, bundle: true, format: "esm", logLevel: "error" });
    Object.assign(page, await import(outfile));
  }
});
after(() => rmSync(folder, { recursive: true, force: true }));

test("protobuf's bytes are read and written", () => {
  // protoc --encode=loupe.v1.GetTrialTableRequest of parent: "sweeps/a" first_index: 20000
  const bytes = Uint8Array.from(Buffer.from("0a087377656570732f6120a09c01", "hex"));
  assert.deepEqual(page.messageOf([[1, "sweeps/a"], [4, 20000]]), bytes);
  const [[name, text], [place, index]] = page.fieldsOf(bytes);
  assert.deepEqual([name, page.textOf(text), place, index], [1, "sweeps/a", 4, 20000]);
  assert.deepEqual(page.messageOf([[1, ""], [4, 0]]).length, 0);
  assert.throws(() => [...page.fieldsOf(bytes.subarray(0, 6))], /cut off/);
  // float64 1.5, behind a field of another length: not where a number may begin.
  assert.deepEqual([...page.doubles([...page.fieldsOf(Uint8Array.from([10, 1, 120, 18, 8, 0, 0, 0, 0, 0, 0, 248, 63]))][1][1])], [1.5]);
});

test("events change the rows that they name", () => {
  const table = {
    total: 3, factors: [], primary: "a", states: Uint8Array.from([1, 2, 3]), cells: new Uint32Array(3), replicates: new Uint32Array(3),
    seconds: new Float32Array(3).fill(NaN), stopped: new Uint32Array(3), scores: [{ name: "a", title: "A", smallerIsBetter: false, column: Float64Array.from([NaN, NaN, 7]) }],
  };
  const done = { name: "sweeps/s/trials/1", state: "SUCCEEDED", scores: { a: 0.5 }, startTime: "2026-01-01T00:00:00Z", endTime: "2026-01-01T00:00:04.500Z" };
  assert.equal(page.takeTrials(table, [done, { name: "sweeps/s/trials/2", state: "QUEUED" }]), true);
  assert.deepEqual([...table.states], [1, 3, 1]);
  assert.deepEqual([...table.scores[0].column], [NaN, 0.5, NaN]);
  assert.equal(table.seconds[1], 4.5);
  assert.equal(page.takeTrials(table, [{ ...done, scores: { a: 1, b: 2 } }]), false, "a score without a column: the table is to be read again");
});

test("trials ended early are left out of means", () => {
  const score = { name: "a", title: "A", smallerIsBetter: false, column: Float64Array.from([1, 2, 3]) };
  const table = { total: 3, stopped: Uint32Array.from([0, 40, 0]) };
  assert.deepEqual([...page.measured(table, score, false).column], [1, NaN, 3]);
  assert.equal(page.measured(table, score, true), score);
});

test("means of curves have Student's intervals", () => {
  const curve = (steps, means) => ({ steps, means });
  const means = page.meanCurves([curve([1, 2], [1, 4]), curve([1, 2], [3, 8]), curve([1], [2]), curve([1, 3], [9, 9])], (one) => (one.means[0] === 9 ? 1 : 0));
  const first = means.get(0);
  assert.deepEqual(first.steps, [1, 2]);
  assert.deepEqual(first.means, [2, 6]);
  // R: t.test(c(1, 3, 2))$conf.int, t.test(c(4, 8))$conf.int
  assert.ok(Math.abs(first.lows[0] - -0.4841377) < 1e-6 && Math.abs(first.highs[1] - 31.41241) < 1e-4, `${first.lows} ${first.highs}`);
  assert.deepEqual(means.get(1).lows, [9, 9], "of one curve there is no spread");
});

test("every score has a sentence", () => {
  for (const name of ["clip_i", "clip_fid_class", "dino_nearest", "kid_sd", "clip_t_base", "dino_pres"]) assert.doesNotMatch(page.sentenceOfScore(name), /docs\/metrics|undefined/, name);
  assert.match(page.sentenceOfScore("of_my_own"), /docs\/metrics/);
});
