// Two sweeps beside each other: what differs in their files, and the cells that both have run.
import { useMemo } from "preact/hooks";
import { call } from "../api";
import { Explain } from "../explain";
import { count, lastPart, number, printable } from "../format";
import { useLoaded } from "../live";
import { Choice, Problem, State, Text } from "../parts";
import { go, link, setQuery, type Route } from "../route";
import { groupBy, loadTable, measured, select, type TrialTable } from "../table_data";
import type { Spec, Sweep } from "../types";

function facts(spec: Spec | undefined): Map<string, string> {
  const all = new Map<string, string>(Object.entries(spec?.settings ?? {}));
  for (const factor of spec?.factors ?? []) all.set(factor.key, (factor.levels ?? []).join(", "));
  for (const method of spec?.methods ?? []) all.set(`method ${method.label}`, (method.factors ?? []).map((factor) => `${factor.key}: ${(factor.levels ?? []).join(", ")}`).join("; "));
  all.set("replicates", String(spec?.replicates ?? 1));
  all.set("seed", String(spec?.seed ?? 0));
  return all;
}

// Spearman's ρ, ties at their mean rank.
export function spearman(x: number[], y: number[]): number {
  const ranks = (values: number[]) => {
    const order = values.map((_, i) => i).sort((a, b) => values[a] - values[b]);
    const rank = new Array<number>(values.length);
    for (let i = 0; i < order.length; ) {
      let j = i;
      while (j + 1 < order.length && values[order[j + 1]] === values[order[i]]) ++j;
      for (let k = i; k <= j; ++k) rank[order[k]] = (i + j) / 2 + 1;
      i = j + 1;
    }
    return rank;
  };
  const a = ranks(x), b = ranks(y), mean = (x.length + 1) / 2;
  let ab = 0, aa = 0, bb = 0;
  for (let i = 0; i < a.length; ++i) { ab += (a[i] - mean) * (b[i] - mean); aa += (a[i] - mean) ** 2; bb += (b[i] - mean) ** 2; }
  return ab / Math.sqrt(aa * bb);
}

export function ComparePage({ route }: { route: Route }) {
  const [, first, second] = route.parts;
  const list = useLoaded((signal) => call<{ sweeps?: Sweep[] }>("SweepService/ListSweeps", { pageSize: 200 }, signal), []);
  const both = useLoaded(async (signal) => (!first || !second ? undefined : {
    sweeps: await Promise.all([first, second].map((id) => call<Sweep>("SweepService/GetSweep", { name: `sweeps/${id}` }, signal))),
    tables: await Promise.all([first, second].map((id) => loadTable(`sweeps/${id}`, signal))),
  }), [first, second]);
  const names = (list.value?.sweeps ?? []).map((sweep) => lastPart(sweep.name));
  const options = (chosen: string | undefined) => [{ value: "", text: "choose…" }, ...[...new Set([...names, ...(chosen ? [chosen] : [])])].map((name) => ({ value: name, text: name }))];
  const [one, two] = both.value?.tables ?? [];
  const shared = one && two ? one.scores.filter((score) => !score.name.endsWith("_base") && two.scores.some((other) => other.name === score.name)).map((score) => score.name) : [];
  const score = route.query.get("score") ?? (one && shared.includes(one.primary) ? one.primary : shared[0] ?? "");
  const cells = useMemo(() => (one && two && score ? sharedCells(one, two, score) : []), [one, two, score]);
  const [a, b] = both.value?.sweeps ?? [];
  const differences = useMemo(() => {
    if (!a || !b) return [];
    const x = facts(a.spec), y = facts(b.spec);
    return [...new Set([...x.keys(), ...y.keys()])].sort().filter((key) => x.get(key) !== y.get(key)).map((key) => ({ key, x: x.get(key), y: y.get(key) }));
  }, [a, b]);
  return (
    <>
      <div class="bar"><h1>Compare two sweeps</h1></div>
      <div class="bar tools"><Choice label="this" value={first ?? ""} options={options(first)} onChange={(value) => go(link(["compare", value, ...(second ? [second] : [])]))} /><Choice label="with" value={second ?? ""} options={options(second)} onChange={(value) => go(link(["compare", first ?? "", value]))} /></div>
      <Problem>{both.error}</Problem>
      {first && second && !both.value && both.loading && <p class="quiet">Loading…</p>}
      {a && b && one && two && (
        <div class="cards">
          <section class="card"><h2>What differs</h2>
            <div class="scroll" tabIndex={0} role="region" aria-label="Differences"><table class="list"><thead><tr><th scope="col">Key</th>{[a, b].map((sweep) => <th scope="col" key={sweep.name}><a href={link(["sweeps", lastPart(sweep.name)])}><Text>{lastPart(sweep.name)}</Text></a> <State state={sweep.state} /></th>)}</tr></thead>
              <tbody>{differences.map((row) => <tr key={row.key}><th scope="row"><Text>{row.key}</Text></th><td>{row.x === undefined ? <i class="quiet">not given</i> : printable(row.x)}</td><td>{row.y === undefined ? <i class="quiet">not given</i> : printable(row.y)}</td></tr>)}</tbody></table></div>
            {!differences.length && <p class="quiet">Nothing: settings, factors, seed and replicates are the same.</p>}</section>
          <section class="card">
            <div class="bar"><h2>Cells that both have run</h2><span class="spacer" />{shared.length > 0 && <Choice label="Score" value={score} options={shared.map((name) => ({ value: name, text: name }))} onChange={(value) => setQuery(route, { score: value })} />}</div>
            {cells.length > 2 && <p>Rank correlation (Spearman's ρ) over {count(cells.length)} cells: <b>{number(spearman(cells.map((cell) => cell.x), cells.map((cell) => cell.y)), 3)}</b> <Explain about="rho" /></p>}
            {cells.length ? <div class="scroll" tabIndex={0} role="region" aria-label="Cells"><table class="numbers"><thead><tr><th scope="col">Cell</th><th scope="col"><Text>{first}</Text></th><th scope="col"><Text>{second}</Text></th><th scope="col">difference</th></tr></thead>
              <tbody>{cells.slice(0, 200).map((cell) => <tr key={cell.name}><th scope="row"><Text>{cell.name}</Text></th><td>{number(cell.x)} <small class="quiet">n={cell.nx}</small></td><td>{number(cell.y)} <small class="quiet">n={cell.ny}</small></td><td>{number(cell.y - cell.x, 3)}</td></tr>)}</tbody></table></div> : <p class="quiet">They have no cell with results in common.</p>}
            {cells.length > 200 && <p class="quiet">The 200 furthest apart of {count(cells.length)}.</p>}
          </section>
        </div>
      )}
    </>
  );
}

interface SharedCell { name: string; x: number; y: number; nx: number; ny: number }

// Means by the factors that both have; furthest apart first.
function sharedCells(one: TrialTable, two: TrialTable, score: string): SharedCell[] {
  const everything = { levels: new Map(), ranges: new Map(), states: new Set<number>() };
  const names = one.factors.map((factor) => factor.name).filter((name) => two.factors.some((factor) => factor.name === name));
  const means = (table: TrialTable) => new Map(groupBy(select(table, everything), names.map((name) => table.factors.find((factor) => factor.name === name)!), measured(table, table.scores.find((s) => s.name === score), false))
    .filter((group) => group.summary.n > 0).map((group) => [names.map((name, i) => (group.levels[i] === null ? "" : `${name}=${group.levels[i]}`)).filter(Boolean).join(", "), group.summary]));
  const other = means(two);
  return [...means(one)].filter(([name]) => other.has(name)).map(([name, summary]) => ({ name: name || "all", x: summary.mean, y: other.get(name)!.mean, nx: summary.n, ny: other.get(name)!.n }))
    .sort((p, q) => Math.abs(q.y - q.x) - Math.abs(p.y - p.x));
}
