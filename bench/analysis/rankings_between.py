#!/usr/bin/env python3
"""Is the ranking of the cells the same on all levels of one factor (say, on all bases)?

    loupe report SWEEP --format csv --table trials > trials.csv
    rankings_between.py trials.csv [more.csv …] --between world --blocks subject,replicate [--response clip_i]

A cell is a combination of the levels of all other factors. Its score on a level is its mean over the blocks that all files have in common for every level. Printed, in
Markdown: the cells' means; Spearman's rho of each pair of levels with the 95 % interval of Bonett and Wright (2000; z ± 1.96 sqrt((1 + rho²/2)/(n − 3)), n cells); beside
it how well a level agrees with itself: the rho of the cells' means over one replicate and over another, averaged over pairs, which no other level can be expected to beat
much; and the rho of each pair within each level of the first block factor.
"""
import argparse
import collections
import csv
import itertools
import math
import statistics
import sys


def ranks(values):
    order = sorted(range(len(values)), key=values.__getitem__)
    result = [0.0] * len(values)
    at = 0
    while at < len(order):
        end = at
        while end < len(order) and values[order[end]] == values[order[at]]:
            end += 1
        for i in order[at:end]:
            result[i] = (at + end - 1) / 2
        at = end
    return result


def spearman(a, b):
    a, b = ranks(a), ranks(b)
    return statistics.correlation(a, b) if len(set(a)) > 1 and len(set(b)) > 1 else math.nan


def interval(rho, n):
    if n <= 3 or abs(rho) >= 1:
        return math.nan, math.nan
    half = 1.96 * math.sqrt((1 + rho * rho / 2) / (n - 3))
    return math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half)


def read(paths, between, blocks, response):
    """Scores by (level, cell, block), and the cells' factors."""
    scores, factors = {}, None
    for path in paths:
        with open(path, newline="") as file:
            rows = csv.DictReader(file)
            names = rows.fieldnames or []
            for name in [between, *blocks, response]:
                if name not in names:
                    sys.exit(f"{path}: there is no column '{name}'; expected one of {', '.join(names)}")
            first, last = names.index("stopped_early") + 1, names.index("clip_cmmd" if "clip_cmmd" in names else response)
            of_file = [name for name in names[first:last] if name != between and name not in blocks]
            if factors not in (None, of_file):
                sys.exit(f"{path}: its factors are {', '.join(of_file)}; expected {', '.join(factors)}, as before")
            factors = of_file
            for row in rows:
                if row["state"] != "succeeded" or not row[response]:
                    continue
                key = row[between], tuple(row[name] for name in factors), tuple(row[name] for name in blocks)
                if key in scores:
                    sys.exit(f"{path}: trial {row['trial']} is there twice: {key}")
                scores[key] = float(row[response])
    return scores, factors


def complete_blocks(scores):
    """The blocks in which every level has every cell."""
    levels = list(dict.fromkeys(key[0] for key in scores))
    cells = list(dict.fromkeys(key[1] for key in scores))
    blocks = sorted({key[2] for key in scores})
    return levels, cells, [b for b in blocks if all((level, cell, b) in scores for level in levels for cell in cells)]


def means(scores, level, cells, blocks):
    return [statistics.fmean(scores[level, cell, block] for block in blocks) for cell in cells]


def table(head, rows):
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--between", required=True, help="the factor whose levels are compared")
    parser.add_argument("--blocks", default="replicate", help="what is averaged over, the replicate last; the first is told apart in the last table")
    parser.add_argument("--response", default="clip_i")
    options = parser.parse_args()
    block_names = options.blocks.split(",")
    scores, factors = read(options.files, options.between, block_names, options.response)
    levels, cells, blocks = complete_blocks(scores)
    if not blocks:
        sys.exit("no block has all cells on all levels: wait for more trials, or name fewer blocks")
    print(f"{options.response}: {len(cells)} cells of {', '.join(factors)} on {len(levels)} levels of {options.between}, "
          f"means of {len(blocks)} complete blocks ({options.blocks}).\n")
    by_level = {level: means(scores, level, cells, blocks) for level in levels}
    order = sorted(range(len(cells)), key=lambda i: -statistics.fmean(by_level[level][i] for level in levels))
    table([", ".join(factors), *levels], [[" ".join(cells[i]), *(f"{by_level[level][i]:.3f}" for level in levels)] for i in order])

    rows = []
    for a, b in itertools.combinations(levels, 2):
        rho = spearman(by_level[a], by_level[b])
        low, high = interval(rho, len(cells))
        rows.append([a, b, f"{rho:.2f}", f"[{low:.2f}, {high:.2f}]"])
    table(["", "", "rho", "95 %"], rows)

    replicates = collections.defaultdict(list)
    for block in blocks:
        replicates[block[-1]].append(block)
    if len(replicates) > 1:
        rows = []
        for level in levels:
            apart = [means(scores, level, cells, of) for of in replicates.values()]
            rows.append([level, f"{statistics.fmean(spearman(a, b) for a, b in itertools.combinations(apart, 2)):.2f}"])
        table(["", "rho of one replicate with another"], rows)

    if len(block_names) > 1:
        groups = collections.defaultdict(list)
        for block in blocks:
            groups[block[0]].append(block)
        rows = []
        for a, b in itertools.combinations(levels, 2):
            rows.append([a, b, *(f"{spearman(means(scores, a, cells, of), means(scores, b, cells, of)):.2f}" for of in groups.values())])
        table(["", "", *(f"rho, {name}" for name in groups)], rows)


if __name__ == "__main__":
    main()
