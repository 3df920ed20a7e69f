"""Reference numbers of power and of noncentral-F intervals: python power.py > power.json (scipy, statsmodels)."""
import json

from scipy.optimize import brentq
from scipy.stats import f as central
from scipy.stats import ncf
from statsmodels.stats.power import FTestAnovaPower

power = []
for df, residual_df, n, effect, alpha in [
    (3, 36, 40, 0.25, 0.05), (1, 18, 20, 0.8, 0.01), (9, 300, 320, 0.1, 0.05), (6, 626, 640, 0.2, 0.001), (7, 137, 160, 0.4, 0.05),
]:
    critical = central.isf(alpha, df, residual_df)
    power.append(dict(df=df, residual_df=residual_df, n=n, f=effect, alpha=alpha,
                      power=float(ncf.sf(critical, df, residual_df, effect**2 * n))))
# statsmodels' own solver for one-way designs: k groups, df = k - 1 and n - k.
for k, n in [(4, 80), (3, 60)]:
    power.append(dict(df=k - 1, residual_df=n - k, n=n, f=0.3, alpha=0.05,
                      power=float(FTestAnovaPower().power(effect_size=0.3, nobs=n, alpha=0.05, k_groups=k))))

intervals = []
for value, df1, df2, confidence in [
    (3.7, 1, 48, 0.95), (8.5, 2, 48, 0.95), (0.6, 3, 20, 0.9), (31.2, 7, 137, 0.95), (120.0, 9, 620, 0.99), (1.9, 4, 95, 0.95),
]:
    def at(q):
        g = lambda l: ncf.cdf(value, df1, df2, l) - q
        return 0.0 if central.cdf(value, df1, df2) < q else brentq(g, 1e-12, 3 * value * df1 + 50, xtol=1e-12, rtol=1e-13)
    tail = (1 - confidence) / 2
    intervals.append(dict(f=value, df1=df1, df2=df2, confidence=confidence, low=float(at(1 - tail)), high=float(at(tail))))
print(json.dumps(dict(power=power, intervals=intervals), indent=0))
