// The workers: what each runs, its machine, when it was last heard of; and who ran what when.
import { useState } from "preact/hooks";
import { call, sentenceOf } from "../api";
import { Gantt } from "../charts/gantt";
import { Explain, Title } from "../explain";
import { bytes, count, int, lastPart, number, packText, printable, seconds, span, when } from "../format";
import { useLoaded } from "../live";
import { Choice, Problem, State, Text } from "../parts";
import { go, link, setQuery, type Route } from "../route";
import type { Attempt, Waiting, Worker } from "../types";

const spans: Record<string, { text: string; ms: number }> = { "10m": { text: "ten minutes", ms: 600e3 }, "1h": { text: "hour", ms: 3600e3 }, "6h": { text: "six hours", ms: 6 * 3600e3 }, "1d": { text: "day", ms: 86400e3 }, "7d": { text: "week", ms: 7 * 86400e3 }, "365d": { text: "year", ms: 365 * 86400e3 } };

// A share as a bar with its number; the bar alone is for the eye.
function Share({ share, text }: { share: number; text: string }) {
  return <span class="share"><span class="bar-track" aria-hidden="true"><i style={{ width: `${100 * Math.min(1, Math.max(0, share))}%` }} /></span> {text}</span>;
}

// What the worker measures of itself, as of its latest message.
function Use({ worker }: { worker: Worker }) {
  const now = worker.telemetry;
  if (!now) return <span class="quiet">not told</span>;
  const threads = worker.description?.threads ?? 0, memory = int(worker.description?.memoryBytes);
  return (
    <>
      {now.gpus?.map((gpu) => (
        <span key={gpu.device} class="use" title={printable(gpu.device ?? "")}>
          {gpu.utilization !== undefined && <Share share={gpu.utilization} text={`GPU ${Math.round(100 * gpu.utilization)} %`} />}
          {int(gpu.memoryTotalBytes) > 0 && <Share share={int(gpu.memoryUsedBytes) / int(gpu.memoryTotalBytes)} text={`${bytes(int(gpu.memoryUsedBytes))} of ${bytes(int(gpu.memoryTotalBytes))}`} />}
        </span>
      ))}
      {threads > 0 && <Share share={(now.busyCores ?? 0) / threads} text={`${(now.busyCores ?? 0).toFixed(1)} of ${threads} ${threads === 1 ? "thread" : "threads"} busy`} />}
      {int(now.memoryBytes) > 0 && <Share share={memory ? int(now.memoryBytes) / memory : 0} text={`${bytes(int(now.memoryBytes))} of memory`} />}
      {(now.stepSeconds ?? 0) > 0 && <small class="quiet">{number(now.stepSeconds, 2)} s a step{(now.picturesPerSecond ?? 0) > 0 && ` · ${number(now.picturesPerSecond, 2)} pictures/s`}</small>}
    </>
  );
}

const memoryOf = (worker: Worker): number => int(worker.description?.abilities?.deviceMemoryBytes) || int(worker.description?.memoryBytes);

// Which trials it holds, and how far they are.
function Holds({ worker }: { worker: Worker }) {
  const running = worker.running ?? [];
  const of = (trial: string) => worker.attempts?.find((attempt) => attempt.trial === trial);
  return (
    <>
      {running.slice(0, 4).map((trial) => {
        const [, sweep, , index] = trial.split("/");
        const attempt = of(trial);
        return <span key={trial} class="held"><a href={link(["sweeps", sweep, "trials", index])}><Text>{`${sweep} ${index}`}</Text></a>{attempt && <small class="quiet">{attempt.phase || "starting"}{int(attempt.totalSteps) > 0 && ` ${count(attempt.step)} of ${count(attempt.totalSteps)}`}{packText(attempt)}</small>}</span>;
      })}
      {!running.length && <span class="quiet">nothing</span>}
      <small class="quiet">{running.length > 4 && `and ${running.length - 4} more; `}{running.length} of {worker.slots ?? 0} places</small>
    </>
  );
}

// The timeline's bars as a table: for those who do not point at them.
function AttemptList({ attempts }: { attempts: Attempt[] }) {
  const [open, setOpen] = useState(false);
  return (
    <details onToggle={(event) => setOpen(event.currentTarget.open)}><summary>As a table</summary>
      {open && <div class="scroll" tabIndex={0} role="region" aria-label="Attempts"><table class="list"><thead><tr><th scope="col">Trial</th><th scope="col">#</th><th scope="col">Worker</th><th scope="col">Began</th><th scope="col" class="num">Took</th><th scope="col">Outcome</th></tr></thead>
        <tbody>{attempts.slice(0, 200).map((attempt) => {
          const [, sweep, , index] = attempt.trial.split("/");
          return <tr key={`${attempt.trial} ${int(attempt.epoch)}`}><th scope="row"><a href={link(["sweeps", sweep, "trials", index])}><Text>{`${sweep} ${index}`}</Text></a></th><td>{int(attempt.epoch)}</td><td><Text>{lastPart(attempt.worker ?? "")}</Text></td><td>{when(attempt.startTime)}</td>
            <td class="num">{attempt.endTime ? span((Date.parse(attempt.endTime) - Date.parse(attempt.startTime)) / 1000) : "–"}</td><td><State state={attempt.outcome ?? "RUNNING"} />{attempt.failure?.message && <small><Text>{attempt.failure.message}</Text></small>}</td></tr>;
        })}</tbody></table></div>}
      {open && attempts.length > 200 && <p class="quiet">The latest 200 of {count(attempts.length)}.</p>}
    </details>
  );
}

export function WorkersPage({ route }: { route: Route }) {
  const [problem, setProblem] = useState("");
  const workers = useLoaded(async (signal) => {
    const all: Worker[] = [];
    let waiting: Waiting[] = [], wanted = 0, available = 0;
    let pageToken = "";
    do {
      const page = await call<{ workers?: Worker[]; waiting?: Waiting[]; nextPageToken?: string; wantedWorkers?: string; availableWorkers?: string }>("WorkerService/ListWorkers", { pageToken }, signal);
      all.push(...(page.workers ?? []));
      if (!pageToken) { waiting = page.waiting ?? []; wanted = int(page.wantedWorkers); available = int(page.availableWorkers); }
      pageToken = page.nextPageToken ?? "";
    } while (pageToken);
    return { all, waiting, wanted, available };
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
      {workers.value && workers.value.wanted > 0 && <p class="quiet">{count(workers.value.available)} take trials; {count(workers.value.wanted)} would have enough to do. <Explain about="wanted" /></p>}
      {workers.value && !workers.value.all.length && <p class="empty">No worker has ever connected. <code>loupe up</code> starts some on this machine.</p>}
      {workers.value && workers.value.all.length > 0 && (
        <div class="scroll" tabIndex={0} role="region" aria-label="Workers">
          <table class="list">
            <thead><tr><th scope="col">Worker</th><th scope="col">State</th><th scope="col">Runs</th><th scope="col">Device</th><th scope="col">In use <Explain about="use" /></th><th scope="col" class="num">Last heard <Explain about="silent" /></th><th scope="col" class="num">Done</th><th scope="col" class="num">per hour <Explain about="perHour" /></th><th scope="col" class="num">Failed</th><th><span class="hidden">Commands</span></th></tr></thead>
            <tbody>{workers.value.all.map((worker) => {
              const about = worker.description ?? {};
              return (
                <tr key={worker.name}>
                  <th scope="row"><Text>{lastPart(worker.name)}</Text><small><Text>{about.hostname}</Text>{about.processId ? ` · process ${int(about.processId)}` : ""}{about.version ? ` · ${about.version}` : ""}</small></th>
                  <td><State state={worker.state} /></td>
                  <td><Holds worker={worker} /></td>
                  <td><Text>{about.device}</Text>{about.threads ? <small class="quiet">{about.threads} {about.threads === 1 ? "thread" : "threads"}{memoryOf(worker) > 0 && ` · ${bytes(memoryOf(worker))}`}</small> : null}</td>
                  <td class="wide"><Use worker={worker} /></td>
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
        {timeline.value && timeline.value.attempts.length > 0 && <AttemptList attempts={timeline.value.attempts} />}
      </section>
    </>
  );
}
