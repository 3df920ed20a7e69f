"""Spearman's rho between the orders in which two levels of a factor put the cells, by SciPy; the interval of Bonett and
Wright (2000) with SciPy's normal quantile.

Run in this folder: python level_rankings.py > level_rankings.json

The rows are three bases, two subjects, six cells and two replicates with rounded scores (the cats' so far that some tie); on the last
base one trial of one block is missing, so that this block does not count.
"""
import itertools
import json
import math

import numpy
from scipy import stats

BASES, SUBJECTS = ["first", "today", "new"], ["cats", "dog"]
CELLS = list(itertools.product(["SA_in", "CA_in", "CA_out"], ["relu", "silu"]))

random = numpy.random.default_rng(20000)
rows = []
for b, base in enumerate(BASES):
    for subject, (cell, (position, activation)), replicate in itertools.product(SUBJECTS, enumerate(CELLS), range(2)):
        if (base, subject, cell, replicate) == ("new", "dog", 4, 1):
            continue
        score = 0.5 + 0.03 * (cell if b < 2 else -cell) + (0.1 if subject == "dog" else 0) + 0.09 * random.standard_normal()
        rows.append({"base": base, "subject": subject, "input": position, "activation": activation, "replicate": str(replicate),
                     "score": round(score, 1 if subject == "cats" else 2)})

blocks = [(subject, replicate) for subject in SUBJECTS for replicate in "01" if (subject, replicate) != ("dog", "1")]


def means(base, blocks):
    found = {(row["base"], row["subject"], row["replicate"], row["input"], row["activation"]): row["score"] for row in rows}
    return [float(numpy.mean([found[base, *block, *cell] for block in blocks])) for cell in CELLS]


def interval(rho, n):
    half = stats.norm.ppf(0.975) * math.sqrt((1 + rho * rho / 2) / (n - 3))
    return [math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half)]


pairs = []
for a, b in itertools.combinations(BASES, 2):
    found = stats.spearmanr(means(a, blocks), means(b, blocks))
    within = {s: stats.spearmanr(means(a, [x for x in blocks if x[0] == s]), means(b, [x for x in blocks if x[0] == s])).statistic
              for s in SUBJECTS}
    pairs.append({"first": a, "second": b, "rho": found.statistic, "p": found.pvalue, "interval": interval(found.statistic, len(CELLS)),
                  "within": within})
# Only the cats have both replicates in blocks that count.
itself = {base: stats.spearmanr(means(base, [("cats", "0")]), means(base, [("cats", "1")])).statistic for base in BASES}
print(json.dumps({"rows": rows, "means": {base: means(base, blocks) for base in BASES}, "pairs": pairs, "with_itself": itself}, indent=1))
