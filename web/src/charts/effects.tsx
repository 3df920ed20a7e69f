// Means of a factor's levels with their intervals, all factors on one scale; and how one factor's means differ within another's levels.
import { number, printable } from "../format";
import type { Level } from "../types";
import { kindVar } from "./colors";

const rowHeight = 24, left = 112, right = 56;

export function Effects({ means, title }: { means: Record<string, Level[]>; title: string }) {
  const all = Object.values(means).flat().filter((level) => level.mean !== null && level.estimable !== false);
  const ends = all.flatMap((level) => [level.mean!, level.low ?? level.mean!, level.high ?? level.mean!]);
  if (!ends.length) return <p class="quiet">No means yet.</p>;
  let low = Math.min(...ends), high = Math.max(...ends);
  const pad = (high - low) * 0.04 || Math.abs(low) * 0.05 || 1;
  low -= pad;
  high += pad;
  const width = 420, inner = width - left - right;
  const x = (value: number) => left + ((value - low) / (high - low)) * inner;
  const short = (text: string) => (text.length > 17 ? text.slice(0, 16) + "…" : text);
  return (
    <div class="effects">
      {Object.entries(means).map(([factor, levels]) => (
        <figure key={factor}>
          <figcaption>{printable(factor)}</figcaption>
          <svg viewBox={`0 0 ${width} ${levels.length * rowHeight + 6}`} role="img"
            aria-label={printable(`${title}, ${factor}: ${levels.map((l) => `${l.level} ${l.mean === null || l.estimable === false ? "not estimable" : `${number(l.mean)} from ${number(l.low)} to ${number(l.high)}`}`).join("; ")}`)}>
            {levels.map((level, i) => {
              const y = i * rowHeight + rowHeight / 2;
              const ok = level.mean !== null && level.estimable !== false;
              return (
                <g key={i}>
                  <line class="track" x1={left} x2={width - right} y1={y} y2={y} />
                  <text class="level" x={left - 8} y={y + 4} text-anchor="end">{short(printable(level.level))}<title>{printable(level.level)}</title></text>
                  {ok ? (
                    <>
                      {level.low !== null && level.high !== null && <line class="interval" x1={x(level.low)} x2={x(level.high)} y1={y} y2={y} />}
                      <circle class="mean" cx={x(level.mean!)} cy={y} r={4.5} />
                      <text class="value" x={width} y={y + 4} text-anchor="end">{number(level.mean, 3)}</text>
                      <title>{`${printable(level.level)}: ${number(level.mean)} [${number(level.low)}, ${number(level.high)}], n = ${level.n}`}</title>
                    </>
                  ) : <text class="value" x={width} y={y + 4} text-anchor="end">n/e<title>{printable(level.reason ?? "not estimable")}</title></text>}
                </g>
              );
            })}
          </svg>
        </figure>
      ))}
    </div>
  );
}

// Some four multiples of 1, 2 or 5 times a power of ten.
function roundTicks(low: number, high: number): number[] {
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((multiple) => multiple * power).find((one) => one >= rough)!;
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, i) => (first + i) * step);
}

export interface Series { name: string; points: { level: string; mean: number; low: number; high: number; n: number }[] }

// Lines that run side by side: no interaction. Lines that cross or part: one factor's effect depends on the other.
export function Interaction({ levels, series, across, along }: { levels: string[]; series: Series[]; across: string; along: string }) {
  const values = series.flatMap((s) => s.points.flatMap((p) => [p.mean, Number.isNaN(p.low) ? p.mean : p.low, Number.isNaN(p.high) ? p.mean : p.high]));
  if (!values.length) return <p class="quiet">No results yet.</p>;
  let low = Math.min(...values), high = Math.max(...values);
  const pad = (high - low) * 0.06 || 1;
  low -= pad;
  high += pad;
  const width = 600, height = 240, foot = 34, side = 56;
  const x = (level: string, i: number) => side + ((levels.indexOf(level) + 0.5) / levels.length) * (width - side - 8) + (i - (series.length - 1) / 2) * 5;
  const y = (value: number) => 8 + (1 - (value - low) / (high - low)) * (height - foot - 8);
  const ticks = roundTicks(low, high);
  return (
    <figure class="interaction">
      <svg viewBox={`0 0 ${width} ${height}`} role="img" aria-label={printable(`Mean by ${along}, one line per level of ${across}. ${series.map((s) => `${s.name}: ${s.points.map((p) => `${p.level} ${number(p.mean, 3)}`).join(", ")}`).join("; ")}`)}>
        {ticks.map((tick) => <g key={tick}><line class="track" x1={side} x2={width} y1={y(tick)} y2={y(tick)} /><text class="value" x={side - 6} y={y(tick) + 4} text-anchor="end">{number(Number(tick.toPrecision(12)), 3)}</text></g>)}
        {levels.map((level) => <text key={level} class="level" x={x(level, (series.length - 1) / 2)} y={height - 10} text-anchor="middle">{printable(level).slice(0, Math.max(5, 70 / levels.length))}</text>)}
        {series.map((s, i) => {
          const color = kindVar(i);
          return (
            <g key={s.name} style={{ stroke: color, fill: color }}>
              <polyline class="line" stroke-width="1.6" stroke-dasharray={i % 2 ? "5 3" : undefined} points={s.points.map((p) => `${x(p.level, i)},${y(p.mean)}`).join(" ")} />
              {s.points.map((p) => (
                <g key={p.level}>
                  {!Number.isNaN(p.low) && <line stroke-width="1.4" x1={x(p.level, i)} x2={x(p.level, i)} y1={y(p.low)} y2={y(p.high)} />}
                  <circle cx={x(p.level, i)} cy={y(p.mean)} r="3.5" />
                  <title>{`${printable(s.name)}, ${printable(p.level)}: ${number(p.mean)} [${number(p.low)}, ${number(p.high)}], n = ${p.n}`}</title>
                </g>
              ))}
            </g>
          );
        })}
      </svg>
      <figcaption class="legend">{series.map((s, i) => <span key={s.name}><i class={i % 2 ? "dash dashed" : "dash"} style={{ borderColor: kindVar(i) }} />{printable(s.name)}</span>)}</figcaption>
    </figure>
  );
}
