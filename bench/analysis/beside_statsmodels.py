"""FitAnova and statsmodels on the same rows, in one run: times, and how far the sums of squares differ.

  python bench/analysis/beside_statsmodels.py build/release/bin/anova_bench [rows for both] [rows for ours alone]

statsmodels builds the n x 106 design matrix several times over, so its share runs on fewer rows by default
(200,000; about 3 GB at a million); ours is timed at both sizes.
"""
import json
import subprocess
import sys
import tempfile
import time

import pandas as pd
import statsmodels.api as sm
import statsmodels.formula.api as smf


def ours(program, rows, csv=None):
    command = [program, str(rows), "4"] + ([csv] if csv else [])
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    program = sys.argv[1]
    both = int(sys.argv[2]) if len(sys.argv) > 2 else 200_000
    alone = int(sys.argv[3]) if len(sys.argv) > 3 else 1_000_000
    with tempfile.NamedTemporaryFile(suffix=".csv") as file:
        small = ours(program, both, file.name)
        begin = time.perf_counter()
        data = pd.read_csv(file.name)
        read_seconds = time.perf_counter() - begin
    begin = time.perf_counter()
    fit = smf.ols("y ~ (C(a, Sum) + C(b, Sum) + C(c, Sum) + C(d, Sum) + C(e, Sum))**2", data).fit()
    table = sm.stats.anova_lm(fit, typ=2)
    seconds = time.perf_counter() - begin
    sums = {name.replace("C(", "").replace(", Sum)", ""): row["sum_sq"] for name, row in table.iterrows()}
    worst = max(abs(term["sum_sq"] / sums[term["term"]] - 1) for term in small["terms"])
    large = ours(program, alone)
    print(f"five factors of 4 levels, all two-way interactions, Type II, {small['cells']} cells")
    print(f"{both:>9,} rows  loupe {small['fit_seconds']:8.4f} s   statsmodels {seconds:8.3f} s   "
          f"{seconds / small['fit_seconds']:.0f} x; largest relative difference of a sum of squares {worst:.1e}")
    print(f"{both:>9,} rows  CSV: loupe {small['csv_seconds']:.3f} s   pandas {read_seconds:.3f} s")
    print(f"{alone:>9,} rows  loupe {large['fit_seconds']:8.4f} s   (CSV of {large['csv_mb']:.0f} MB: {large['csv_seconds']:.3f} s)")


if __name__ == "__main__":
    main()
