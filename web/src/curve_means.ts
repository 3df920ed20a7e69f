// Many curves as one for each group: the mean at each step, with its interval.
import { tQuantile } from "./student";
import type { Curve } from "./types";

// Of each group that has curves, in the order of its number; a negative group is none. At steps where at least half of the group's
// curves have a point, so that the mean does not jump where single ones begin or end; `lows` and `highs` are Student's 95 % interval
// (the mean itself where one curve has a point), `points` how many curves there are.
export function meanCurves(curves: Curve[], groupOf: (curve: Curve) => number): Map<number, Curve> {
  const groups = new Map<number, Curve[]>();
  for (const curve of curves) {
    const group = groupOf(curve);
    if (group < 0) continue;
    const members = groups.get(group);
    members ? members.push(curve) : groups.set(group, [curve]);
  }
  const means = new Map<number, Curve>();
  for (const [group, members] of [...groups].sort(([a], [b]) => a - b)) {
    const at = new Map<number, number[]>();
    for (const curve of members) curve.steps?.forEach((step, i) => {
      const values = at.get(step);
      values ? values.push(curve.means![i]) : at.set(step, [curve.means![i]]);
    });
    const made: Required<Pick<Curve, "steps" | "means" | "lows" | "highs">> = { steps: [], means: [], lows: [], highs: [] };
    for (const [step, values] of [...at].sort(([a], [b]) => a - b)) {
      const n = values.length;
      if (2 * n < members.length) continue;
      const mean = values.reduce((sum, value) => sum + value, 0) / n;
      const sd = n > 1 ? Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (n - 1)) : 0;
      const half = n > 1 ? (tQuantile(0.975, n - 1) * sd) / Math.sqrt(n) : 0;
      made.steps.push(step);
      made.means.push(mean);
      made.lows.push(mean - half);
      made.highs.push(mean + half);
    }
    if (made.steps.length) means.set(group, { ...made, points: members.length });
  }
  return means;
}
