// The workers: what each runs, its machine, when it was last heard of; and who ran what when.
import { useState } from "preact/hooks";
import { call, sentenceOf } from "../api";
import { Gantt } from "../charts/gantt";
import { Explain, Title } from "../explain";
import { bytes, count, int, lastPart, seconds, span } from "../format";
import { useLoaded } from "../live";
import { Choice, Problem, State, Text } from "../parts";
import { go, link, setQuery, type Route } from "../route";
import type { Attempt, Waiting, Worker } from "../types";

const spans: Record<string, { text: string; ms: number }> = { "10m": { text: "ten minutes", ms: 600e3 }, "1h": { text: "hour", ms: 3600e3 }, "6h": { text: "six hours", ms: 6 * 3600e3 }, "1d": { text: "day", ms: 86400e3 }, "7d": { text: "week", ms: 7 * 86400e3 }, "365d": { text: "year", ms: 365 * 86400e3 } };

export function WorkersPage({ route }: { route: Route }) {
  const [problem, setProblem] = useState("");
  const workers = useLoaded(async (signal) => {
    const all: Worker[] = [];
    let waiting: Waiting[] = [];
    let pageToken = "";
    do {
      const page = await call<{ workers?: Worker[]; waiting?: Waiting[]; nextPageToken?: string }>("WorkerService/ListWorkers", { pageToken }, signal);
      all.push(...(page.workers ?? []));
      if (!pageToken) waiting = page.waiting ?? [];
      pageToken = page.nextPageToken ?? "";
    } while (pageToken);
    return { all, waiting };
  }, [], 2000);
  const chosen = route.query.get("span") ?? "1h";
  const range = spans[chosen] ?? spans["1h"];
  const timeline = useLoaded(async (signal) => {
    const to = Date.now(), from = to - range.ms;
    const answer = await call<{ attempts?: Attempt[]; nextPageToken?: string }>("ViewService/ListAttempts", { since: new Date(from).toISOString(), pageSize: 3000 }, signal);
    return { to, from, attempts: answer.attempts ?? [], more: !!answer.nextPageToken };
  }, [chosen], 5000);
  const verb = async (method: string, name: string) => {
    setProblem("");
    try { await call(`WorkerService/${method}`, { name }); workers.again(); } catch (error) { setProblem(sentenceOf(error)); }
  };
  const perHour = (worker: Worker) => {
    const mine = timeline.value?.attempts.filter((attempt) => attempt.worker === worker.name && attempt.outcome === "SUCCEEDED") ?? [];
    return mine.length && timeline.value ? (mine.length * 3600e3) / Math.max(60e3, timeline.value.to - Math.min(...mine.map((attempt) => Date.parse(attempt.startTime)))) : 0;
  };
  return (
    <>
      <div class="bar"><h1>Workers</h1></div>
      <Problem>{workers.error}</Problem>
      <Problem>{problem}</Problem>
      {workers.value?.waiting.map((waiting) => <p class="note" key={`${waiting.sweep} ${waiting.reason}`}>{count(waiting.trials)} trials of {lastPart(waiting.sweep ?? "")} wait: <Text>{waiting.reason}</Text></p>)}
      {workers.value && !workers.value.all.length && <p class="empty">No worker has ever connected. <code>loupe up</code> starts some on this machine.</p>}
      {workers.value && workers.value.all.length > 0 && (
        <div class="scroll" tabIndex={0} role="region" aria-label="Workers">
          <table class="list">
            <thead><tr><th scope="col">Worker</th><th scope="col">State</th><th scope="col">Runs</th><th scope="col">Device</th><th scope="col" class="num">Memory</th><th scope="col" class="num">Last heard <Explain about="silent" /></th><th scope="col" class="num">Done</th><th scope="col" class="num">per hour</th><th scope="col" class="num">Failed</th><th><span class="hidden">Commands</span></th></tr></thead>
            <tbody>{workers.value.all.map((worker) => {
              const about = worker.description ?? {};
              return (
                <tr key={worker.name}>
                  <th scope="row"><Text>{lastPart(worker.name)}</Text><small><Text>{about.hostname}</Text>{about.processId ? ` · process ${int(about.processId)}` : ""}{about.version ? ` · ${about.version}` : ""}</small></th>
                  <td><State state={worker.state} /></td>
                  <td>{worker.running?.length ? worker.running.slice(0, 4).map((trial) => { const [, sweep, , index] = trial.split("/"); return <a key={trial} href={link(["sweeps", sweep, "trials", index])}><Text>{`${sweep} ${index}`}</Text> </a>; }) : <span class="quiet">nothing</span>}{(worker.running?.length ?? 0) > 4 && ` and ${worker.running!.length - 4} more`}<small class="quiet">{worker.running?.length ?? 0} of {worker.slots ?? 0} places</small></td>
                  <td><Text>{about.device}</Text>{about.threads ? <small class="quiet">{about.threads} threads</small> : null}</td>
                  <td class="num">{bytes(int(about.abilities?.deviceMemoryBytes) || int(about.memoryBytes))}</td>
                  <td class="num">{span(seconds(worker.sinceLastSync) ?? 0)}</td>
                  <td class="num">{count(worker.trialsSucceeded)}</td>
                  <td class="num">{perHour(worker) ? perHour(worker).toFixed(0) : "–"}</td>
                  <td class="num">{int(worker.trialsFailed) ? <span class="bad">{count(worker.trialsFailed)}</span> : 0}</td>
                  <td>{worker.state === "DRAINING" ? <button type="button" onClick={() => verb("UndrainWorker", worker.name)} aria-label={`Give ${worker.name} trials again`}>Undrain</button> : worker.state !== "LOST" && <button type="button" onClick={() => verb("DrainWorker", worker.name)} aria-label={`Drain ${worker.name}`}>Drain</button>}</td>
                </tr>
              );
            })}</tbody>
          </table>
        </div>
      )}
      <section class="card">
        <div class="bar"><Title about="gantt">Who ran what</Title><span class="spacer" />
          <p class="legend"><span><i class="box good" />done</span><span><i class="box bad" />failed</span><span><i class="box warn" />lost</span><span><i class="box now" />running</span></p>
          <Choice label="the last" value={chosen} options={Object.entries(spans).map(([value, one]) => ({ value, text: one.text }))} onChange={(value) => setQuery(route, { span: value })} /></div>
        <Problem>{timeline.error}</Problem>
        {timeline.value && (timeline.value.attempts.length ? <Gantt attempts={timeline.value.attempts} from={Math.max(timeline.value.from, Math.min(...timeline.value.attempts.map((attempt) => Date.parse(attempt.startTime))))} to={chosen === "365d" || timeline.value.attempts.every((attempt) => attempt.endTime) ? Math.max(...timeline.value.attempts.map((attempt) => (attempt.endTime ? Date.parse(attempt.endTime) : timeline.value!.to))) : timeline.value.to}
          onPick={(attempt) => { const [, sweep, , index] = attempt.trial.split("/"); go(link(["sweeps", sweep, "trials", index])); }} /> : <p class="empty">Nothing ran in the last {range.text}.</p>)}
        {timeline.value?.more && <p class="quiet">Only the latest 3,000 attempts are shown.</p>}
      </section>
    </>
  );
}
