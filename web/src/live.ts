// What changes while one looks: polling that is never in a hurry, and a sweep's live updates.
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { ApiError, eventsUrl, sentenceOf } from "./api";
import type { SweepNews, Trial } from "./types";

export interface Loaded<T> { value?: T; error?: string; loading: boolean; again: () => void }

// Loads now, whenever `keys` change, when `version` has changed, and every `every` milliseconds (0: not by itself); but for the last two
// never for more than a tenth of the time: what takes 3 s is asked for every 30 s at most. A load under way is not broken off for
// a new version: what changes all the time would never be shown. Nothing is asked by the clock while the page is hidden. The last
// value stays until other keys are asked for, also beside an error.
export function useLoaded<T>(load: (signal: AbortSignal) => Promise<T>, keys: unknown[], every = 0, version = ""): Loaded<T> {
  const [state, setState] = useState<{ value?: T; error?: string; loading: boolean }>({ loading: true });
  const [round, setRound] = useState(0);
  const shown = useRef("");
  const wanted = useRef({ load, version, look: () => {} });
  wanted.current.load = load;
  wanted.current.version = version;
  const key = JSON.stringify(keys);
  useEffect(() => {
    const control = new AbortController();
    let timer = 0, busy = false, restUntil = 0, seen: string | undefined;
    const plan = (wait: number) => { clearTimeout(timer); timer = window.setTimeout(run, wait); };
    const run = async () => {
      if (document.hidden && every) return plan(every);
      busy = true;
      seen = wanted.current.version;
      const started = performance.now();
      let again = false;
      try {
        const value = await wanted.current.load(control.signal);
        if (!control.signal.aborted) setState({ value, loading: false });
      } catch (error) {
        again = error instanceof ApiError && error.code === "unavailable";
        if (!control.signal.aborted) setState((before) => ({ value: before.value, error: sentenceOf(error), loading: false }));
      }
      busy = false;
      if (control.signal.aborted) return;
      const rest = 10 * (performance.now() - started);
      restUntil = performance.now() + rest;
      if (every || again) plan(Math.max(every || 2000, rest));
      else if (seen !== wanted.current.version) plan(rest);
    };
    wanted.current.look = () => { if (!busy && seen !== wanted.current.version) plan(Math.max(0, restUntil - performance.now())); };
    if (shown.current !== key) setState({ loading: true });
    shown.current = key;
    run();
    return () => { control.abort(); clearTimeout(timer); wanted.current.look = () => {}; };
  }, [key, round, every]);
  useEffect(() => wanted.current.look(), [version]);
  return { ...state, again: useCallback(() => setRound((n) => n + 1), []) };
}

export type Link = "connecting" | "live" | "lost" | "ended";

// Hears which trials have changed, as they are now; and, when a stream begins or too many have changed, that all are to be read again.
export interface TrialListener { trials: (trials: Trial[]) => void; again: () => void }

// The sweep's updates. After a break the newest state comes at once: nothing is counted here, so nothing is lost or doubled. Another
// `round` opens a stream again that has ended: a sweep may go on after its end.
export function useSweepNews(name: string, listener?: TrialListener, round = 0): { news?: SweepNews; link: Link } {
  const [news, setNews] = useState<SweepNews>();
  const [state, setState] = useState<Link>("connecting");
  useEffect(() => {
    let source: EventSource | undefined;
    let timer = 0;
    let wait = 500;
    let over = false;
    const open = () => {
      source = new EventSource(eventsUrl(name));
      let begun = false;
      const take = (event: MessageEvent) => {
        wait = 500;
        let message: SweepNews;
        try { message = JSON.parse(event.data); } catch { return; }
        if (!message.sweep) return;
        if (!begun) { begun = true; listener?.again(); }
        setNews(message);
        setState("live");
      };
      source.addEventListener("sweep", take as EventListener);
      source.addEventListener("reload", () => listener?.again());
      source.addEventListener("trials", (event) => {
        try { listener?.trials((JSON.parse((event as MessageEvent).data) as { trials?: Trial[] }).trials ?? []); } catch { listener?.again(); }
      });
      source.addEventListener("end", () => { over = true; setState("ended"); source?.close(); });
      source.onerror = () => {
        source?.close();
        if (over) return;
        setState("lost");
        timer = window.setTimeout(open, wait);
        wait = Math.min(2 * wait, 10000);
      };
    };
    setState("connecting");
    open();
    return () => { over = true; source?.close(); clearTimeout(timer); };
  }, [name, round, listener]);
  useEffect(() => () => setNews(undefined), [name]);
  return { news, link: state };
}
