// What the trials generate, side by side: one trial's pictures for each pair of two factors' levels, beside the training pictures and
// the untuned base's.
import { useMemo, useState } from "preact/hooks";
import { artifactUrl } from "../api";
import { Explain, Title } from "../explain";
import { count, number, printable } from "../format";
import { Choice } from "../parts";
import { link, setQuery, type Route } from "../route";
import { absent, firstPair, readFilter, select, type FactorColumn, type ScoreColumn, type TrialTable } from "../table_data";

const mostPictures = 240;
const succeeded = 3;

// Of the rows of each pair of levels: the one to show.
function choose(rows: Iterable<number>, table: TrialTable, row: FactorColumn, column: FactorColumn | undefined, score: ScoreColumn | undefined, which: string): Map<string, number> {
  const chosen = new Map<string, number>();
  const worth = (trial: number) => { const value = score ? score.column[trial] : NaN; return Number.isNaN(value) ? -Infinity : (score!.smallerIsBetter ? -value : value) * (which === "worst" ? -1 : 1); };
  for (const trial of rows) {
    if (table.states[trial] !== succeeded || row.column[trial] === absent || (column && column.column[trial] === absent)) continue;
    const key = `${row.column[trial]} ${column ? column.column[trial] : 0}`;
    const before = chosen.get(key);
    if (before === undefined || (which !== "first" && worth(trial) > worth(before))) chosen.set(key, trial);
  }
  return chosen;
}

function Picture({ sweep, trial, score, file = "samples.png" }: { sweep: string; trial: number; score?: ScoreColumn; file?: string }) {
  const [missing, setMissing] = useState(false);
  const url = artifactUrl(`sweeps/${sweep}/trials/${trial}`, file);
  return (
    <a class="picture" href={link(["sweeps", sweep, "trials", trial])} title={`trial ${trial}`}>
      {missing ? <span class="quiet">trial {trial} has handed over no picture</span> : <img src={`${url}?width=320`} alt={`Pictures of trial ${trial}`} loading="lazy" onError={() => setMissing(true)} />}
      {score && <small class="quiet">trial {trial}{!Number.isNaN(score.column[trial]) && <> · {number(score.column[trial], 3)}</>}</small>}
    </a>
  );
}

export function PicturesTab({ route, sweep, table }: { route: Route; sweep: string; table: TrialTable }) {
  const names = table.factors.map((factor) => factor.name);
  const first = useMemo(() => (names.includes("method") ? ["method", ""] : firstPair(table)), [names.join("\n"), table.total]);
  const rowName = route.query.get("row") ?? first[0];
  const columnName = route.query.get("col") ?? first[1];
  const row = table.factors.find((factor) => factor.name === rowName);
  const column = table.factors.find((factor) => factor.name === columnName && factor !== row);
  const which = route.query.get("which") ?? "first";
  const score = table.scores.find((one) => one.name === (route.query.get("score") ?? table.primary));
  const query = route.query.toString();
  const chosen = useMemo(() => (row ? choose(select(table, readFilter(route.query)), table, row, column, score, which) : new Map<string, number>()), [table, query]);
  const used = (factor: FactorColumn, place: number) => factor.levels.map((_, level) => level).filter((level) => [...chosen.keys()].some((key) => Number(key.split(" ")[place]) === level));
  const rows = row ? used(row, 0) : [];
  const allColumns = column ? used(column, 1) : [0];
  const columns = allColumns.slice(0, Math.max(1, Math.floor(mostPictures / Math.max(1, rows.length))));
  const any = chosen.values().next().value as number | undefined;
  const options = names.map((name) => ({ value: name, text: name }));
  if (!row) return <p class="empty">This sweep has no factors.</p>;
  return (
    <div class="cards">
      {any !== undefined && (
        <section class="card">
          <div class="pictures">
            <figure><figcaption>The training pictures <Explain about="subject" /></figcaption><Picture sweep={sweep} trial={any} file="subject.png" /></figure>
            <figure><figcaption>The untuned base <Explain about="base" /></figcaption><Picture sweep={sweep} trial={any} file="samples-base.png" /></figure>
          </div>
          <p class="quiet">Of trial {any}; where the prompt, the noise or the data set differ between trials, so do these.</p>
        </section>
      )}
      <section class="card">
        <div class="bar"><Title about="gallery">Pictures</Title><span class="spacer" />
          <Choice label="rows" value={rowName} options={options} onChange={(value) => setQuery(route, { row: value })} />
          <Choice label="columns" value={column ? columnName : ""} options={[{ value: "", text: "none" }, ...options]} onChange={(value) => setQuery(route, { col: value || "-" })} />
          <Choice label="of each pair" value={which} options={[{ value: "first", text: "the first trial" }, { value: "best", text: "the best trial" }, { value: "worst", text: "the worst trial" }]} onChange={(value) => setQuery(route, { which: value === "first" ? undefined : value })} />
          {which !== "first" && <Choice label="by" value={score?.name ?? ""} options={table.scores.filter((one) => !one.name.endsWith("_base")).map((one) => ({ value: one.name, text: one.name }))} onChange={(value) => setQuery(route, { score: value })} />}</div>
        {!chosen.size ? <p class="empty">No trial has ended with pictures yet.</p> : !column ? (
          <div class="pictures">{rows.slice(0, mostPictures).map((level) => { const trial = chosen.get(`${level} 0`)!; return <figure key={trial}><figcaption>{printable(row.levels[level])}</figcaption><Picture sweep={sweep} trial={trial} score={score} /></figure>; })}</div>
        ) : (
          <div class="scroll" tabIndex={0} role="region" aria-label="Pictures by levels">
            <table class="gallery"><caption class="hidden">Pictures by {printable(rowName)} and {printable(columnName)}</caption>
              <thead><tr><th scope="col"><span class="quiet">{printable(rowName)} ↓ {printable(columnName)} →</span></th>{columns.map((level) => <th scope="col" key={level}>{printable(column.levels[level])}</th>)}</tr></thead>
              <tbody>{rows.slice(0, mostPictures).map((level) => <tr key={level}><th scope="row">{printable(row.levels[level])}</th>{columns.map((other) => { const trial = chosen.get(`${level} ${other}`); return <td key={other}>{trial === undefined ? <span class="quiet">–</span> : <Picture key={trial} sweep={sweep} trial={trial} score={score} />}</td>; })}</tr>)}</tbody></table>
          </div>
        )}
        {columns.length < allColumns.length && <p class="quiet">The first {count(columns.length)} of {count(allColumns.length)} levels of {printable(columnName)}; the filters of the Trials tab choose others.</p>}
      </section>
    </div>
  );
}
