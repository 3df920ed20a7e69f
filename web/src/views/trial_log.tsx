// What a worker logs while it works on a trial, followed as it comes. The page keeps the last lines only.
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { ApiError, call, sentenceOf } from "../api";
import { Title } from "../explain";
import { count, int, printable } from "../format";
import { Choice, Problem } from "../parts";
import type { Attempt, LogAnswer, LogLine } from "../types";

const mostLines = 1000;
// Between two answers, and for how long the coordinator may hold a call that has nothing to say.
const pauseMs = 500, maxWait = "8s";
const levelWord: Record<string, string> = { WARNING: "warning", ERROR: "error" };

interface Followed { lines: LogLine[]; before: number; epoch: number; ended: boolean; error?: string; unknown?: boolean }

function useLog(trial: string, epoch: number, attempts: number): Followed {
  const [log, setLog] = useState<Followed>({ lines: [], before: 0, epoch: 0, ended: false });
  useEffect(() => {
    const control = new AbortController();
    const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
    let after = 0, known: Followed = { lines: [], before: 0, epoch: 0, ended: false };
    const show = (changes: Partial<Followed>) => { known = { ...known, ...changes }; if (!control.signal.aborted) setLog(known); };
    const follow = async () => {
      while (!control.signal.aborted) {
        if (document.hidden && after) { await pause(2000); continue; }
        let answer: LogAnswer;
        try {
          answer = await call<LogAnswer>("TrialService/ListTrialLogs", { parent: trial, epoch, after, ...(after ? { maxWait, pageSize: 2000 } : { tail: mostLines, pageSize: mostLines }) }, control.signal);
        } catch (error) {
          if (control.signal.aborted) return;
          const code = error instanceof ApiError ? error.code : "";
          // An older coordinator knows no logs; an attempt that it has forgotten has none.
          if (code === "unimplemented") return show({ unknown: true });
          show({ error: code === "not_found" ? undefined : sentenceOf(error) });
          if (code !== "unavailable") return;
          await pause(3000);
          continue;
        }
        // The latest attempt may be another one by now: its lines are counted from 1 again.
        if (known.epoch && int(answer.epoch) !== known.epoch) { after = 0; known = { lines: [], before: 0, epoch: 0, ended: false }; continue; }
        const fresh = answer.lines ?? [];
        const lines = fresh.length ? [...known.lines, ...fresh].slice(-mostLines) : known.lines;
        after = int(lines.at(-1)?.sequence) || after;
        show({ lines, epoch: int(answer.epoch), before: Math.max(0, int(lines[0]?.sequence) - 1), ended: !!answer.ended && !answer.more, error: undefined });
        if (!int(answer.epoch) || (answer.ended && !answer.more)) return;
        // Nothing yet: there is no last line behind which one could wait.
        await pause(after ? pauseMs : 2000);
      }
    };
    setLog(known);
    follow();
    return () => control.abort();
  }, [trial, epoch, attempts]);
  return log;
}

export function TrialLog({ trial, attempts }: { trial: string; attempts: Attempt[] }) {
  const [chosen, setChosen] = useState(0);
  const [severe, setSevere] = useState(false);
  const log = useLog(trial, chosen, attempts.length);
  const box = useRef<HTMLPreElement>(null);
  const atEnd = useRef(true);
  useLayoutEffect(() => { if (box.current && atEnd.current) box.current.scrollTop = box.current.scrollHeight; }, [log.lines, severe]);
  if (log.unknown || (!log.epoch && !log.error)) return null;
  const shown = severe ? log.lines.filter((line) => levelWord[line.level ?? ""]) : log.lines;
  const time = (line: LogLine) => (line.time ? new Date(line.time).toLocaleTimeString("en-GB") : "");
  return (
    <section class="card">
      <div class="bar"><Title about="log">Log</Title>
        <small class="quiet">attempt {log.epoch}{log.ended ? ", ended" : ", as it comes"}{log.before > 0 && `; ${count(log.before)} earlier lines are not shown`}</small><span class="spacer" />
        <label class="choice"><input type="checkbox" checked={severe} onChange={() => setSevere(!severe)} /> warnings only</label>
        {attempts.length > 1 && <Choice label="Attempt" value={String(chosen)} options={[{ value: "0", text: "the latest" }, ...attempts.map((attempt) => ({ value: String(int(attempt.epoch)), text: String(int(attempt.epoch)) }))]} onChange={(value) => setChosen(Number(value))} />}</div>
      <Problem>{log.error}</Problem>
      <pre ref={box} tabIndex={0} class="log" role="log" aria-live="off" aria-label="Log" onScroll={(event) => { const at = event.currentTarget; atEnd.current = at.scrollHeight - at.scrollTop - at.clientHeight < 30; }}>
        {shown.map((line) => <span key={int(line.sequence)} class={`line ${levelWord[line.level ?? ""] ?? ""}`}><time dateTime={line.time}>{time(line)}</time>{levelWord[line.level ?? ""] && <b> {levelWord[line.level!]}</b>} {printable(line.text ?? "")}{"\n"}</span>)}
        {!shown.length && <span class="quiet">{severe && log.lines.length ? "No warnings." : log.ended ? "It has logged nothing that is kept." : "No line has come yet."}</span>}
      </pre>
    </section>
  );
}
