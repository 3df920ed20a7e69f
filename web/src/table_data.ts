// All trials of a sweep as columns in memory, and what is computed over them: filters, groups, order. 100,000 trials take some
// milliseconds each; nothing here ever looks at a part only.
import { callBytes } from "./api";
import { lastPart } from "./format";
import { tQuantile } from "./student";
import { trialStates, type Trial } from "./types";
import { doubles, fieldsOf, floats, messageOf, textOf, uint32s } from "./wire";

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
  // After which step training was ended early, by a search; 0: not.
  stopped: Uint32Array;
  primary: string;
}

// The level of a factor that a cell does not have.
export const absent = 0xffffffff;

interface Page {
  total: number; first: number; rows: number; primary: string; factors: FactorColumn[]; scores: ScoreColumn[];
  states: Uint8Array; cells: Uint32Array; replicates: Uint32Array; seconds: Float32Array; stopped: Uint32Array;
}

// loupe.v1.GetTrialTableResponse: field numbers as in view.proto.
function readPage(bytes: Uint8Array): Page {
  const none = new Uint8Array();
  const page: Page = { total: 0, first: 0, rows: 0, primary: "", factors: [], scores: [], states: none, cells: new Uint32Array(), replicates: new Uint32Array(), seconds: new Float32Array(), stopped: new Uint32Array() };
  for (const [field, value] of fieldsOf(bytes)) {
    if (field === 1) page.total = value as number;
    else if (field === 2) page.first = value as number;
    else if (field === 3) page.rows = value as number;
    else if (field === 4) {
      const factor: FactorColumn = { name: "", key: "", levels: [], column: new Uint32Array() };
      for (const [part, inner] of fieldsOf(value as Uint8Array)) {
        if (part === 1) factor.name = textOf(inner);
        else if (part === 2) factor.key = textOf(inner);
        else if (part === 3) factor.levels.push(textOf(inner));
        else if (part === 4) factor.column = uint32s(inner);
      }
      page.factors.push(factor);
    } else if (field === 5) {
      const score: ScoreColumn = { name: "", title: "", smallerIsBetter: false, column: new Float64Array() };
      for (const [part, inner] of fieldsOf(value as Uint8Array)) {
        if (part === 1) score.name = textOf(inner);
        else if (part === 2) score.title = textOf(inner);
        else if (part === 3) score.smallerIsBetter = inner === 1;
        else if (part === 4) score.column = doubles(inner);
      }
      page.scores.push(score);
    } else if (field === 6) page.states = value as Uint8Array;
    else if (field === 7) page.cells = uint32s(value);
    else if (field === 8) page.replicates = uint32s(value);
    else if (field === 9) page.seconds = floats(value);
    else if (field === 10) page.primary = textOf(value);
    else if (field === 12) page.stopped = uint32s(value);
  }
  return page;
}

// Pages under way at once: the coordinator reads one while the browser takes in another.
const atOnce = 3;

export async function loadTable(sweep: string, signal?: AbortSignal, progress?: (share: number) => void): Promise<TrialTable> {
  const pageFrom = async (index: number) => readPage(await callBytes("ViewService/GetTrialTable", messageOf([[1, sweep], [4, index]]), signal));
  const first = await pageFrom(0);
  const { total } = first;
  const table: TrialTable = {
    total, scores: [], primary: first.primary, states: new Uint8Array(total).fill(1), cells: new Uint32Array(total),
    replicates: new Uint32Array(total), seconds: new Float32Array(total).fill(NaN), stopped: new Uint32Array(total),
    factors: first.factors.map((factor) => ({ ...factor, column: new Uint32Array(total).fill(absent) })),
  };
  const scores = new Map<string, ScoreColumn>();
  let taken = 0;
  const take = (page: Page) => {
    table.states.set(page.states, page.first);
    table.cells.set(page.cells, page.first);
    table.replicates.set(page.replicates, page.first);
    table.seconds.set(page.seconds, page.first);
    table.stopped.set(page.stopped, page.first);
    page.factors.forEach((factor, i) => table.factors[i].column.set(factor.column, page.first));
    for (const score of page.scores) {
      let known = scores.get(score.name);
      if (!known) {
        known = { ...score, title: score.title || score.name, column: new Float64Array(total).fill(NaN) };
        scores.set(score.name, known);
      }
      known.column.set(score.column, page.first);
    }
    taken += page.rows;
    progress?.(Math.min(1, taken / Math.max(1, total)));
  };
  take(first);
  // The others are asked for by their place, as long as the first one; a page that is shorter, because its rows have grown, is asked
  // for the rest.
  let next = first.rows, step = first.rows;
  await Promise.all(Array.from({ length: atOnce }, async () => {
    while (step > 0 && next < total) {
      let index = next;
      const end = next = Math.min(total, index + step);
      while (index < end) {
        const page = await pageFrom(index);
        if (!page.rows) { next = total; return; }  // of a sweep that is being made: the rest is not there yet
        take(page);
        index += page.rows;
        step = Math.max(step, page.rows);
      }
      next = Math.max(next, index);
    }
  }));
  table.scores = [...scores.values()].sort((a, b) => Number(b.name === table.primary) - Number(a.name === table.primary) || a.name.localeCompare(b.name));
  return table;
}

// Takes trials as an event tells them into the table's columns; false when one has a score that the table has no column for.
export function takeTrials(table: TrialTable, trials: Iterable<Trial>): boolean {
  const columns = new Map(table.scores.map((score) => [score.name, score.column]));
  let whole = true;
  for (const trial of trials) {
    const row = Number(lastPart(trial.name));
    if (!(row < table.total)) { whole = false; continue; }
    table.states[row] = Math.max(0, trialStates.indexOf((trial.state ?? "UNSPECIFIED") as (typeof trialStates)[number]));
    table.seconds[row] = trial.startTime && trial.endTime ? (Date.parse(trial.endTime) - Date.parse(trial.startTime)) / 1000 : NaN;
    table.stopped[row] = Number(trial.stoppedAtStep ?? 0);
    for (const [name, column] of columns) column[row] = Number(trial.scores?.[name] ?? NaN);
    for (const name of Object.keys(trial.scores ?? {})) whole &&= columns.has(name);
  }
  return whole;
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

// The two factors that one looks at first: what is read and written where both vary, or else the pair that most trials have.
export function firstPair(table: TrialTable): [string, string] {
  const varied = table.factors.filter((factor) => factor.levels.length > 1);
  const named = (name: string) => varied.some((factor) => factor.name === name);
  if (named("input") && named("output")) return ["input", "output"];
  let best: [string, string] = [table.factors[0]?.name ?? "", table.factors[1]?.name ?? ""];
  let most = 0;
  varied.forEach((one, i) => varied.slice(i + 1).forEach((other) => {
    if (one.name === "method") return;  // methods have a table of their own
    let both = 0;
    for (let row = 0; row < table.total; ++row) if (one.column[row] !== absent && other.column[row] !== absent) ++both;
    if (both > most) { most = both; best = [one.name, other.name]; }
  }));
  return best;
}

export const anyStopped = (table: TrialTable): boolean => table.stopped.some((step) => step > 0);

// The score as means are made of it: trials that a search ended early had a part of their budget only, and are as if they had none,
// unless they are asked for. The report does the same.
export function measured(table: TrialTable, score: ScoreColumn | undefined, early: boolean): ScoreColumn | undefined {
  if (!score || early || !anyStopped(table)) return score;
  return { ...score, column: score.column.map((value, row) => (table.stopped[row] ? NaN : value)) };
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
