// What the results say so far: heat map, main effects, interactions, F table, ranking of cells, importance.
import { useMemo, useState } from "preact/hooks";
import { call, sentenceOf } from "../api";
import { Effects, Interaction } from "../charts/effects";
import { HeatMap } from "../charts/heat_map";
import { Title, Explain } from "../explain";
import { bytes, cellText, count, lastPart, number, printable, pValue, span, stars, terminal } from "../format";
import { useLoaded } from "../live";
import { Choice, Early, Problem, Text } from "../parts";
import { link, setQuery, type Route } from "../route";
import { firstPair, groupBy, levelsQuery, measured, select, type TrialTable } from "../table_data";
import type { Report, Sweep } from "../types";

async function download(request: object, name: string) {
  const response = await fetch("/v1/report", { method: "POST", headers: { "Content-Type": "application/json" }, credentials: "same-origin", body: JSON.stringify(request) });
  if (!response.ok) throw new Error(((await response.json().catch(() => null)) as { message?: string } | null)?.message ?? `The coordinator answered ${response.status}.`);
  const address = URL.createObjectURL(await response.blob());
  const anchor = document.createElement("a");
  anchor.href = address;
  anchor.download = name;
  anchor.click();
  URL.revokeObjectURL(address);
}

// Canvases keep the colours that they were drawn with: dark ones are drawn anew for the paper first.
function printInLight() {
  const root = document.documentElement, before = root.dataset.theme;
  const theme = (name: string | undefined) => { if (name) root.dataset.theme = name; else delete root.dataset.theme; dispatchEvent(new Event("loupe-theme")); };
  addEventListener("afterprint", () => theme(before), { once: true });
  theme("light");
  setTimeout(() => print(), 150);
}

function FTable({ report, over }: { report: Report; over: boolean }) {
  // The report's own numbers: it may be a little older than the rest of the page.
  const results = report.sample.used, total = report.trials.total;
  const rows = report.terms;
  return (
    <section class="card">
      <Title about="f">What matters: F table</Title>
      {(!over || results < total) && <p class="note" role="status"><b>{count(results)} of {count(total)} results so far{over ? "." : ", not final."}</b> {over ? "The sweep has ended without the others." : "Numbers move as trials end."}</p>}
      {report.problem ? <p>{printable(report.problem)}</p> : (
        <div class="scroll" tabIndex={0} role="region" aria-label="F table">
          <table class="numbers">
            <thead><tr><th scope="col">Term</th><th scope="col">df <Explain about="df" /></th><th scope="col">Sum of squares <Explain about="sumSq" /></th><th scope="col">F <Explain about="f" /></th><th scope="col">p <Explain about="p" /></th><th scope="col">partial η² <Explain about="eta" /></th></tr></thead>
            <tbody>
              {rows.map((term) => (
                <tr key={term.term} class={term.block ? "quiet" : undefined}>
                  <th scope="row"><Text>{term.term}</Text>{term.block && " (block)"}{term.note && <small><Text>{term.note}</Text></small>}</th>
                  <td>{term.df < term.nominal_df ? `${term.df} of ${term.nominal_df}` : number(term.df)}</td>
                  <td>{number(term.sum_sq)}</td>
                  <td>{number(term.f)}</td>
                  <td>{pValue(term.p)} <span class="stars" aria-hidden="true">{stars(term.p)}</span></td>
                  <td>{term.effect?.partial_eta_sq != null ? <EtaBar low={term.effect.partial_eta_sq_low} value={term.effect.partial_eta_sq} high={term.effect.partial_eta_sq_high} /> : "–"}</td>
                </tr>
              ))}
              {report.residual && <tr><th scope="row">residual</th><td>{number(report.residual.df)}</td><td>{number(report.residual.sum_sq)}</td><td /><td /><td /></tr>}
            </tbody>
          </table>
        </div>
      )}
      <p class="quiet">Type {["", "I", "II", "III"][report.ss_type]} sums of squares of <code>{printable(report.formula)}</code>{report.r_squared !== null && <> · R² {number(report.r_squared, 3)}</>} · data {report.hash.slice(0, 12)}</p>
      {report.details?.assumptions.sentences?.length ? <details><summary>Do the assumptions hold?</summary><ul>{report.details.assumptions.sentences.map((sentence) => <li key={sentence}><Text>{sentence}</Text></li>)}</ul></details> : null}
      {report.notes.length > 0 && <details><summary>Notes ({report.notes.length})</summary><ul>{report.notes.map((note) => <li key={note}><Text>{note}</Text></li>)}</ul></details>}
    </section>
  );
}

// The model's means; of factors of which it has none, since others are confounded with them, the plain ones, which are called so.
function MainEffects({ report, score }: { report: Report; score: string }) {
  const adjusted = Object.entries(report.details!.marginal_means);
  const some = adjusted.filter(([, levels]) => levels.some((level) => level.estimable !== false && level.mean !== null));
  const none = adjusted.filter((entry) => !some.includes(entry));
  return (
    <>
      {some.length > 0 && <Effects means={Object.fromEntries(some)} title={`Mean ${score}`} />}
      {none.length > 0 && (
        <>
          <p class="note">Plain means of what was observed. The model has none for {none.map(([factor]) => printable(factor)).join(", ")}: {printable(none[0][1][0]?.reason ?? "they are not estimable")}.</p>
          <Effects means={Object.fromEntries(none.map(([factor]) => [factor, report.means[factor] ?? []]))} title={`Plain mean ${score}`} />
        </>
      )}
    </>
  );
}

function EtaBar({ low, value, high }: { low: number | null; value: number; high: number | null }) {
  return (
    <span class="eta"><span class="eta-bar" aria-hidden="true"><i style={{ left: `${100 * (low ?? value)}%`, width: `${100 * ((high ?? value) - (low ?? value))}%` }} /><b style={{ left: `${100 * value}%` }} /></span>
      {number(value, 3)} <small>[{number(low, 2)}, {number(high, 2)}]</small></span>
  );
}

function useFactorPair(table: TrialTable, route: Route) {
  const names = table.factors.map((factor) => factor.name);
  const first = useMemo(() => firstPair(table), [names.join("\n"), table.total]);
  const rowName = route.query.get("row") ?? first[0];
  const columnName = route.query.get("col") ?? first[1];
  return { names, row: table.factors.find((f) => f.name === rowName), column: table.factors.find((f) => f.name === columnName) };
}

function Pairs({ route, sweep, table, score }: { route: Route; sweep: string; table: TrialTable; score: string }) {
  const { names, row, column } = useFactorPair(table, route);
  const early = route.query.get("early") === "1";
  const scoreColumn = useMemo(() => measured(table, table.scores.find((s) => s.name === score), early), [table, score, early]);
  const made = useMemo(() => {
    if (!row || !column || row === column) return undefined;
    const all = select(table, { levels: new Map(), ranges: new Map(), states: new Set() });
    const groups = groupBy(all, [row, column], scoreColumn).filter((group) => group.levels[0] !== null && group.levels[1] !== null);
    return {
      legal: new Set(groups.map((group) => group.levels.join("\n"))),
      entries: groups.map((group) => ({ row: group.levels[0]!, column: group.levels[1]!, n: group.summary.n, mean: group.summary.n ? group.summary.mean : null, low: group.summary.low, high: group.summary.high })),
    };
  }, [table, row, column, scoreColumn]);
  const options = names.map((name) => ({ value: name, text: name }));
  if (!made || !row || !column) return null;
  const href = (r: string, c: string) => link(["sweeps", sweep, "table"], { ["f." + row.name]: levelsQuery([r]), ["f." + column.name]: levelsQuery([c]) });
  return (
    <div class={made.entries.length && column.levels.length <= 4 ? "beside" : "cards inner"}>
      <section class="card">
        <div class="bar"><Title about="heat">{printable(row.name)} × {printable(column.name)}</Title><span class="spacer" /><Early table={table} route={route} />
          <Choice label="rows" value={row.name} options={options} onChange={(value) => setQuery(route, { row: value })} />
          <Choice label="columns" value={column.name} options={options} onChange={(value) => setQuery(route, { col: value })} /></div>
        <HeatMap rows={row.levels.filter((level) => made.entries.some((e) => e.row === level))} columns={column.levels.filter((level) => made.entries.some((e) => e.column === level))}
          rowName={row.name} columnName={column.name} entries={made.entries} legal={(r, c) => made.legal.has(r + "\n" + c)} smallerIsBetter={!!scoreColumn?.smallerIsBetter}
          title={`Mean ${scoreColumn?.title ?? score} by ${row.name} and ${column.name}`} hrefOf={href} />
      </section>
      {column.levels.length > 1 && column.levels.length <= 8 && row.levels.length <= 16 && made.entries.some((entry) => entry.n > 0) && (
        <section class="card">
          <Title>Does {printable(row.name)} act the same for every {printable(column.name)}?</Title>
          <p class="quiet">Lines side by side: no interaction. Lines that cross or part: the effect of one depends on the other. Plain means with Student's 95 % intervals.</p>
          <Interaction levels={row.levels.filter((level) => made.entries.some((e) => e.row === level))} across={column.name} along={row.name}
            series={column.levels.map((level) => ({ name: level, points: made.entries.filter((e) => e.column === level && e.mean !== null).sort((a, b) => row.levels.indexOf(a.row) - row.levels.indexOf(b.row)).map((e) => ({ level: e.row, mean: e.mean!, low: e.low, high: e.high, n: e.n })) })).filter((s) => s.points.length > 0)} />
        </section>
      )}
    </div>
  );
}

export function AnalysisTab({ route, sweep, table, version }: { route: Route; sweep: Sweep; table: TrialTable; version: string }) {
  const id = lastPart(sweep.name);
  const scores = table.scores.filter((score) => !score.name.endsWith("_base"));
  const response = route.query.get("score") ?? "";
  const shownScore = response || table.primary;
  const terms = route.query.get("terms") ?? "";
  const early = route.query.get("early") === "1";
  const twoWay = table.factors.length > 1 ? `(${table.factors.map((factor) => (/^\w+$/.test(factor.name) ? factor.name : "`" + factor.name + "`")).join(" + ")})^2` : "";
  const report = useLoaded(async (signal) => JSON.parse((await call<{ json: string }>("ViewService/GetReport", { name: sweep.name, response, terms, includeStoppedEarly: early || undefined }, signal)).json) as Report, [sweep.name, response, terms, early], 0, version);
  const [problem, setProblem] = useState("");
  const baseline = report.value?.baseline_text;
  const save = (format: string, ending: string) => download({ name: sweep.name, format, response, terms, includeStoppedEarly: early || undefined }, `${id}.${ending}`).catch((error) => setProblem(sentenceOf(error)));
  const ranking = report.value?.details?.ranking;
  const importance = report.value?.details?.importance;
  const methods = report.value?.details?.methods;
  return (
    <div class="cards">
      <div class="bar tools">
        <Choice label="Score" value={response} options={[{ value: "", text: `primary (${table.primary})` }, ...scores.filter((score) => score.name !== table.primary).map((score) => ({ value: score.name, text: score.name }))]} onChange={(value) => setQuery(route, { score: value })} />
        <Choice label="Terms" value={terms} options={[{ value: "", text: "main effects" }, ...(twoWay && !methods ? [{ value: twoWay, text: "with two-way interactions" }] : []), ...(terms && terms !== twoWay ? [{ value: terms, text: terms }] : [])]} onChange={(value) => setQuery(route, { terms: value })} />
        <span class="spacer" />
        <button type="button" class="plain" onClick={() => save("HTML", "html")}>Report as HTML</button>
        <button type="button" class="plain" onClick={() => save("CSV", "csv")}>Trials as CSV</button>
        <button type="button" class="plain" onClick={printInLight}>Print</button>
      </div>
      <Problem>{problem}</Problem>
      <Problem>{report.error}</Problem>
      {!report.value && report.loading && <p class="quiet" role="status">The analysis is being computed…</p>}
      {methods && (
        <section class="card">
          <Title about="methods">Methods compared</Title>
          <div class="scroll" tabIndex={0} role="region" aria-label="Methods">
            <table class="numbers"><thead><tr><th scope="col">Method</th><th scope="col">Mean</th><th scope="col">95 %</th><th scope="col" class="text">Best setting</th><th scope="col">Parameters</th><th scope="col">Time</th><th scope="col">File</th></tr></thead>
              <tbody>{methods.methods.map((row) => (
                <tr key={row.method}><th scope="row"><Text>{row.method}</Text></th><td>{number(row.mean)}</td><td>{number(row.low, 3)} – {number(row.high, 3)}</td>
                  <td class="text">{row.best ? <>{cellText(row.best.levels) || "–"} <small>{number(row.best.mean)}</small></> : "–"}</td>
                  <td>{row.costs.parameters ? count(Math.round(row.costs.parameters.mean)) : "–"}</td><td>{row.costs.seconds ? span(row.costs.seconds.mean) : "–"}</td><td>{row.costs.file_bytes ? bytes(row.costs.file_bytes.mean) : "–"}</td></tr>
              ))}</tbody></table>
          </div>
          <details><summary>What may be said of it</summary><ul>{methods.sentences.map((sentence) => <li key={sentence}><Text>{sentence}</Text></li>)}</ul></details>
        </section>
      )}
      <Pairs route={route} sweep={id} table={table} score={shownScore} />
      {report.value && <FTable report={report.value} over={terminal(sweep.state)} />}
      {report.value?.details && (
        <section class="card">
          <Title about="mean">Main effects</Title>
          {baseline && <p class="quiet">The untuned base has {baseline}.</p>}
          <MainEffects report={report.value} score={shownScore} />
        </section>
      )}
      {ranking?.cells?.length ? (
        <section class="card">
          <Title about="ranking">Best cells</Title>
          {ranking.may_be_best !== undefined && <p class="quiet">{ranking.may_be_best === 1 ? "One cell stands out from all others." : `${ranking.may_be_best} cells cannot be told from the best.`}</p>}
          <div class="scroll" tabIndex={0} role="region" aria-label="Ranking">
            <table class="numbers"><thead><tr><th scope="col">#</th>{table.factors.map((factor) => <th scope="col" class="text" key={factor.name}>{printable(factor.name)}</th>)}<th scope="col">n</th><th scope="col">Mean</th><th scope="col">95 % <Explain about="confidence" /></th><th scope="col">may be best</th></tr></thead>
              <tbody>{ranking.cells.slice(0, 20).map((cell, i) => (
                <tr key={i} class={cell.may_be_best ? "marked" : undefined}><td class="text">{i + 1}</td>{table.factors.map((factor) => <td class="text" key={factor.name}>{printable(cell.levels[factor.name] ?? "–")}</td>)}<td>{cell.n}</td>
                  <td><a href={link(["sweeps", id, "table"], Object.fromEntries(Object.entries(cell.levels).map(([factor, level]) => ["f." + factor, levelsQuery([level])])))}>{number(cell.mean)}</a></td><td>{number(cell.low, 3)} – {number(cell.high, 3)}</td><td>{cell.may_be_best ? "● yes" : "no"}</td></tr>
              ))}</tbody></table>
          </div>
          {ranking.cells.length > 20 && <p class="quiet">The first 20 of {count(ranking.cells.length)}; the trials' table has all.</p>}
        </section>
      ) : null}
      {importance?.shares?.length ? (
        <section class="card">
          <Title about="importance">Importance</Title>
          <ul class="bars">{importance.shares.slice(0, 10).map((share) => (
            <li key={share.factors.join()}><span>{printable(share.factors.join(" × "))}</span><span class="bar-track"><i style={{ width: `${100 * Math.max(0, share.share ?? 0)}%` }} /></span><span>{number(share.share, 2)} <small>± {number(share.spread, 2)}</small></span></li>
          ))}</ul>
        </section>
      ) : null}
      {report.value?.failures.length ? (
        <section class="card"><h2>Failures</h2><ul>{report.value.failures.map((failure) => <li key={failure.message}><Text>{failure.message}</Text> <small>trials {failure.trials.slice(0, 12).map((trial) => <a key={trial} href={link(["sweeps", id, "trials", trial])}>{trial} </a>)}{failure.trials.length > 12 && `and ${failure.trials.length - 12} more`}</small></li>)}</ul></section>
      ) : null}
    </div>
  );
}
