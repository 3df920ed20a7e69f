"""What `mode: search` saves and misses, by number of cells: early_stopping_study (which replays the coordinator's own rule) over the
complete curves of recorded sweeps, and over simulated designs that are as large as the paper's.

    early_stopping_table.py --study build/release/bin/early_stopping_study DATABASE:SWEEP …          recorded curves
    early_stopping_table.py --study … --simulate 320 --replicates 3 --designs 20 --seed 1 DATABASE:SWEEP   simulated ones

Simulated: the loss at the steps at which the rule looks, together with the final score, is one vector for each trial. Its variance is
taken apart into that of cells and that of trials of one cell, as in a one-way analysis of variance of vectors (replicates, which
all cells share, are taken out): S_trial = the mean square of the residual, S_cell = (mean square of cells − S_trial) / replicates,
negative eigenvalues set to 0. A design draws a normal vector for each cell from S_cell and one for each trial from S_trial. So the
spread of cells, how early their curves part, and how well the loss foretells the score are those of the recorded sweep; that cells
are a structured grid, and any tail that is not normal, are not in it. Each design is drawn anew, from SEED on.
"""

import argparse
import os
import re
import sqlite3
import subprocess
import tempfile

import numpy

BUDGET = 50
# Of first rungs at a tenth, a fifth and a half of the budget, and reductions 2, 3 and 4.
RUNGS = [5, 10, 15, 20, 25, 30, 40, 45, 50]
SCHEMA = """
CREATE TABLE sweeps (sweep_key INTEGER PRIMARY KEY, sweep_id TEXT, cell_count INTEGER);
CREATE TABLE trials (sweep_key INTEGER, trial_index INTEGER, cell_index INTEGER, PRIMARY KEY (sweep_key, trial_index));
CREATE TABLE scores (sweep_key INTEGER, trial_index INTEGER, name TEXT, value REAL, PRIMARY KEY (sweep_key, trial_index, name));
CREATE TABLE results (sweep_key INTEGER, trial_index INTEGER, epoch INTEGER, PRIMARY KEY (sweep_key, trial_index));
CREATE TABLE metric_names (metric_id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE metric_points (sweep_key INTEGER, trial_index INTEGER, epoch INTEGER, metric_id INTEGER, step INTEGER, value REAL,
  PRIMARY KEY (sweep_key, trial_index, epoch, metric_id, step));
INSERT INTO metric_names VALUES (1, 'loss');
"""


def recorded(database, sweep, curve, score):
    """[replicates, cells, rungs + 1]: curve at each rung, then the score; whole replicates only."""
    db = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    key, cells = db.execute("SELECT sweep_key, cell_count FROM sweeps WHERE sweep_id = ?", (sweep,)).fetchone()
    trials = {}
    for index, value in db.execute("SELECT trial_index, value FROM scores WHERE sweep_key = ? AND name = ?", (key, score)):
        points = dict(db.execute(
            "SELECT step, value FROM metric_points JOIN metric_names USING (metric_id) JOIN results USING (sweep_key, trial_index, epoch)"
            " WHERE sweep_key = ? AND trial_index = ? AND name = ?", (key, index, curve)))
        if all(step in points for step in RUNGS):
            trials[index] = [*(points[step] for step in RUNGS), value]
    whole = [r for r in range(max(trials) // cells + 1) if all(r * cells + c in trials for c in range(cells))]
    return numpy.array([[trials[r * cells + c] for c in range(cells)] for r in whole])


def root(covariance):
    values, vectors = numpy.linalg.eigh(covariance)
    return vectors * numpy.sqrt(numpy.clip(values, 0, None))


def components(data):
    """Mean, and roots of the covariances of cells and of trials within a cell."""
    replicates, cells, _ = data.shape
    mean = data.mean((0, 1))
    of_cell = data.mean(0) - mean
    rest = data - data.mean(0) - data.mean(1)[:, None] + mean
    ms_rest = numpy.einsum("rci,rcj->ij", rest, rest) / ((replicates - 1) * (cells - 1))
    ms_cell = replicates * numpy.einsum("ci,cj->ij", of_cell, of_cell) / (cells - 1)
    return mean, root((ms_cell - ms_rest) / replicates), root(ms_rest)


def write_design(path, name, parts, cells, replicates, random):
    mean, cell_root, trial_root = parts
    of_cell = random.standard_normal((cells, len(mean))) @ cell_root.T
    db = sqlite3.connect(path)
    db.executescript(SCHEMA)
    db.execute("INSERT INTO sweeps VALUES (1, ?, ?)", (name, cells))
    for index in range(cells * replicates):
        *curve, score = mean + of_cell[index % cells] + trial_root @ random.standard_normal(len(mean))
        db.execute("INSERT INTO trials VALUES (1, ?, ?)", (index, index % cells))
        db.execute("INSERT INTO results VALUES (1, ?, 1)", (index,))
        db.execute("INSERT INTO scores VALUES (1, ?, 'score', ?)", (index, float(score)))
        db.executemany("INSERT INTO metric_points VALUES (1, ?, 1, 1, ?, ?)",
                       [(index, step, float(value)) for step, value in zip(RUNGS, curve)])
    db.commit()
    db.close()


def replay(study, database, sweep, curve, score, orders):
    """{(reduction, first rung): (saved, missed, regret on average)}, in per cent."""
    done = subprocess.run([study, database, sweep, curve, score, "minimize", "larger", str(orders)], check=True, capture_output=True, text=True)
    rows = {}
    for line in done.stdout.splitlines():
        cells = [cell.strip(" %") for cell in line.strip("|").split("|")]
        if len(cells) == 6 and re.fullmatch(r"\d+", cells[0]):
            rows[int(cells[0]), int(cells[1])] = (float(cells[2]), float(cells[3]), float(cells[5]))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", required=True)
    parser.add_argument("--curve", default="loss")
    parser.add_argument("--score", default="clip_i")
    parser.add_argument("--simulate", type=int, nargs="*", default=[], help="numbers of cells")
    parser.add_argument("--replicates", type=int, default=3)
    parser.add_argument("--designs", type=int, default=20)
    parser.add_argument("--orders", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("sweeps", nargs="+", metavar="DATABASE:SWEEP")
    options = parser.parse_args()
    print("| sweep | cells × replicates | reduction | first rung | steps saved | best cell missed | regret, of the range of cells |")
    print("|---|---|---|---|---|---|---|")
    for place in options.sweeps:
        database, sweep = place.rsplit(":", 1)
        data = recorded(database, sweep, options.curve, options.score)
        if not options.simulate:
            rows = replay(options.study, database, sweep, options.curve, options.score, options.orders)
            for (reduction, rung), (saved, missed, regret) in rows.items():
                print(f"| {sweep} | {data.shape[1]} × {data.shape[0]} | {reduction} | {rung} | {saved:.0f} % | {missed:.0f} % | {regret:.1f} % |")
        parts = components(data)
        for cells in options.simulate:
            random = numpy.random.default_rng(options.seed)
            designs = []
            with tempfile.TemporaryDirectory() as folder:
                for number in range(options.designs):
                    path = os.path.join(folder, f"{number}.db")
                    write_design(path, "simulated", parts, cells, options.replicates, random)
                    designs.append(replay(options.study, path, "simulated", "loss", "score", options.orders))
            for reduction, rung in designs[0]:
                saved, missed, regret = numpy.mean([design[reduction, rung] for design in designs], 0)
                print(f"| {sweep}, simulated | {cells} × {options.replicates} | {reduction} | {rung} | {saved:.0f} % | {missed:.0f} % | {regret:.1f} % |",
                      flush=True)


main()
