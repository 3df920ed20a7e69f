// Student's t: its quantile, by bisection of the distribution function.

// ln Γ(x) by Stirling's series after shifting x above 8 (Abramowitz and Stegun 6.1.41).
function lnGamma(x: number): number {
  let shift = 0;
  for (; x < 8; ++x) shift -= Math.log(x);
  const inverse = 1 / (x * x);
  return shift + (x - 0.5) * Math.log(x) - x + 0.5 * Math.log(2 * Math.PI) + (1 / 12 - inverse * (1 / 360 - inverse / 1260)) / x;
}

// Regularised incomplete beta function by its continued fraction (Abramowitz and Stegun 26.5.8), evaluated by Lentz's method.
function beta(x: number, a: number, b: number): number {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  if (x > (a + 1) / (a + b + 2)) return 1 - beta(1 - x, b, a);
  let c = 1, d = 1 / (1 - ((a + b) * x) / (a + 1)), fraction = d;
  for (let m = 1; m < 1000; ++m) {
    const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / (1 + even * d);
    c = 1 + even / c;
    fraction *= d * c;
    const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / (1 + odd * d);
    c = 1 + odd / c;
    fraction *= d * c;
    if (Math.abs(d * c - 1) < 1e-14) break;
  }
  return (Math.exp(a * Math.log(x) + b * Math.log1p(-x) - lnGamma(a) - lnGamma(b) + lnGamma(a + b)) * fraction) / a;
}

const known = new Map<string, number>();

// t with P(T ≤ t) = p, for p > 0.5 and df ≥ 1.
export function tQuantile(p: number, df: number): number {
  const key = p + " " + df;
  let found = known.get(key);
  if (found === undefined) {
    const above = (t: number) => beta(df / (df + t * t), df / 2, 0.5) / 2;
    let low = 0, high = 1;
    while (above(high) > 1 - p) high *= 2;
    for (let i = 0; i < 80; ++i) {
      const middle = (low + high) / 2;
      above(middle) > 1 - p ? (low = middle) : (high = middle);
    }
    found = (low + high) / 2;
    known.set(key, found);
  }
  return found;
}
