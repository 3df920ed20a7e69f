// All sweeps, newest first: state, progress, rate, time left, best score.
import { useEffect, useState } from "preact/hooks";
import { call } from "../api";
import { Explain } from "../explain";
import { count, int, lastPart, number, seconds, span, terminal, when } from "../format";
import { useLoaded } from "../live";
import { Problem, Progress, State, Text } from "../parts";
import { link, setQuery, type Route } from "../route";
import type { Digest, Sweep } from "../types";

// One sweep's digest, asked for again when its results have changed, and, for its rate, each minute while it runs.
const digests = new Map<string, { seen: string; digest: Digest }>();
export function useDigest(sweep: Sweep | undefined): Digest | undefined {
  const name = sweep?.name ?? "";
  const seen = `${sweep?.uid} ${sweep?.counts?.succeeded} ${terminal(sweep?.state) ? "" : Math.floor(Date.now() / 60e3)}`;
  const [, draw] = useState(0);
  useEffect(() => {
    if (!name || digests.get(name)?.seen === seen) return;
    const control = new AbortController();
    call<Digest>("ViewService/GetSweepDigest", { name }, control.signal)
      .then((digest) => { digests.set(name, { seen, digest }); draw((n) => n + 1); }, () => {});
    return () => control.abort();
  }, [name, seen]);
  return digests.get(name)?.digest;
}

// Of the last ten minutes, or of the sweep's life where that is shorter; of the last hour where nothing came lately.
export function rateText(digest: Digest | undefined, sweep: Sweep): string {
  if (!digest) return "–";
  const lately = int(digest.accepted10Minutes);
  const minutes = Math.min(10, Math.max(0.25, (Date.now() - Date.parse(sweep.createTime ?? "")) / 60e3));
  return lately ? `${count(Math.round((lately * 60) / minutes))}/h` : `${count(digest.acceptedHour)}/h`;
}

function Row({ sweep, chosen, choose }: { sweep: Sweep; chosen: boolean; choose: () => void }) {
  const id = lastPart(sweep.name);
  const digest = useDigest(sweep);
  const ended = int(sweep.counts?.total) - int(sweep.counts?.queued) - int(sweep.counts?.running);
  const over = terminal(sweep.state);
  return (
    <tr>
      <td class="pick"><input type="checkbox" aria-label={`Compare ${id}`} checked={chosen} onChange={choose} /></td>
      <th scope="row"><a href={link(["sweeps", id])}><Text>{id}</Text></a>{sweep.spec?.displayName && <small><Text>{sweep.spec.displayName}</Text></small>}</th>
      <td><State state={sweep.state} />{sweep.stateReason && <small class="quiet"><Text>{sweep.stateReason}</Text></small>}</td>
      <td class="wide"><Progress counts={sweep.counts} /><small>{count(ended)} of {count(sweep.counts?.total)}{int(sweep.counts?.failed) + int(sweep.counts?.quarantined) > 0 && <span class="bad"> · {count(int(sweep.counts?.failed) + int(sweep.counts?.quarantined))} failed</span>}</small></td>
      <td class="num">{over ? "–" : rateText(digest, sweep)}</td>
      <td class="num">{over ? "–" : span(seconds(sweep.estimatedTimeLeft))}</td>
      <td class="num">{digest?.bestTrial ? <a href={link(["sweeps", id, "trials", lastPart(digest.bestTrial)])}>{number(digest.best ?? 0)}</a> : "–"}<small>{digest?.scoreTitle ?? ""}{digest?.results ? ` · n=${count(digest.results)}` : ""}</small></td>
      <td>{when(sweep.createTime)}</td>
    </tr>
  );
}

export function SweepsPage({ route }: { route: Route }) {
  const state = route.query.get("state") ?? "";
  const words = (route.query.get("q") ?? "").toLowerCase();
  const sweeps = useLoaded(async (signal) => {
    const all: Sweep[] = [];
    let pageToken = "";
    do {
      const page = await call<{ sweeps?: Sweep[]; nextPageToken?: string }>("SweepService/ListSweeps", { pageSize: 200, pageToken }, signal);
      all.push(...(page.sweeps ?? []));
      pageToken = page.nextPageToken ?? "";
    } while (pageToken && all.length < 2000);
    return all;
  }, [], 3000);
  const [chosen, setChosen] = useState<string[]>([]);
  const shown = (sweeps.value ?? []).filter((sweep) => (!state || (state === "open" ? !terminal(sweep.state) : terminal(sweep.state))) &&
    (!words || `${sweep.name} ${sweep.spec?.displayName ?? ""}`.toLowerCase().includes(words)));
  return (
    <>
      <div class="bar">
        <h1>Sweeps</h1>
        <span class="spacer" />
        <input type="search" placeholder="Find" aria-label="Find a sweep" value={route.query.get("q") ?? ""} onInput={(event) => setQuery(route, { q: event.currentTarget.value })} />
        <select aria-label="State" value={state} onChange={(event) => setQuery(route, { state: event.currentTarget.value })}>
          <option value="">all states</option><option value="open">not ended</option><option value="ended">ended</option>
        </select>
        <a class={chosen.length === 2 ? "button" : "button off"} aria-disabled={chosen.length !== 2} href={chosen.length === 2 ? link(["compare", ...chosen]) : undefined}>Compare two</a>
        <a class="button main" href={link(["new"])}>New sweep</a>
      </div>
      <Problem>{sweeps.error}</Problem>
      {sweeps.value && !shown.length && <p class="empty">{sweeps.value.length ? "No sweep matches." : <>There is no sweep yet. <a href={link(["new"])}>Write one</a>, or <code>loupe submit FILE</code>.</>}</p>}
      {shown.length > 0 && (
        <div class="scroll" tabIndex={0} role="region" aria-label="Sweeps">
          <table class="list">
            <thead><tr>
              <th><span class="hidden">Compare</span></th><th scope="col">Sweep</th><th scope="col">State</th><th scope="col">Progress <Explain about="progress" /></th><th scope="col" class="num">Rate <Explain about="rate" /></th>
              <th scope="col" class="num">Time left <Explain about="left" /></th><th scope="col" class="num">Best <Explain about="best" /></th><th scope="col">Made</th>
            </tr></thead>
            <tbody>{shown.map((sweep) => {
              const id = lastPart(sweep.name);
              return <Row key={sweep.name} sweep={sweep} chosen={chosen.includes(id)} choose={() => setChosen((before) => (before.includes(id) ? before.filter((one) => one !== id) : [...before, id].slice(-2)))} />;
            })}</tbody>
          </table>
        </div>
      )}
      {!sweeps.value && sweeps.loading && <p class="quiet">Loading…</p>}
    </>
  );
}
