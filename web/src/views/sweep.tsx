// One sweep: its state and verbs, and what its results say so far, in four tabs.
import { useEffect, useMemo, useState } from "preact/hooks";
import { call, requestId, sentenceOf } from "../api";
import { count, int, lastPart, number, packText, seconds, span, terminal, when } from "../format";
import { useLoaded, useSweepNews } from "../live";
import { useLiveTable } from "../live_table";
import { Figure, Problem, Progress, State, Text } from "../parts";
import { Explain } from "../explain";
import { link, type Route } from "../route";
import type { Sweep, SweepNews } from "../types";
import { AnalysisTab } from "./analysis";
import { CurvesTab } from "./sweep_curves";
import { PicturesTab } from "./sweep_pictures";
import { DesignTab } from "./design";
import { rateText, useDigest } from "./sweeps";
import { TableTab } from "./trial_table";

type Verb = "PauseSweep" | "ResumeSweep" | "StopSweep" | "CancelSweep";

function Verbs({ sweep, changed }: { sweep: Sweep; changed: (sweep: Sweep) => void }) {
  const [problem, setProblem] = useState("");
  const [asking, setAsking] = useState<Verb>();
  const id = lastPart(sweep.name);
  const failed = int(sweep.counts?.failed) + int(sweep.counts?.quarantined);
  const run = async (ask: () => Promise<Sweep>) => {
    setProblem("");
    setAsking(undefined);
    try { changed(await ask()); } catch (error) { setProblem(sentenceOf(error)); }
  };
  const verb = (method: Verb) => run(() => call<Sweep>(`SweepService/${method}`, { name: sweep.name, requestId: requestId() }));
  const open = !terminal(sweep.state) && sweep.state !== "DELETING";
  return (
    <div class="verbs">
      {sweep.state === "ACTIVE" && <button type="button" onClick={() => verb("PauseSweep")}>Pause</button>}
      {sweep.state === "PAUSED" && <button type="button" class="main" onClick={() => verb("ResumeSweep")}>Resume</button>}
      {open && sweep.state !== "STOPPING" && <button type="button" onClick={() => setAsking("StopSweep")}>Stop…</button>}
      {open && <button type="button" onClick={() => setAsking("CancelSweep")}>Cancel…</button>}
      {failed > 0 && <button type="button" onClick={() => run(async () => (await call<{ sweep: Sweep }>("SweepService/RetryTrials", { name: sweep.name, requestId: requestId() })).sweep)}>Retry {failed} failed</button>}
      <a class="button" href={link(["new"], { from: id })}>Clone and change</a>
      <a class="button" href={link(["compare", id])}>Compare</a>
      {asking && (
        <span role="alertdialog" aria-label="Confirm" class="confirm">
          {asking === "StopSweep" ? "What runs ends and counts, what waits is cancelled." : "What runs is stopped at once, what waits is cancelled."}{" "}
          <button type="button" class="danger" ref={(button) => button?.focus()} onClick={() => verb(asking)}>{asking === "StopSweep" ? "Stop the sweep" : "Cancel the sweep"}</button>{" "}
          <button type="button" onClick={() => setAsking(undefined)}>Keep it</button>
        </span>
      )}
      <Problem>{problem}</Problem>
    </div>
  );
}

function Running({ news }: { news: SweepNews }) {
  const running = news.running ?? [];
  if (!running.length) return null;
  return (
    <section class="card" aria-label="Running now">
      <h2>Running now</h2>
      <div class="running">
        {running.slice(0, 24).map((attempt) => {
          const share = int(attempt.totalSteps) ? int(attempt.step) / int(attempt.totalSteps) : 0;
          const [, sweep, , index] = attempt.trial.split("/");
          return (
            <a key={attempt.trial} class="run" href={link(["sweeps", sweep, "trials", index])}>
              <b>trial {index}</b> on <Text>{lastPart(attempt.worker ?? "")}</Text>
              <span class="progress thin" aria-hidden="true"><span class="part part-running" style={{ width: `${100 * share}%` }} /></span>
              <small>{attempt.phase || "starting"}{int(attempt.totalSteps) > 0 && ` ${count(attempt.step)} of ${count(attempt.totalSteps)}`}{packText(attempt)} · {span(seconds(attempt.elapsed) ?? 0)}{attempt.metrics?.loss !== undefined && ` · loss ${number(attempt.metrics.loss, 3)}`}</small>
            </a>
          );
        })}
      </div>
      {running.length + int(news.runningLeftOut) > 24 && <p class="quiet">and {count(running.length + int(news.runningLeftOut) - 24)} more</p>}
    </section>
  );
}

const tabs = [["", "Results"], ["table", "Trials"], ["pictures", "Pictures"], ["curves", "Curves"], ["design", "Design"]] as const;

export function SweepPage({ route, sweep: id }: { route: Route; sweep: string }) {
  const name = `sweeps/${id}`;
  const [round, setRound] = useState(0);
  const { table, share, error, listener } = useLiveTable(name);
  const { news, link: state } = useSweepNews(name, listener, round);
  // Of a sweep that has ended nothing is heard: somebody else may have had its failed trials tried again.
  const first = useLoaded((signal) => call<Sweep>("SweepService/GetSweep", { name }, signal), [name], state === "ended" ? 10000 : 0);
  const [changed, setChanged] = useState<Sweep>();
  const newest = [first.value, news?.sweep, changed].filter((sweep): sweep is Sweep => !!sweep).reduce<Sweep | undefined>((best, sweep) => (!best || int(sweep.etag) > int(best.etag) || (sweep === news?.sweep && int(sweep.etag) === int(best.etag)) ? sweep : best), undefined);
  const sweep = newest ? { ...newest, spec: first.value?.spec ?? newest.spec } : undefined;
  useEffect(() => { if (state === "ended" && sweep && !terminal(sweep.state)) setRound((n) => n + 1); }, [state, sweep?.state]);
  const digest = useDigest(sweep);
  const tab = route.parts[2] ?? "";
  const counts = sweep?.counts;
  const ended = int(counts?.total) - int(counts?.queued) - int(counts?.running);
  const version = `${sweep?.uid} ${counts?.succeeded} ${counts?.failed} ${counts?.quarantined} ${counts?.cancelled}`;
  const shown = useMemo(() => route.query.toString(), [route]);
  if (first.error && !sweep) return <><h1><Text>{id}</Text></h1><Problem>{first.error}</Problem></>;
  if (!sweep) return <p class="quiet">Loading…</p>;
  return (
    <>
      <p class="trail"><a href={link([])}>Sweeps</a> / </p>
      <div class="bar">
        <h1><Text>{id}</Text> <State state={sweep.state} /></h1>
        <span class="spacer" />
        <span class={`live live-${state}`} role="status">{state === "live" ? "live" : state === "lost" ? "The coordinator does not answer; trying again." : state === "ended" ? "" : "…"}</span>
      </div>
      {sweep.spec?.displayName && <p class="lead"><Text>{sweep.spec.displayName}</Text></p>}
      {sweep.stateReason && <p class="note"><Text>{sweep.stateReason}</Text></p>}
      {sweep.waiting?.map((waiting) => <p key={waiting.reason} class="note">{count(waiting.trials)} trials wait: <Text>{waiting.reason}</Text></p>)}
      <Progress counts={counts} />
      <dl class="figures">
        <Figure label="Trials" hint={<Explain about="progress" />}>{count(ended)} <small>of {count(counts?.total)}</small></Figure>
        <Figure label="Running" hint={<Explain about="runningNow" />}>{count(counts?.running)}</Figure>
        {int(counts?.failed) + int(counts?.quarantined) > 0 && <Figure label="Failed" hint={<Explain about="failed" />}><span class="bad">{count(int(counts?.failed) + int(counts?.quarantined))}</span></Figure>}
        {!terminal(sweep.state) && <Figure label="Rate" hint={<Explain about="rate" />}>{rateText(digest, sweep)}</Figure>}
        {!terminal(sweep.state) && <Figure label="Time left" hint={<Explain about="left" />}>{span(seconds(sweep.estimatedTimeLeft))}</Figure>}
        <Figure label={`Best ${digest?.scoreTitle ?? ""}`} hint={<Explain about="best" />}>{digest?.bestTrial ? <a href={link(["sweeps", id, "trials", lastPart(digest.bestTrial)])}>{number(digest.best ?? 0)}</a> : "–"}</Figure>
        <Figure label="Made"><small>{when(sweep.createTime)}</small></Figure>
        {sweep.endTime && <Figure label="Ended"><small>{when(sweep.endTime)}</small></Figure>}
      </dl>
      <Verbs sweep={sweep} changed={setChanged} />
      <nav class="tabs" aria-label="Views of the sweep">
        {tabs.map(([path, text]) => <a key={path} href={link(["sweeps", id, ...(path ? [path] : [])], new URLSearchParams(shown))} aria-current={tab === path ? "page" : undefined}>{text}</a>)}
      </nav>
      <Problem>{error}</Problem>
      {!table && !error && sweep.state !== "DELETING" && <p class="quiet" role="status">Loading the trials… {Math.round(100 * share)} %</p>}
      {tab === "" && <>{news && <Running news={news} />}{table && <AnalysisTab route={route} sweep={sweep} table={table} version={version} />}</>}
      {tab === "table" && table && <TableTab route={route} sweep={id} table={table} />}
      {tab === "pictures" && table && <PicturesTab route={route} sweep={id} table={table} />}
      {tab === "curves" && <CurvesTab route={route} sweep={id} version={version} table={table} />}
      {tab === "design" && <DesignTab sweep={sweep} />}
    </>
  );
}
