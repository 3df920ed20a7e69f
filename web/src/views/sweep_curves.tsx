// A metric against the step, for hundreds of trials at once, coloured by a factor.
import { useMemo } from "preact/hooks";
import { call } from "../api";
import { amount, kindColor, kindsInAll, kindVar } from "../charts/colors";
import { useScheme } from "../charts/canvas";
import { CurvePlot } from "../charts/curves";
import { meanCurves } from "../curve_means";
import { Title } from "../explain";
import { count, int, printable } from "../format";
import { useLoaded } from "../live";
import { Choice, Problem } from "../parts";
import { go, link, setQuery, type Route } from "../route";
import { absent, readFilter, select, type TrialTable } from "../table_data";
import type { CurvesAnswer } from "../types";

const most = 300;

export function CurvesTab({ route, sweep, version, table }: { route: Route; sweep: string; version: string; table?: TrialTable }) {
  const metric = route.query.get("metric") ?? "";
  const color = route.query.get("color") ?? table?.factors[0]?.name ?? "";
  const query = route.query.toString();
  const filter = useMemo(() => readFilter(route.query), [query]);
  const filtered = filter.levels.size + filter.ranges.size + filter.states.size > 0;
  const begun = useMemo(() => {
    if (!table || !filtered) return [];
    const rows = [...select(table, filter)].filter((row) => table.states[row] !== 1 && table.states[row] !== 5);
    const step = Math.max(1, Math.ceil(rows.length / most));
    return rows.filter((_, i) => i % step === 0);
  }, [table, filter, filtered]);
  const curves = useLoaded((signal) => call<CurvesAnswer>("ViewService/GetCurves", { parent: `sweeps/${sweep}`, metric, maxCurves: most, maxPoints: 150, trials: begun }, signal), [sweep, metric, begun], 0, version);
  const factor = table?.factors.find((f) => f.name === color);
  useScheme();
  const list = curves.value?.curves ?? [];
  // A logarithm has no place for 0 and less.
  const positive = list.every((curve) => (curve.lows?.length ? curve.lows : curve.means ?? []).every((value) => value > 0));
  const log = positive && route.query.get("y") === "log";
  const levelOf = (trial: number) => (factor && factor.column[trial] !== absent ? factor.column[trial] : -1);
  const many = (factor?.levels.length ?? 0) > kindsInAll;
  const colorOf = (level: number) => (level < 0 ? "#888888" : many ? rgbHex(amount(level / Math.max(1, factor!.levels.length - 1))) : kindColor(level));
  // One for each level in place of one for each trial.
  const grouped = factor !== undefined && route.query.get("mean") === "1";
  const means = useMemo(() => (grouped ? meanCurves(list, (curve) => levelOf(int(curve.trial))) : undefined), [curves.value, table, color, grouped]);
  const colors = list.map((curve) => colorOf(levelOf(int(curve.trial))));
  const names = list.map((curve) => `trial ${int(curve.trial)}${table ? ": " + table.factors.filter((f) => f.column[int(curve.trial)] !== absent).map((f) => `${printable(f.name)}=${printable(f.levels[f.column[int(curve.trial)]])}`).join(", ") : ""}`);
  return (
    <div class="cards"><section class="card">
      <div class="bar"><Title about="curves">{printable(curves.value?.metric || "Curves")} by step</Title><span class="spacer" />
        <Choice label="Metric" value={metric || curves.value?.metric || ""} options={(curves.value?.metrics ?? [curves.value?.metric ?? ""]).map((name) => ({ value: name, text: name }))} onChange={(value) => setQuery(route, { metric: value })} />
        <label class="choice"><input type="checkbox" checked={log} disabled={!positive} onChange={() => setQuery(route, { y: log ? undefined : "log" })} /> logarithmic</label>
        {factor && <label class="choice"><input type="checkbox" checked={grouped} onChange={() => setQuery(route, { mean: grouped ? undefined : "1" })} /> mean of each level</label>}
        {table && <Choice label="Colour by" value={color} options={table.factors.map((f) => ({ value: f.name, text: f.name }))} onChange={(value) => setQuery(route, { color: value })} />}</div>
      <Problem>{curves.error}</Problem>
      {means?.size ? <CurvePlot curves={[...means.values()]} colors={[...means.keys()].map(colorOf)} names={[...means].map(([level, curve]) => `${printable(factor!.levels[level])}: mean of ${int(curve.points)} curves`)} height={420} log={log} label={`Mean ${curves.value?.metric} against the step for each level of ${printable(color)}`} />
        : list.length ? <CurvePlot curves={list} colors={colors} names={names} height={420} log={log} label={`${curves.value?.metric} against the step for ${list.length} trials`} onPick={(trial) => go(link(["sweeps", sweep, "trials", trial]))} />
        : curves.loading ? <p class="quiet">Loading…</p> : <p class="empty">No trial has reported a curve yet.</p>}
      {factor && list.length > 0 && <p class="legend">{factor.levels.map((level, i) => <span key={level}><i class="dash" style={{ borderColor: many ? colorOf(i) : kindVar(i) }} />{printable(level)}</span>)}</p>}
      {curves.value && <p class="quiet">{count(list.length)} curves{int(curves.value.candidates) > list.length && ` of ${count(curves.value.candidates)} trials, evenly chosen`}{filtered && ", of the trials that pass the filter of the Trials tab"}. {means?.size ? " Means are of these curves, where at least half of a level's have a point; the band is Student's 95 % interval." : ""} Drag to zoom, double click to come back{means?.size ? "" : ", click a curve for its trial"}.</p>}
    </section></div>
  );
}

const rgbHex = (rgb: string): string => "#" + rgb.match(/\d+/g)!.map((part) => Number(part).toString(16).padStart(2, "0")).join("");
