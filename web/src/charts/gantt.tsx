// Attempts over time, one lane per worker.
import { useState } from "preact/hooks";
import { lastPart, span, when } from "../format";
import type { Attempt } from "../types";
import { Canvas } from "./canvas";
import { cssColor } from "./colors";

const colors: Record<string, string> = { RUNNING: "--running", SUCCEEDED: "--good", FAILED: "--bad", LOST: "--warn", STOPPED: "--quiet" };
const lane = 26, head = 24, left = 120;

export function Gantt({ attempts, from, to, onPick }: { attempts: Attempt[]; from: number; to: number; onPick: (attempt: Attempt) => void }) {
  const workers = [...new Set(attempts.map((attempt) => attempt.worker ?? ""))].sort();
  const height = head + workers.length * lane + 8;
  const [over, setOver] = useState<Attempt>();
  const x = (time: number, width: number) => left + ((time - from) / Math.max(1, to - from)) * (width - left - 8);
  const bounds = (attempt: Attempt, width: number) => {
    const start = x(Math.max(from, Date.parse(attempt.startTime)), width);
    const end = x(attempt.endTime ? Date.parse(attempt.endTime) : to, width);
    return { start, wide: Math.max(2, end - start - 1), y: head + workers.indexOf(attempt.worker ?? "") * lane + 4 };
  };
  const draw = (context: CanvasRenderingContext2D, width: number) => {
    context.font = "12px system-ui, sans-serif";
    context.fillStyle = cssColor("--quiet");
    const days = to - from > 86400e3;
    for (let i = 0; i <= 4; ++i) {
      const time = from + (i / 4) * (to - from), at = x(time, width);
      context.textAlign = i === 4 ? "right" : i === 0 ? "left" : "center";
      context.fillText(days ? new Date(time).toLocaleString("en-GB", { dateStyle: "short", timeStyle: "short" }) : new Date(time).toLocaleTimeString("en-GB"), at, 14);
      context.fillRect(at, head - 4, 1, height - head);
    }
    workers.forEach((worker, i) => {
      context.textAlign = "left";
      context.fillStyle = cssColor("--ink");
      context.fillText(lastPart(worker).slice(0, 18), 0, head + i * lane + lane / 2 + 4);
      context.fillStyle = cssColor("--grid");
      context.fillRect(0, head + (i + 1) * lane, width, 1);
    });
    for (const attempt of attempts) {
      const { start, wide, y } = bounds(attempt, width);
      context.fillStyle = cssColor(colors[attempt.outcome ?? "RUNNING"]);
      context.globalAlpha = attempt === over ? 1 : 0.8;
      context.fillRect(start, y, wide, lane - 8);
      if (wide > 30) {
        context.globalAlpha = 1;
        context.fillStyle = cssColor("--paper");
        context.textAlign = "left";
        context.fillText(lastPart(attempt.trial), start + 4, y + lane / 2);
      }
    }
    context.globalAlpha = 1;
  };
  const find = (event: MouseEvent): Attempt | undefined => {
    const box = (event.currentTarget as HTMLElement).getBoundingClientRect();
    const px = event.clientX - box.left, py = event.clientY - box.top;
    return attempts.find((attempt) => { const { start, wide, y } = bounds(attempt, box.width); return px >= start - 1 && px <= start + wide + 1 && py >= y && py <= y + lane - 8; });
  };
  const say = (attempt: Attempt) => `${attempt.trial}, attempt ${attempt.epoch ?? 0} on ${lastPart(attempt.worker ?? "")}: ${(attempt.outcome ?? "RUNNING").toLowerCase()}, from ${when(attempt.startTime)}, ${span(((attempt.endTime ? Date.parse(attempt.endTime) : to) - Date.parse(attempt.startTime)) / 1000)}`;
  return (
    <div class="gantt">
      <Canvas height={height} draw={draw} keys={[attempts, from, to, over]} label={`Timeline of ${attempts.length} attempts of ${workers.length} workers`}
        onMouseMove={(event: MouseEvent) => setOver(find(event))} onMouseLeave={() => setOver(undefined)}
        onClick={(event: MouseEvent) => { const attempt = find(event); if (attempt) onPick(attempt); }} />
      <p class="quiet">{over ? say(over) : " "}</p>
    </div>
  );
}
