// The trials: parallel coordinates to brush, filters, groups, and a table of rows or of groups. All of it over all trials.
import { useMemo, useState } from "preact/hooks";
import { Parallel } from "../charts/parallel";
import { Title, Explain } from "../explain";
import { count, number, printable, span, stateWord } from "../format";
import { Choice, Early, State } from "../parts";
import { link, setQuery, type Route } from "../route";
import { sentenceOfScore } from "../scores";
import { absent, groupBy, levelsQuery, measured, readFilter, select, sortRows, summarise, type TrialTable } from "../table_data";
import { trialStates } from "../types";

const pageRows = 100;

interface SavedView { name: string; query: string }
const viewsKey = "loupe-views";
function savedViews(): SavedView[] {
  try { return JSON.parse(localStorage.getItem(viewsKey) ?? "[]"); } catch { return []; }
}

function Filters({ table, route }: { table: TrialTable; route: Route }) {
  const filter = readFilter(route.query);
  const present = useMemo(() => { const seen = new Set<number>(); for (const state of table.states) seen.add(state); return [...seen].sort(); }, [table]);
  const any = filter.levels.size + filter.ranges.size + filter.states.size > 0;
  const cleared: Record<string, undefined> = {};
  for (const key of route.query.keys()) if (key.startsWith("f.") || key.startsWith("r.") || key === "state") cleared[key] = undefined;
  return (
    <div class="filters">
      {table.factors.filter((factor) => factor.levels.length <= 60).map((factor) => {
        const chosen = filter.levels.get(factor.name);
        return (
          <details key={factor.name} class="menu">
            <summary>{printable(factor.name)}{chosen && <b> {chosen.size}</b>}</summary>
            <fieldset><legend class="hidden">Levels of {printable(factor.name)}</legend>
              {factor.levels.map((level) => (
                <label key={level}><input type="checkbox" checked={!chosen || chosen.has(level)} onChange={() => {
                  const next = new Set(chosen ?? factor.levels);
                  next.has(level) ? next.delete(level) : next.add(level);
                  setQuery(route, { ["f." + factor.name]: next.size === 0 || next.size === factor.levels.length ? undefined : levelsQuery(next), page: undefined });
                }} /> {printable(level)}</label>
              ))}
            </fieldset>
          </details>
        );
      })}
      {present.length > 1 && (
        <Choice label="State" value={[...filter.states].join(",")} options={[{ value: "", text: "all" }, ...present.map((state) => ({ value: String(state), text: stateWord[trialStates[state]] }))]} onChange={(value) => setQuery(route, { state: value, page: undefined })} />
      )}
      {[...filter.ranges].map(([name, [low, high]]) => <button type="button" class="chip" key={name} onClick={() => setQuery(route, { ["r." + name]: undefined })}>{printable(name)} {number(low, 3)} – {number(high, 3)} ✕</button>)}
      {any && <button type="button" class="plain" onClick={() => setQuery(route, cleared)}>Clear filters</button>}
    </div>
  );
}

function Views({ route, sweep }: { route: Route; sweep: string }) {
  const [views, setViews] = useState(savedViews);
  const store = (next: SavedView[]) => { setViews(next); try { localStorage.setItem(viewsKey, JSON.stringify(next)); } catch { /* not kept */ } };
  return (
    <details class="menu">
      <summary>Views</summary>
      <div>
        {views.length === 0 && <p class="quiet">None is saved in this browser.</p>}
        {views.map((view) => <p key={view.name}><a href={link(["sweeps", sweep, "table"], new URLSearchParams(view.query))}>{printable(view.name)}</a> <button type="button" class="plain" aria-label={`Forget ${view.name}`} onClick={() => store(views.filter((other) => other !== view))}>✕</button></p>)}
        <form onSubmit={(event) => {
          event.preventDefault();
          const field = (event.currentTarget as HTMLFormElement).elements.namedItem("name") as HTMLInputElement;
          if (field.value) store([...views.filter((view) => view.name !== field.value), { name: field.value, query: route.query.toString() }]);
          field.value = "";
        }}><input name="name" placeholder="Name of this view" aria-label="Name of this view" /> <button type="submit">Save</button></form>
      </div>
    </details>
  );
}

function SortHead({ route, name, text, number: numeric = true, hint }: { route: Route; name: string; text: string; number?: boolean; hint?: preact.ComponentChildren }) {
  const sort = route.query.get("sort") ?? "";
  const up = sort === name, down = sort === "-" + name;
  return (
    <th scope="col" class={numeric ? "num" : "text"} aria-sort={up ? "ascending" : down ? "descending" : undefined}>
      <button type="button" class="sort" onClick={() => setQuery(route, { sort: down ? name : up ? undefined : "-" + name, page: undefined })}>{printable(text)}<span aria-hidden="true">{up ? " ▲" : down ? " ▼" : ""}</span></button>{hint}
    </th>
  );
}

function Pager({ route, page, pages }: { route: Route; page: number; pages: number }) {
  if (pages < 2) return null;
  const to = (n: number) => setQuery(route, { page: n ? String(n + 1) : undefined });
  return (
    <nav class="pager" aria-label="Pages of the table">
      <button type="button" disabled={page === 0} onClick={() => to(0)}>first</button><button type="button" disabled={page === 0} onClick={() => to(page - 1)}>previous</button>
      <label>page <input type="number" min={1} max={pages} value={page + 1} onChange={(event) => to(Math.min(pages, Math.max(1, Number(event.currentTarget.value) || 1)) - 1)} /> of {count(pages)}</label>
      <button type="button" disabled={page + 1 >= pages} onClick={() => to(page + 1)}>next</button><button type="button" disabled={page + 1 >= pages} onClick={() => to(pages - 1)}>last</button>
    </nav>
  );
}

export function TableTab({ route, sweep, table }: { route: Route; sweep: string; table: TrialTable }) {
  const query = route.query.toString();
  const filter = useMemo(() => readFilter(route.query), [query]);
  const rows = useMemo(() => select(table, filter), [table, filter]);
  const groupNames = (route.query.get("group") ?? "").split("|").filter(Boolean).map(decodeURIComponent);
  const factors = table.factors.filter((factor) => groupNames.includes(factor.name));
  const early = route.query.get("early") === "1";
  const scoreName = route.query.get("score") ?? table.primary;
  const score = useMemo(() => measured(table, table.scores.find((s) => s.name === scoreName) ?? table.scores[0], early), [table, scoreName, early]);
  const shownScores = (route.query.get("scores") ?? "").split(",").filter(Boolean);
  const chosenScores = shownScores.length ? table.scores.filter((s) => shownScores.includes(s.name)) : table.scores.filter((s) => !s.name.endsWith("_base")).slice(0, 4);
  const differs = route.query.get("diff") === "1";
  const sort = route.query.get("sort") ?? "";
  const down = sort.startsWith("-");
  const by = sort.replace(/^-/, "");
  const overall = useMemo(() => summarise(score?.column, rows), [score, rows]);
  // Columns that are the same in all rows say nothing about their differences.
  const hidden = (route.query.get("hide") ?? "").split("|").filter(Boolean).map(decodeURIComponent);
  const shownFactors = useMemo(() => table.factors.filter((factor) => !hidden.includes(factor.name) && (!differs || rows.some((row) => factor.column[row] !== factor.column[rows[0]]))), [differs, table, rows, hidden.join("|")]);
  const groups = useMemo(() => {
    if (!factors.length) return undefined;
    const made = groupBy(rows, factors, score);
    const key = (group: (typeof made)[number]): number => (by === "n" ? group.summary.n : by === "sd" ? group.summary.sd : by === "mean" ? group.summary.mean : NaN);
    const direction = down ? -1 : 1;
    if (["n", "sd", "mean"].includes(by)) made.sort((a, b) => { const x = key(a), y = key(b); return Number.isNaN(x) ? (Number.isNaN(y) ? 0 : 1) : Number.isNaN(y) ? -1 : direction * (x - y); });
    else made.sort((a, b) => { for (let i = 0; i < factors.length; ++i) { const d = factors[i].levels.indexOf(a.levels[i] ?? "") - factors[i].levels.indexOf(b.levels[i] ?? ""); if (d) return d; } return 0; });
    return made;
  }, [table, rows, factors.map((f) => f.name).join("|"), score, by, down]);
  const sorted = useMemo(() => {
    if (!by || groups) return rows;
    const factor = table.factors.find((f) => "f:" + f.name === by);
    const column = table.scores.find((s) => s.name === by);
    if (factor) return sortRows(rows, (row) => (factor.column[row] === absent ? NaN : factor.column[row]), down);
    if (column) return sortRows(rows, (row) => column.column[row], down);
    if (by === "seconds") return sortRows(rows, (row) => table.seconds[row], down);
    if (by === "state") return sortRows(rows, (row) => table.states[row], down);
    return by === "trial" ? sortRows(rows, (row) => row, down) : rows;
  }, [table, rows, by, down, groups]);
  const length = groups ? groups.length : sorted.length;
  const pages = Math.max(1, Math.ceil(length / pageRows));
  const page = Math.min(pages, Math.max(1, Number(route.query.get("page") ?? 1))) - 1;
  const from = page * pageRows, to = Math.min(length, from + pageRows);
  const toggle = (name: string) => {
    const next = groupNames.includes(name) ? groupNames.filter((other) => other !== name) : [...groupNames, name];
    setQuery(route, { group: levelsQuery(next), sort: undefined, page: undefined });
  };
  return (
    <div class="cards">
      <section class="card">
        <Title about="parallel">Parallel coordinates</Title>
        <Filters table={table} route={route} />
        <Parallel table={table} factors={shownFactors} rows={rows} filter={filter} scores={chosenScores.map((s) => s.name)} onFilter={(changes) => setQuery(route, { ...changes, page: undefined })} />
      </section>
      <section class="card">
        <div class="bar">
          <h2>{count(rows.length)} <small>of {count(table.total)} trials</small></h2>
          {score && <p class="quiet">mean {score.title} <b>{number(overall.mean)}</b> [{number(overall.low)}, {number(overall.high)}], n = {count(overall.n)}{overall.missing > 0 && `, ${count(overall.missing)} without it`} <Explain about="groups" /></p>}
          <span class="spacer" />
          <details class="menu"><summary>Group by{groupNames.length > 0 && <b> {groupNames.length}</b>}</summary><fieldset><legend class="hidden">Group by</legend>{table.factors.map((factor) => <label key={factor.name}><input type="checkbox" checked={groupNames.includes(factor.name)} onChange={() => toggle(factor.name)} /> {printable(factor.name)}</label>)}</fieldset></details>
          <details class="menu"><summary>Columns{hidden.length > 0 && <b> −{hidden.length}</b>}</summary><fieldset><legend class="hidden">Factors shown as columns and axes</legend>{table.factors.map((factor) => <label key={factor.name}><input type="checkbox" checked={!hidden.includes(factor.name)} onChange={() => setQuery(route, { hide: levelsQuery(hidden.includes(factor.name) ? hidden.filter((name) => name !== factor.name) : [...hidden, factor.name]) })} /> {printable(factor.name)}</label>)}</fieldset></details>
          <details class="menu"><summary>Scores</summary><fieldset><legend class="hidden">Scores shown</legend>{table.scores.map((s) => <label key={s.name}><input type="checkbox" checked={chosenScores.includes(s)} onChange={() => { const next = chosenScores.includes(s) ? chosenScores.filter((other) => other !== s) : [...chosenScores, s]; setQuery(route, { scores: next.map((one) => one.name).join(",") }); }} /> {printable(s.name)}</label>)}</fieldset></details>
          <label class="choice"><input type="checkbox" checked={differs} onChange={() => setQuery(route, { diff: differs ? undefined : "1" })} /> only what differs</label>
          <Early table={table} route={route} />
          <Views route={route} sweep={sweep} />
        </div>
        <Pager route={route} page={page} pages={pages} />
        <div class="scroll" tabIndex={0} role="region" aria-label="Trials">
          {groups && score ? (
            <table class="numbers"><caption class="hidden">Groups of trials</caption>
              <thead><tr>{factors.map((factor) => <th scope="col" class="text" key={factor.name}>{printable(factor.name)}</th>)}<SortHead route={route} name="n" text="n" /><th scope="col">missing</th><SortHead route={route} name="mean" text={`mean ${score.title}`} /><th scope="col">95 % interval <Explain about="confidence" /></th><SortHead route={route} name="sd" text="s.d." /><th scope="col">smallest</th><th scope="col">largest</th></tr></thead>
              <tbody>{groups.slice(from, to).map((group) => (
                <tr key={group.levels.join("\n")}>{group.levels.map((level, i) => <td class="text" key={i}>{level === null ? <i class="quiet">none</i> : <a href={link(["sweeps", sweep, "table"], Object.fromEntries(group.levels.map((l, j) => ["f." + factors[j].name, levelsQuery([l ?? ""])])))}>{printable(level)}</a>}</td>)}
                  <td>{count(group.summary.n)}</td><td class={group.summary.missing ? undefined : "quiet"}>{count(group.summary.missing)}</td><td><b>{number(group.summary.mean)}</b></td><td>{number(group.summary.low)} – {number(group.summary.high)}</td><td>{number(group.summary.sd, 3)}</td><td>{number(group.summary.min)}</td><td>{number(group.summary.max)}</td></tr>
              ))}</tbody></table>
          ) : (
            <table class="numbers"><caption class="hidden">Trials</caption>
              <thead><tr><SortHead route={route} name="trial" text="Trial" /><SortHead route={route} name="state" text="State" number={false} />{shownFactors.map((factor) => <SortHead key={factor.name} route={route} name={"f:" + factor.name} text={factor.name} number={false} />)}<th scope="col">replicate</th>{chosenScores.map((s) => <SortHead key={s.name} route={route} name={s.name} text={s.title} hint={<> <Explain text={sentenceOfScore(s.name)} /></>} />)}<SortHead route={route} name="seconds" text="Time" hint={<> <Explain about="took" /></>} /></tr></thead>
              <tbody>{Array.from(sorted.slice(from, to), (row) => (
                <tr key={row}><th scope="row"><a href={link(["sweeps", sweep, "trials", row])}>{row}</a></th><td class="text"><State state={trialStates[table.states[row]]} />{table.stopped[row] > 0 && <small class="quiet"> at step {count(table.stopped[row])}</small>}</td>
                  {shownFactors.map((factor) => <td class="text" key={factor.name}>{factor.column[row] === absent ? <i class="quiet">none</i> : printable(factor.levels[factor.column[row]])}</td>)}
                  <td>{table.replicates[row]}</td>{chosenScores.map((s) => <td key={s.name}>{Number.isNaN(s.column[row]) ? <span class="quiet">missing</span> : number(s.column[row])}</td>)}<td>{Number.isNaN(table.seconds[row]) ? "–" : span(table.seconds[row])}</td></tr>
              ))}</tbody></table>
          )}
        </div>
        <Pager route={route} page={page} pages={pages} />
      </section>
    </div>
  );
}
