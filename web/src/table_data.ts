// All trials of a sweep as columns in memory, and what is computed over them: filters, groups, order. 100,000 trials take some
// milliseconds each; nothing here ever looks at a part only.
import { call } from "./api";
import { int } from "./format";
import { tQuantile } from "./student";
import type { TrialTablePage } from "./types";

export interface FactorColumn { name: string; key: string; levels: string[]; column: Uint32Array }
export interface ScoreColumn { name: string; title: string; smallerIsBetter: boolean; column: Float64Array }
export interface TrialTable {
  total: number;
  factors: FactorColumn[];
  scores: ScoreColumn[];
  states: Uint8Array;
  cells: Uint32Array;
  replicates: Uint32Array;
  seconds: Float32Array;
  primary: string;
}

// The level of a factor that a cell does not have.
export const absent = 0xffffffff;

function decode(text: string | undefined): ArrayBuffer {
  const raw = atob(text ?? "");
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; ++i) bytes[i] = raw.charCodeAt(i);
  return bytes.buffer;
}

export async function loadTable(sweep: string, signal?: AbortSignal, progress?: (share: number) => void): Promise<TrialTable> {
  let table: TrialTable | undefined;
  let token = "";
  let scores = new Map<string, ScoreColumn>();
  do {
    const page = await call<TrialTablePage>("ViewService/GetTrialTable", { parent: sweep, pageToken: token }, signal);
    const total = int(page.total);
    if (!table) {
      table = {
        total, scores: [], primary: page.primaryScore ?? "", states: new Uint8Array(total).fill(1), cells: new Uint32Array(total),
        replicates: new Uint32Array(total), seconds: new Float32Array(total).fill(NaN),
        factors: (page.factors ?? []).map((f) => ({ name: f.name, key: f.key, levels: f.levels ?? [], column: new Uint32Array(total).fill(absent) })),
      };
    }
    const first = int(page.firstIndex);
    table.states.set(new Uint8Array(decode(page.states)), first);
    table.cells.set(new Uint32Array(decode(page.cells)), first);
    table.replicates.set(new Uint32Array(decode(page.replicates)), first);
    table.seconds.set(new Float32Array(decode(page.seconds)), first);
    page.factors?.forEach((factor, i) => table!.factors[i].column.set(new Uint32Array(decode(factor.column)), first));
    for (const score of page.scores ?? []) {
      let known = scores.get(score.name);
      if (!known) {
        known = { name: score.name, title: score.title || score.name, smallerIsBetter: !!score.smallerIsBetter, column: new Float64Array(total).fill(NaN) };
        scores.set(score.name, known);
      }
      known.column.set(new Float64Array(decode(score.column)), first);
    }
    progress?.((first + int(page.rows)) / Math.max(1, total));
    token = page.nextPageToken ?? "";
  } while (token);
  table.scores = [...scores.values()].sort((a, b) => Number(b.name === table!.primary) - Number(a.name === table!.primary) || a.name.localeCompare(b.name));
  return table;
}

// What the reader has asked to see: levels of factors, ranges of scores, states. Empty: everything.
export interface Filter { levels: Map<string, Set<string>>; ranges: Map<string, [number, number]>; states: Set<number> }

export function readFilter(query: URLSearchParams): Filter {
  const filter: Filter = { levels: new Map(), ranges: new Map(), states: new Set() };
  for (const [key, value] of query) {
    if (key.startsWith("f.")) filter.levels.set(key.slice(2), new Set(value.split("|").map(decodeURIComponent)));
    if (key.startsWith("r.")) {
      const [low, high] = value.split("..").map(Number);
      if (low <= high) filter.ranges.set(key.slice(2), [low, high]);
    }
    if (key === "state") for (const state of value.split(",")) filter.states.add(Number(state));
  }
  return filter;
}
export const levelsQuery = (levels: Iterable<string>): string => [...levels].map(encodeURIComponent).join("|");

export function select(table: TrialTable, filter: Filter): Uint32Array {
  const n = table.total;
  const keep = new Uint8Array(n).fill(1);
  for (const [name, wanted] of filter.levels) {
    const factor = table.factors.find((f) => f.name === name);
    if (!factor) continue;
    const passes = factor.levels.map((level) => wanted.has(level));
    const none = wanted.has("");
    for (let i = 0; i < n; ++i) if (!(factor.column[i] === absent ? none : passes[factor.column[i]])) keep[i] = 0;
  }
  for (const [name, [low, high]] of filter.ranges) {
    const column = table.scores.find((s) => s.name === name)?.column;
    if (column) for (let i = 0; i < n; ++i) if (!(column[i] >= low && column[i] <= high)) keep[i] = 0;
  }
  if (filter.states.size) for (let i = 0; i < n; ++i) if (!filter.states.has(table.states[i])) keep[i] = 0;
  let count = 0;
  for (let i = 0; i < n; ++i) count += keep[i];
  const rows = new Uint32Array(count);
  for (let i = 0, at = 0; i < n; ++i) if (keep[i]) rows[at++] = i;
  return rows;
}

export interface Summary { n: number; missing: number; mean: number; sd: number; low: number; high: number; min: number; max: number }
export interface Group { levels: (string | null)[]; rows: number; summary: Summary }

// Mean of a score over rows with a t interval of its own; rows without the score are counted as missing, never as 0.
export function summarise(column: Float64Array | undefined, rows: ArrayLike<number>): Summary {
  let n = 0, mean = 0, squares = 0, min = Infinity, max = -Infinity;
  for (let i = 0; i < rows.length; ++i) {
    const value = column ? column[rows[i]] : NaN;
    if (Number.isNaN(value)) continue;
    ++n;
    const delta = value - mean;  // Welford's update
    mean += delta / n;
    squares += delta * (value - mean);
    if (value < min) min = value;
    if (value > max) max = value;
  }
  const sd = n > 1 ? Math.sqrt(squares / (n - 1)) : NaN;
  const half = n > 1 ? tQuantile(0.975, n - 1) * sd / Math.sqrt(n) : NaN;
  const none = n === 0;
  return { n, missing: rows.length - n, mean: none ? NaN : mean, sd, low: mean - half, high: mean + half, min: none ? NaN : min, max: none ? NaN : max };
}

export function groupBy(rows: Uint32Array, factors: FactorColumn[], score: ScoreColumn | undefined): Group[] {
  const groups = new Map<string, number[]>();
  for (const row of rows) {
    let key = "";
    for (const factor of factors) key += factor.column[row] + ",";
    const members = groups.get(key);
    members ? members.push(row) : groups.set(key, [row]);
  }
  return [...groups.values()].map((members) => ({
    levels: factors.map((factor) => (factor.column[members[0]] === absent ? null : factor.levels[factor.column[members[0]]])),
    rows: members.length, summary: summarise(score?.column, members),
  }));
}

// Rows in the order of a column; what is missing comes last in either direction.
export function sortRows(rows: Uint32Array, value: (row: number) => number, descending: boolean): Uint32Array {
  const keys = new Float64Array(rows.length);
  for (let i = 0; i < rows.length; ++i) keys[i] = value(rows[i]);
  const order = Uint32Array.from(rows.keys());
  const sign = descending ? -1 : 1;
  order.sort((a, b) => {
    const x = keys[a], y = keys[b];
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) === Number.isNaN(y) ? a - b : Number.isNaN(x) ? 1 : -1;
    return x === y ? a - b : sign * (x - y);
  });
  return order.map((i) => rows[i]);
}
