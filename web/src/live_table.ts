// All trials of a sweep, kept up with its events: loaded whole once, and then told which trials have changed.
import { useEffect, useState } from "preact/hooks";
import { ApiError, sentenceOf } from "./api";
import { lastPart } from "./format";
import type { TrialListener } from "./live";
import { loadTable, takeTrials, type TrialTable } from "./table_data";
import type { Trial } from "./types";

// Not shown more often than this, nor for more than a tenth of the time.
const leastPause = 500;

export interface LiveTable { table?: TrialTable; share: number; error?: string; listener: TrialListener }

// `name` empty: nothing. The table is loaded when a stream of events has begun (its listener hears "again"), so that nothing that
// happens while it is loaded is missed; what events say in that time counts over what was loaded.
export function useLiveTable(name: string): LiveTable {
  const [shown, setShown] = useState<{ table?: TrialTable; error?: string }>({});
  const [share, setShare] = useState(0);
  const [listener] = useState<TrialListener>(() => ({ trials: () => {}, again: () => {} }));
  useEffect(() => {
    setShown({});
    setShare(0);
    if (!name) return;
    const control = new AbortController();
    let table: TrialTable | undefined;
    let loading = false, wanted = false, restUntil = 0, cost = 0, loadTimer = 0, showTimer = 0;
    const told = new Map<number, Trial>();
    const show = () => {
      showTimer = 0;
      if (!table || loading) return;
      const whole = takeTrials(table, told.values());
      told.clear();
      const began = performance.now();
      // Another object with the same columns: what is computed from them is computed anew.
      setShown({ table: { ...table } });
      requestAnimationFrame(() => setTimeout(() => { cost = performance.now() - began; }));
      if (!whole) later();
    };
    const load = async () => {
      loadTimer = 0;
      if (document.hidden && table) return later(2000);
      loading = true;
      wanted = false;
      told.clear();
      const began = performance.now();
      let error: unknown;
      try { table = await loadTable(name, control.signal, table ? undefined : setShare); } catch (problem) { error = problem; }
      if (control.signal.aborted) return;
      loading = false;
      restUntil = performance.now() + 10 * (performance.now() - began);
      if (!error) show();
      else {
        setShown((before) => ({ table: before.table, error: sentenceOf(error) }));
        if (error instanceof ApiError && error.code === "unavailable") later(2000);
      }
      if (wanted) later();
    };
    const later = (wait = Math.max(0, restUntil - performance.now())) => {
      wanted = true;
      if (!loading && !loadTimer) loadTimer = window.setTimeout(load, wait);
    };
    listener.again = () => later();
    listener.trials = (trials) => {
      for (const trial of trials) told.set(Number(lastPart(trial.name)), trial);
      if (!loading && !showTimer) showTimer = window.setTimeout(show, Math.max(leastPause, 10 * cost));
    };
    // Where no stream comes about, the table does all the same.
    const patience = window.setTimeout(() => { if (!table && !loading) later(0); }, 1000);
    return () => {
      control.abort();
      for (const timer of [loadTimer, showTimer, patience]) clearTimeout(timer);
      listener.again = () => {};
      listener.trials = () => {};
    };
  }, [name]);
  return { ...shown, share, listener };
}
