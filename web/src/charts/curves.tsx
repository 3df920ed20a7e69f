// Curves of many trials on one plot (uPlot), and of one trial with its band.
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { int, number } from "../format";
import type { Curve } from "../types";
import { useScheme } from "./canvas";
import { cssColor } from "./colors";

// Steps are whole numbers.
const wholeSteps = Array.from({ length: 10 }, (_, power) => [1, 2, 5].map((one) => one * 10 ** power)).flat();

export function CurvePlot({ curves, colors, names, label, height = 300, log = false, onPick }: {
  curves: Curve[]; colors: string[]; names: string[]; label: string; height?: number; log?: boolean; onPick?: (trial: number) => void;
}) {
  const box = useRef<HTMLDivElement>(null);
  const scheme = useScheme();
  useEffect(() => {
    const element = box.current!;
    // uPlot wants one x for all: the union of the steps, with gaps where a curve has none.
    const steps = [...new Set(curves.flatMap((curve) => curve.steps ?? []))].sort((a, b) => a - b);
    const at = new Map(steps.map((step, i) => [step, i]));
    const align = (curve: Curve, values: number[] | undefined) => {
      const row: (number | null | undefined)[] = new Array(steps.length).fill(undefined);
      curve.steps?.forEach((step, i) => { const value = values?.[i]; row[at.get(step)!] = log && value !== undefined && value <= 0 ? null : value; });
      return row;
    };
    const series: uPlot.Series[] = [{ label: "step" }];
    const data: (number | null | undefined)[][] = [steps];
    const bands: uPlot.Band[] = [];
    const few = curves.length <= 3, banded = curves.length <= 12;
    curves.forEach((curve, i) => {
      series.push({ label: names[i], stroke: colors[i], width: few ? 1.8 : 1.2, spanGaps: true, points: { show: (curve.steps?.length ?? 0) < 2 } });
      data.push(align(curve, curve.means));
      if (banded && curve.lows?.length) {
        const first = series.length;
        for (const values of [curve.highs, curve.lows]) {
          series.push({ label: "", stroke: "transparent", spanGaps: true, points: { show: false } });
          data.push(align(curve, values));
        }
        bands.push({ series: [first, first + 1], fill: colors[i] + "33" });
      }
    });
    let nearest = -1;
    // Bands have series of their own in between.
    const curveOf = (index: number) => curves.findIndex((_, i) => series[index]?.label === names[i] && names[i] !== "");
    const axis = { stroke: cssColor("--quiet"), grid: { stroke: cssColor("--grid"), width: 1 }, ticks: { stroke: cssColor("--grid"), width: 1 } };
    const plot = new uPlot({
      width: element.clientWidth, height, series, bands, legend: { show: false }, cursor: { focus: { prox: 24 }, drag: { x: true, y: false } }, focus: { alpha: few ? 1 : 0.25 },
      scales: { x: { time: false }, y: { distr: log ? 3 : 1 } },
      axes: [{ ...axis, incrs: wholeSteps, label: "step", labelSize: 18, labelFont: "12px system-ui" }, { ...axis, size: 64, values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : number(tick, 3))) }],
      hooks: {
        setSeries: [(_, index) => { nearest = index === null ? -1 : curveOf(index); if (note.current) note.current.textContent = nearest >= 0 && !few ? names[nearest] ?? "" : ""; }],
        ready: [(self) => self.over.addEventListener("click", () => { if (nearest >= 0 && !few && onPick) onPick(int(curves[nearest]?.trial)); })],
      },
    }, data as uPlot.AlignedData, element);
    const watch = new ResizeObserver(() => plot.setSize({ width: element.clientWidth, height }));
    watch.observe(element);
    return () => { watch.disconnect(); plot.destroy(); };
  }, [curves, colors.join(), height, log, scheme]);
  const note = useRef<HTMLParagraphElement>(null);
  return (
    <div class="curves">
      <div ref={box} role="img" aria-label={label} />
      <p ref={note} class="quiet" aria-live="off" />
    </div>
  );
}
