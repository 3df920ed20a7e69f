// What changes while one looks: polling that is never in a hurry, and a sweep's live updates.
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { eventsUrl, sentenceOf } from "./api";
import { terminal } from "./format";
import type { SweepNews } from "./types";

export interface Loaded<T> { value?: T; error?: string; loading: boolean; again: () => void }

// Loads now, whenever `keys` change, and again every `every` milliseconds, but never more often than in a tenth of the time: what
// takes 3 s is asked for every 30 s. Nothing is asked while the page is hidden. An error leaves the last value standing beside it.
export function useLoaded<T>(load: (signal: AbortSignal) => Promise<T>, keys: unknown[], every = 0): Loaded<T> {
  const [state, setState] = useState<{ value?: T; error?: string; loading: boolean }>({ loading: true });
  const [round, setRound] = useState(0);
  const shown = useRef("");
  const key = JSON.stringify(keys);
  useEffect(() => {
    const control = new AbortController();
    let timer = 0;
    if (shown.current !== key) setState({ loading: true });
    shown.current = key;
    const run = async () => {
      if (document.hidden && every) { timer = window.setTimeout(run, every); return; }
      const started = performance.now();
      let failed = false;
      try {
        const value = await load(control.signal);
        if (!control.signal.aborted) setState({ value, loading: false });
      } catch (error) {
        failed = true;
        if (!control.signal.aborted) setState((before) => ({ value: before.value, error: sentenceOf(error), loading: false }));
      }
      const took = performance.now() - started;
      if (!control.signal.aborted && (every || failed)) timer = window.setTimeout(run, Math.max(every || 2000, 10 * took));
    };
    run();
    return () => { control.abort(); clearTimeout(timer); };
  }, [key, round, every]);
  return { ...state, again: useCallback(() => setRound((n) => n + 1), []) };
}

export type Link = "connecting" | "live" | "lost" | "ended";

// The sweep's updates. After a break the newest state comes at once: nothing is counted here, so nothing is lost or doubled.
export function useSweepNews(name: string): { news?: SweepNews; link: Link } {
  const [news, setNews] = useState<SweepNews>();
  const [state, setState] = useState<Link>("connecting");
  useEffect(() => {
    let source: EventSource | undefined;
    let timer = 0;
    let wait = 500;
    let over = false;
    const open = () => {
      source = new EventSource(eventsUrl(name));
      const take = (event: MessageEvent) => {
        wait = 500;
        let message: SweepNews;
        try { message = JSON.parse(event.data); } catch { return; }
        if (!message.sweep) return;
        setNews(message);
        setState("live");
        if (terminal(message.sweep.state)) { setState("ended"); over = true; source?.close(); }
      };
      source.addEventListener("sweep", take as EventListener);
      source.addEventListener("end", () => { over = true; setState("ended"); source?.close(); });
      source.onerror = () => {
        source?.close();
        if (over) return;
        setState("lost");
        timer = window.setTimeout(open, wait);
        wait = Math.min(2 * wait, 10000);
      };
    };
    setNews(undefined);
    setState("connecting");
    open();
    return () => { over = true; source?.close(); clearTimeout(timer); };
  }, [name]);
  return { news, link: state };
}
