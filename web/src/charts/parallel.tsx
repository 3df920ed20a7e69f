// Parallel coordinates of any number of trials: between two axes each pair of places is drawn once, darker the more trials share it,
// so that 100,000 trials cost as little as their distinct pairs.
import { useMemo, useRef, useState } from "preact/hooks";
import { number, printable } from "../format";
import { absent, levelsQuery, type FactorColumn, type Filter, type TrialTable } from "../table_data";
import { Canvas } from "./canvas";
import { cssColor } from "./colors";

const bins = 160;
// Of darkness: lines of one shade are one path, as a stroke each would take seconds.
const shades = 8;
const top = 30, bottom = 14, height = 340;

interface Axis { name: string; kind: "factor" | "score"; levels?: string[]; low: number; high: number; places: Uint8Array; hasAbsent: boolean }

function factorAxis(table: TrialTable, factor: FactorColumn): Axis {
  const hasAbsent = factor.column.includes(absent);
  const steps = factor.levels.length + (hasAbsent ? 1 : 0);
  const places = new Uint8Array(table.total);
  for (let i = 0; i < places.length; ++i) {
    const level = factor.column[i] === absent ? steps - 1 : factor.column[i];
    places[i] = steps === 1 ? bins / 2 : Math.round((level / (steps - 1)) * (bins - 1));
  }
  return { name: factor.name, kind: "factor", levels: hasAbsent ? [...factor.levels, ""] : factor.levels, low: 0, high: steps - 1, places, hasAbsent };
}

const noPlace = 255;
function scoreAxis(table: TrialTable, name: string): Axis | undefined {
  const score = table.scores.find((s) => s.name === name);
  if (!score) return undefined;
  let low = Infinity, high = -Infinity;
  for (const value of score.column) if (!Number.isNaN(value)) { if (value < low) low = value; if (value > high) high = value; }
  const places = new Uint8Array(table.total);
  for (let i = 0; i < places.length; ++i) {
    const value = score.column[i];
    places[i] = Number.isNaN(value) ? noPlace : high > low ? Math.round((1 - (value - low) / (high - low)) * (bins - 1)) : bins / 2;
  }
  return { name, kind: "score", low, high, places, hasAbsent: false };
}

export function Parallel({ table, factors, rows, filter, scores, onFilter }: {
  table: TrialTable; factors: FactorColumn[]; rows: Uint32Array; filter: Filter; scores: string[]; onFilter: (changes: Record<string, string | undefined>) => void;
}) {
  const axes = useMemo(() => [...factors.map((factor) => factorAxis(table, factor)), ...scores.map((name) => scoreAxis(table, name))].filter((axis): axis is Axis => !!axis), [table, factors.map((factor) => factor.name).join("\n"), scores.join()]);
  const everything = useMemo(() => Uint32Array.from({ length: table.total }, (_, i) => i), [table]);
  const [drag, setDrag] = useState<{ axis: number; from: number; to: number }>();
  const area = useRef({ width: 1 });
  const xOf = (axis: number, width: number) => 46 + (axis / Math.max(1, axes.length - 1)) * (width - 92);
  const yOf = (place: number) => top + (place / (bins - 1)) * (height - top - bottom);

  // The lines change with what is kept, not with the brush that is being drawn: they are painted once, and then shown.
  const lines = useRef<{ of: unknown[]; image: HTMLCanvasElement } | undefined>(undefined);
  const paint = (context: CanvasRenderingContext2D, width: number, chosen: Uint32Array, color: string, strength: number) => {
    const paths = Array.from({ length: shades }, () => new Path2D());
    const counts = new Uint32Array(bins * bins);
    for (let a = 0; a + 1 < axes.length; ++a) {
      counts.fill(0);
      let most = 0;
      const here = axes[a].places, there = axes[a + 1].places;
      for (let i = 0; i < chosen.length; ++i) {
        const row = chosen[i];
        if (here[row] === noPlace || there[row] === noPlace) continue;
        const n = ++counts[here[row] * bins + there[row]];
        if (n > most) most = n;
      }
      const x0 = xOf(a, width), x1 = xOf(a + 1, width), middle = (x0 + x1) / 2;
      for (let pair = 0; pair < counts.length; ++pair) {
        if (!counts[pair]) continue;
        const path = paths[Math.ceil(shades * Math.sqrt(counts[pair] / most)) - 1];
        const y0 = yOf(Math.floor(pair / bins)), y1 = yOf(pair % bins);
        path.moveTo(x0, y0);
        path.bezierCurveTo(middle, y0, middle, y1, x1, y1);
      }
    }
    context.strokeStyle = color;
    context.lineWidth = 1;
    paths.forEach((path, shade) => {
      context.globalAlpha = strength * (0.12 + (0.88 * (shade + 1)) / shades);
      context.stroke(path);
    });
    context.globalAlpha = 1;
  };
  const draw = (context: CanvasRenderingContext2D, width: number) => {
    area.current.width = width;
    const of = [axes, rows, width, cssColor("--accent"), context.canvas.width];
    if (!lines.current || of.some((part, i) => part !== lines.current!.of[i])) {
      const image = document.createElement("canvas");
      image.width = context.canvas.width;
      image.height = context.canvas.height;
      const layer = image.getContext("2d")!;
      layer.setTransform(context.getTransform());
      if (rows.length < table.total) paint(layer, width, everything, cssColor("--faint"), 0.5);
      paint(layer, width, rows, cssColor("--accent"), 0.8);
      lines.current = { of, image };
    }
    context.drawImage(lines.current.image, 0, 0, width, height);
    context.font = "12px system-ui, sans-serif";
    axes.forEach((axis, a) => {
      const x = xOf(a, width);
      context.strokeStyle = cssColor("--line");
      context.lineWidth = 1.5;
      context.beginPath();
      context.moveTo(x, top);
      context.lineTo(x, height - bottom);
      context.stroke();
      const align: CanvasTextAlign = a === 0 ? "left" : a === axes.length - 1 ? "right" : "center";
      context.textAlign = align;
      context.fillStyle = cssColor("--ink");
      context.font = "600 12px system-ui, sans-serif";
      context.fillText(printable(axis.name).slice(0, 22), a === 0 ? 2 : a === axes.length - 1 ? width - 2 : x, 14);
      context.font = "11px system-ui, sans-serif";
      const label = (text: string, y: number) => {
        context.textAlign = a === axes.length - 1 ? "right" : "left";
        const at = a === axes.length - 1 ? x - 6 : x + 6;
        const wide = context.measureText(text).width;
        context.fillStyle = cssColor("--veil");
        context.fillRect(a === axes.length - 1 ? at - wide - 2 : at - 2, y - 7, wide + 4, 14);
        context.fillStyle = cssColor("--ink");
        context.fillText(text, at, y + 4);
      };
      if (axis.levels) {
        const every = Math.ceil(axis.levels.length / 16);
        axis.levels.forEach((level, i) => {
          if (i % every === 0) label(level === "" ? "(none)" : printable(level).slice(0, 18), yOf(axis.levels!.length === 1 ? bins / 2 : (i / (axis.levels!.length - 1)) * (bins - 1)));
        });
      } else if (Number.isFinite(axis.low)) {
        label(number(axis.high, 3), top);
        label(number(axis.low, 3), height - bottom);
      }
      const range = filter.ranges.get(axis.name);
      const brushed = drag?.axis === a ? [drag.from, drag.to] : axis.kind === "score" && range ? range.map((value) => yOf((1 - (value - axis.low) / (axis.high - axis.low || 1)) * (bins - 1))) : undefined;
      if (brushed) {
        context.fillStyle = cssColor("--brush");
        context.fillRect(x - 7, Math.min(...brushed), 14, Math.max(3, Math.abs(brushed[1] - brushed[0])));
      }
      const wanted = filter.levels.get(axis.name);
      if (wanted && axis.levels) axis.levels.forEach((level, i) => {
        if (!wanted.has(level)) return;
        context.fillStyle = cssColor("--accent");
        context.beginPath();
        context.arc(x, yOf(axis.levels!.length === 1 ? bins / 2 : (i / (axis.levels!.length - 1)) * (bins - 1)), 5, 0, 7);
        context.fill();
      });
    });
  };

  const place = (event: PointerEvent) => {
    const box = (event.currentTarget as HTMLElement).getBoundingClientRect();
    return { x: event.clientX - box.left, y: Math.min(height - bottom, Math.max(top, event.clientY - box.top)) };
  };
  const down = (event: PointerEvent) => {
    const at = place(event);
    const nearest = axes.map((_, a) => Math.abs(xOf(a, area.current.width) - at.x)).reduce((best, distance, a, all) => (distance < all[best] ? a : best), 0);
    (event.currentTarget as HTMLElement).setPointerCapture(event.pointerId);
    setDrag({ axis: nearest, from: at.y, to: at.y });
  };
  const move = (event: PointerEvent) => { if (drag) setDrag({ ...drag, to: place(event).y }); };
  const up = () => {
    if (!drag) return;
    const axis = axes[drag.axis];
    const [first, last] = [Math.min(drag.from, drag.to), Math.max(drag.from, drag.to)].map((y) => (y - top) / (height - top - bottom));
    setDrag(undefined);
    if (axis.levels) {
      const steps = axis.levels.length - 1;
      const inside = axis.levels.filter((_, i) => { const at = steps ? i / steps : 0.5; return at >= first - 0.5 / Math.max(1, steps) * (last - first < 0.02 ? 1 : 0.15) && at <= last + 0.5 / Math.max(1, steps) * (last - first < 0.02 ? 1 : 0.15); });
      const whole = inside.length === 0 || inside.length === axis.levels.length;
      const same = filter.levels.get(axis.name)?.size === inside.length && inside.every((level) => filter.levels.get(axis.name)!.has(level));
      onFilter({ ["f." + axis.name]: whole || same ? undefined : levelsQuery(inside) });
    } else if (last - first < 0.01) {
      onFilter({ ["r." + axis.name]: undefined });
    } else {
      const value = (share: number) => axis.high - share * (axis.high - axis.low);
      onFilter({ ["r." + axis.name]: `${value(last)}..${value(first)}` });
    }
  };
  return (
    <Canvas height={height} draw={draw} keys={[axes, rows, filter, drag]} class="parallel"
      label={`Parallel coordinates of ${axes.map((axis) => printable(axis.name)).join(", ")}: ${rows.length} of ${table.total} trials kept. The filters above do the same by keyboard.`}
      onPointerDown={down} onPointerMove={move} onPointerUp={up} onPointerCancel={() => setDrag(undefined)} />
  );
}
