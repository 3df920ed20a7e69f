// One trial: what it is, what came of it, and how to run it alone.
import { useState } from "preact/hooks";
import { artifactUrl, call } from "../api";
import { kindColor } from "../charts/colors";
import { useScheme } from "../charts/canvas";
import { CurvePlot } from "../charts/curves";
import { Explain, explanations, Title } from "../explain";
import { bytes, count, int, lastPart, number, packText, printable, seconds, shellWord, span, when } from "../format";
import { useLoaded, useSweepNews } from "../live";
import { Figure, Problem, State, Text } from "../parts";
import { link, setQuery, type Route } from "../route";
import { sentenceOfScore } from "../scores";
import { TrialLog } from "./trial_log";
import type { Artifact, Curve, CurvesAnswer, TrialDetails } from "../types";

// The same text as of loupe trial SWEEP N --as-command.
function commandOf(details: TrialDetails): string {
  const [, sweep, , index] = details.trial.name.split("/");
  const settings = Object.entries(details.settings ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
  return `loupe-worker trial --seed ${details.sweepSeed ?? 0} --replicate ${details.trial.replicate ?? 0} --out ${shellWord(`${sweep}-${index}`)} --settings` +
    settings.map(([key, value]) => ` \\\n  ${shellWord(`${key}=${value}`)}`).join("");
}

// The best value of a curve and where it was: of a score that is better when larger the largest, else the smallest.
function extreme(curve: Curve, metric: string): string {
  const largest = !/loss|fid|kid|pres/.test(metric);
  const values = (largest ? curve.highs : curve.lows)?.length ? (largest ? curve.highs! : curve.lows!) : curve.means ?? [];
  let at = 0;
  for (let i = 1; i < values.length; ++i) if (largest ? values[i] > values[at] : values[i] < values[at]) at = i;
  return `${largest ? "largest" : "smallest"} ${number(values[at], 3)} near step ${Math.round(curve.steps?.[at] ?? 0)}`;
}

function Curves({ sweep, index, version }: { sweep: string; index: number; version: string }) {
  const answer = useLoaded(async (signal) => {
    const ask = (metric: string) => call<CurvesAnswer>("ViewService/GetCurves", { parent: `sweeps/${sweep}`, metric, trials: [index], maxPoints: 400 }, signal);
    const first = await ask("");
    const rest = await Promise.all((first.metrics ?? []).filter((metric) => metric !== first.metric).slice(0, 12).map(ask));
    return [first, ...rest].filter((one) => (one.curves?.[0]?.steps?.length ?? 0) > 1);  // a single point is among the scores
  }, [sweep, index], 0, version);
  useScheme();
  if (answer.error) return <Problem>{answer.error}</Problem>;
  if (!answer.value?.length) return <p class="quiet">{answer.loading ? "Loading…" : "It has reported no curve."}</p>;
  return (
    <div class="small-multiples">
      {answer.value.map((one) => {
        const curve: Curve = one.curves![0];
        return <figure key={one.metric}><figcaption>{printable(one.metric ?? "")} <small class="quiet">last {number(curve.means?.at(-1), 3)}, {extreme(curve, one.metric ?? "")}; {int(curve.points)} points{curve.lows?.length ? ", thinned: the band is what was left out" : ""}</small></figcaption>
          <CurvePlot curves={one.curves!} colors={[kindColor(0)]} names={[one.metric ?? ""]} height={190} label={`${one.metric} against the step, last value ${number(curve.means?.at(-1))}`} /></figure>;
      })}
    </div>
  );
}

export function TrialPage({ route, sweep, index }: { route: Route; sweep: string; index: number }) {
  const name = `sweeps/${sweep}/trials/${index}`;
  const { news } = useSweepNews(`sweeps/${sweep}`);
  const running = news?.running?.find((attempt) => attempt.trial === name);
  const version = `${running ? Math.floor(int(running.step) / 5) : "ended"} ${running?.phase}`;
  const loaded = useLoaded((signal) => call<TrialDetails>("ViewService/GetTrialDetails", { name }, signal), [name], 0, `${running ? "running" : ""} ${news?.sweep.counts?.succeeded} ${news?.sweep.counts?.failed}`);
  const artifacts = useLoaded((signal) => call<{ artifacts?: Artifact[] }>("TrialService/ListArtifacts", { parent: name }, signal), [name], 0, loaded.value?.trial.state);
  const [copied, setCopied] = useState(false);
  const details = loaded.value;
  const words = (route.query.get("q") ?? "").toLowerCase();
  if (!details) return <><p class="trail"><a href={link([])}>Sweeps</a> / <a href={link(["sweeps", sweep])}><Text>{sweep}</Text></a> /</p><h1>Trial {index}</h1>{loaded.error ? <Problem>{loaded.error}</Problem> : <p class="quiet">Loading…</p>}</>;
  const trial = details.trial;
  const files = artifacts.value?.artifacts ?? [];
  const log = files.find((artifact) => artifact.mediaType?.startsWith("text/"));
  const scores = Object.entries(trial.scores ?? {}).filter(([score]) => !score.endsWith("_base")).sort();
  const baseOf = (score: string) => trial.scores?.[score + "_base"];
  const settings = Object.entries(details.settings ?? {}).sort().filter(([key, value]) => !words || `${key} ${value}`.toLowerCase().includes(words));
  const seeds = Object.entries(details.provenance ?? {}).filter(([key]) => key.startsWith("seed."));
  const origin = Object.entries(details.provenance ?? {}).filter(([key]) => !key.startsWith("seed.") && !key.startsWith("note.") && !key.startsWith("warning."));
  const remarks = Object.entries(details.provenance ?? {}).filter(([key]) => key.startsWith("note.") || key.startsWith("warning."));
  return (
    <>
      <p class="trail"><a href={link([])}>Sweeps</a> / <a href={link(["sweeps", sweep])}><Text>{sweep}</Text></a> /</p>
      <div class="bar"><h1>Trial {index} <State state={trial.state} /></h1><span class="spacer" />
        {index > 0 && <a class="button" href={link(["sweeps", sweep, "trials", index - 1])} rel="prev">‹ {index - 1}</a>}{(!news || index + 1 < int(news.sweep.counts?.total)) && <a class="button" href={link(["sweeps", sweep, "trials", index + 1])} rel="next">{index + 1} ›</a>}</div>
      <Problem>{loaded.error}</Problem>
      <dl class="figures">
        {Object.entries(trial.cell ?? {}).sort().map(([factor, level]) => <Figure key={factor} label={printable(factor)}><Text>{level}</Text></Figure>)}
        <Figure label="replicate">{trial.replicate ?? 0}</Figure>
        {trial.worker && <Figure label="worker"><Text>{lastPart(trial.worker)}</Text></Figure>}
        {trial.startTime && trial.endTime && <Figure label="took">{span((Date.parse(trial.endTime) - Date.parse(trial.startTime)) / 1000)}</Figure>}
        {running && <Figure label={running.phase ?? "running"}>{int(running.step)} <small>of {int(running.totalSteps)}{packText(running)}, {span(seconds(running.elapsed))}</small></Figure>}
      </dl>
      {int(trial.stoppedAtStep) > 0 && <p class="note">Training was ended after step {count(trial.stoppedAtStep)}: other trials were better at that point. What it had learned until then was scored.</p>}
      {trial.lastFailure && <p class="problem"><b>{(trial.lastFailure.class ?? "").toLowerCase().replace("_", " ")}:</b> <Text>{trial.lastFailure.message}</Text></p>}
      {remarks.map(([key, text]) => <p key={key} class="note">{key.startsWith("warning.") && <><b>{printable(key.slice(8))}:</b> </>}<Text>{text}</Text></p>)}
      <div class="cards">
        <Pictures trial={name} index={index} files={files} />
        {scores.length > 0 && (
          <section class="card"><h2>Scores</h2>
            <div class="scroll" tabIndex={0} role="region" aria-label="Scores"><table class="numbers"><thead><tr><th scope="col">Score</th><th scope="col">This trial</th><th scope="col">Untuned base <Explain about="baseScore" /></th><th scope="col">Difference</th></tr></thead>
              <tbody>{scores.map(([score, value]) => { const base = baseOf(score); return <tr key={score}><th scope="row"><Text>{score}</Text> <Explain text={sentenceOfScore(score)} /></th><td><b>{number(Number(value))}</b></td><td>{base === undefined ? "–" : number(Number(base))}</td><td>{base === undefined ? "–" : number(Number(value) - Number(base), 3)}</td></tr>; })}</tbody></table></div>
          </section>
        )}
        <section class="card"><Title about="curves">Curves</Title><Curves sweep={sweep} index={index} version={version} /></section>
        <section class="card"><h2>Attempts</h2>
          {details.attempts?.length ? <div class="scroll" tabIndex={0} role="region" aria-label="Attempts"><table class="list"><thead><tr><th scope="col">#</th><th scope="col">Worker</th><th scope="col">Began</th><th scope="col">Took</th><th scope="col">Outcome</th></tr></thead>
            <tbody>{details.attempts.map((attempt) => <tr key={String(attempt.epoch)}><td>{int(attempt.epoch)}</td><td><Text>{lastPart(attempt.worker ?? "")}</Text></td><td>{when(attempt.startTime)}</td><td>{attempt.endTime ? span((Date.parse(attempt.endTime) - Date.parse(attempt.startTime)) / 1000) : "running"}</td><td><State state={attempt.outcome ?? "RUNNING"} />{attempt.failure?.message && <small><Text>{attempt.failure.message}</Text></small>}</td></tr>)}</tbody></table></div>
            : <p class="quiet">It has not begun.</p>}
        </section>
        <TrialLog trial={name} attempts={details.attempts ?? []} />
        {files.length > 0 && <section class="card"><h2>Files</h2><ul class="files">{files.map((file) => <li key={file.name}><a href={artifactUrl(name, file.name)} download={file.name}><Text>{file.name}</Text></a> <small class="quiet">{bytes(int(file.sizeBytes))} · sha256 {file.sha256?.slice(0, 12)}</small></li>)}</ul></section>}
        {log && <LogFile trial={name} file={log} />}
        <section class="card"><h2>Run it alone</h2>
          <p class="quiet">On a machine that has the base and the pictures under the same paths. The result is the same bits on the same machine and number of threads.</p>
          <pre tabIndex={0}>{commandOf(details).split("\n").map(printable).join("\n")}</pre>
          <button type="button" onClick={() => navigator.clipboard?.writeText(commandOf(details)).then(() => setCopied(true), () => {})}>{copied ? "Copied" : "Copy"}</button>
        </section>
        <section class="card"><div class="bar"><h2>Resolved settings</h2><span class="spacer" /><input type="search" aria-label="Find a setting" placeholder="Find" value={route.query.get("q") ?? ""} onInput={(event) => setQuery(route, { q: event.currentTarget.value })} /></div>
          <dl class="pairs">{settings.map(([key, value]) => <div key={key}><dt>{printable(key)}</dt><dd>{printable(value) || <i class="quiet">empty</i>}</dd></div>)}</dl></section>
        {origin.length > 0 && <section class="card"><details><summary>Origin: versions, digests, seconds</summary><dl class="pairs">{origin.map(([key, value]) => <div key={key}><dt>{printable(key)}</dt><dd>{printable(value)}</dd></div>)}</dl></details>
          <details><summary>Seeds</summary><p class="quiet">Sweep seed {String(details.sweepSeed ?? 0)}, replicate {trial.replicate ?? 0}: each stream's own seed follows from them.</p><dl class="pairs">{seeds.map(([key, value]) => <div key={key}><dt>{printable(key.slice(5))}</dt><dd>{value}</dd></div>)}</dl></details></section>}
      </div>
    </>
  );
}

// In reading order: what was aimed at, what came of it, what there was before.
const pictures: { name: string; title: string; about?: keyof typeof explanations; alt: string }[] = [
  { name: "subject.png", title: "The training pictures", about: "subject", alt: "Training pictures" },
  { name: "samples.png", title: "This trial", about: "samples", alt: "Pictures sampled with this trial's weights" },
  { name: "samples-base.png", title: "The untuned base", about: "base", alt: "Pictures of the untuned base" },
  { name: "noise-difference.png", title: "Noise difference", about: "noise", alt: "Difference of predicted noise" },
];

function Pictures({ trial, index, files }: { trial: string; index: number; files: Artifact[] }) {
  const shown = pictures.filter((picture) => files.some((file) => file.name === picture.name));
  if (!shown.length) return null;
  return (
    <section class="card">
      <h2>Pictures</h2>
      <div class="pictures">
        {shown.map((picture) => {
          const url = artifactUrl(trial, picture.name);
          return <figure key={picture.name}><figcaption>{picture.title}{picture.about && <> <Explain about={picture.about} /></>}</figcaption><a href={url}><img src={`${url}?width=640`} alt={`${picture.alt}, trial ${index}`} loading="lazy" /></a></figure>;
        })}
      </div>
      {!files.some((file) => file.name === "samples-base.png") && <p class="quiet">The worker that ran it was of a version that handed over no pictures of the untuned base.</p>}
    </section>
  );
}

function LogFile({ trial, file }: { trial: string; file: Artifact }) {
  const text = useLoaded(async (signal) => (await fetch(artifactUrl(trial, file.name), { signal, credentials: "same-origin", headers: { Range: "bytes=-65536" } })).text(), [trial, file.sha256]);
  return <section class="card"><h2><Text>{file.name}</Text></h2><Problem>{text.error}</Problem><pre tabIndex={0} class="log">{(text.value ?? "").split("\n").map(printable).join("\n")}</pre></section>;
}
