"""The views of the database (docs/guide/database.md) against what the coordinator says of the same sweeps, read while it runs, with the
two ways that the page shows: pandas over sqlite3, and DuckDB."""

import pathlib
import re
import sqlite3
import tempfile
import unittest
from importlib.resources import files

import duckdb
import pandas as pd

import loupe
from client_test import FACTORS, spec
from programs import ROOT, Service

EXTENSION = files("duckdb_extension_sqlite_scanner") / f"extensions/v{duckdb.__version__}/sqlite_scanner.duckdb_extension"


def setUpModule():
    global folder, service, client, database
    scratch = tempfile.TemporaryDirectory()
    unittest.addModuleCleanup(scratch.cleanup)
    folder = pathlib.Path(scratch.name)
    service = Service(folder / "service").start()
    unittest.addModuleCleanup(service.stop)
    client = loupe.Client(data=service.data)
    unittest.addModuleCleanup(client.close)
    client.wait(client.submit(spec("all-done", seed=2**64 - 1)), progress=False, timeout=60)
    client.wait(client.submit(spec("other-one", replicates=1)), progress=False, timeout=60)
    # A factor whose name has a dot in it.
    nested = {key: value for key, value in spec("two-methods", replicates=1, methods=[
        {"label": "one", "kind": "lora", "rank": [2, 4]}, {"label": "two", "kind": "lora", "rank": [8, 16]}]).items()
        if key not in ("method", "factors")}
    client.wait(client.submit(nested), progress=False, timeout=60)
    client.pause(client.submit(spec("not-begun")))
    client.cancel("not-begun")
    database = sqlite3.connect(f"file:{service.data}/coordinator.db?mode=ro", uri=True)
    unittest.addModuleCleanup(database.close)


def read(sql):
    return pd.read_sql(sql, database)


class ViewsTest(unittest.TestCase):
    def test_columns_are_those_described(self):
        page = (ROOT / "docs/guide/database.md").read_text()
        described = dict(re.findall(r"^\| `(view_\w+)` \| [^|]+ \| (.+) \|$", page, re.MULTILINE))
        self.assertEqual(len(described), 8)
        for view, text in described.items():
            columns = [one.split(":")[0].split(" (")[0].strip() for one in re.sub(r" \(.*?\)|: of .*", "", text).split(",")]
            self.assertEqual(list(read(f"SELECT * FROM {view} LIMIT 0").columns), columns, view)

    def test_sweeps_are_those_of_the_client(self):
        rows = read("SELECT * FROM view_sweeps").set_index("sweep")
        for sweep in client.sweeps():
            row = rows.loc[sweep.name]
            self.assertEqual((row["state"], row["cells"]), (sweep.state, sweep.cells))
            self.assertAlmostEqual(row["created"], sweep.created.timestamp(), places=4)
        self.assertEqual(rows.loc["all-done", "seed"], -1)  # as a signed number

    def test_trials_scores_and_levels_are_those_of_the_client(self):
        for sweep in ("all-done", "not-begun"):
            expected = client.trials(sweep)
            rows = read(f"SELECT * FROM view_trials WHERE sweep = '{sweep}' ORDER BY trial")
            for column in ("trial", "cell", "replicate", "state"):
                self.assertEqual(rows[column].tolist(), expected[column].tolist())
        levels = read("SELECT t.trial, l.factor, l.level FROM view_trials AS t JOIN view_levels AS l USING (sweep, cell) WHERE sweep = 'all-done'")
        wide = levels.pivot(index="trial", columns="factor", values="level")
        scores = read("SELECT trial, value FROM view_scores WHERE sweep = 'all-done' AND score = 'clip_i' ORDER BY trial")
        expected = client.trials("all-done")
        self.assertEqual(wide[FACTORS].values.tolist(), expected[FACTORS].values.tolist())
        self.assertEqual(scores["value"].tolist(), expected["clip_i"].tolist())

    def test_levels_of_nested_factors_are_those_of_the_client(self):
        levels = read("SELECT cell, factor, level FROM view_levels WHERE sweep = 'two-methods'")
        self.assertIn("one.rank", set(levels["factor"]))
        for trial in client.trials("two-methods", frame="rows"):
            rows = levels[levels["cell"] == trial["cell"]]
            self.assertEqual(dict(zip(rows["factor"], rows["level"])), client.trial("two-methods", trial["trial"]).cell)

    def test_curves_attempts_and_files_are_those_of_the_client(self):
        points = read("SELECT trial, metric, step, value FROM view_metrics WHERE sweep = 'all-done' ORDER BY trial, metric, step")
        self.assertEqual(points.values.tolist(), client.metrics("all-done").values.tolist())
        attempts = read("SELECT outcome, worker FROM view_attempts WHERE sweep = 'other-one'")
        self.assertEqual(attempts["outcome"].tolist(), ["SUCCEEDED"] * 8)
        files = client.artifacts("all-done", 3)
        rows = read("SELECT * FROM view_artifacts WHERE sweep = 'all-done' AND trial = 3 ORDER BY artifact")
        self.assertEqual(rows["sha256"].tolist(), [file.sha256 for file in files])
        self.assertEqual(rows["artifact"].tolist(), ["log.txt", "samples-base.png", "samples.png", "subject.png"])
        self.assertEqual(rows["accepted"].tolist(), [1] * 4)
        self.assertEqual((service.data / rows["file"][0]).read_text(), "trial sweeps/all-done/trials/3\n")
        workers = read("SELECT worker, trials_succeeded FROM view_workers")
        self.assertEqual({worker.name: worker.trials_succeeded for worker in client.workers()}, dict(workers.values.tolist()))

    def test_duckdb_reads_every_view_as_sqlite_does(self):
        with duckdb.connect() as duck:
            duck.sql(f"LOAD '{EXTENSION}'")
            duck.sql(f"ATTACH '{service.data}/coordinator.db' AS loupe (TYPE sqlite, READ_ONLY)")
            types = dict(duck.sql("SELECT column_name, column_type FROM (DESCRIBE loupe.view_trials)").fetchall())
            self.assertEqual([types[name] for name in ("trial", "state", "started", "total_seconds")], ["BIGINT", "VARCHAR", "DOUBLE", "DOUBLE"])
            for view in read("SELECT name FROM sqlite_schema WHERE type = 'view'")["name"]:
                rows = database.execute(f"SELECT * FROM {view}").fetchall()
                self.assertEqual(sorted(map(str, duck.sql(f"SELECT * FROM loupe.{view}").fetchall())),
                                 sorted(str((*row[:3], bool(row[3]), *row[4:]) if view == "view_artifacts" else row) for row in rows), view)
            best = duck.sql("""SELECT l.level, avg(s.value) FROM loupe.view_scores s JOIN loupe.view_levels l USING (sweep, cell)
                               WHERE sweep = 'all-done' AND factor = 'input' GROUP BY 1 ORDER BY 1""").fetchall()
        expected = client.trials("all-done").groupby("input")["clip_i"].mean()
        for level, mean in best:
            self.assertAlmostEqual(mean, expected[level], places=12)

    def test_a_reader_cannot_write(self):
        with self.assertRaises(sqlite3.OperationalError):
            database.execute("DELETE FROM sweeps")


if __name__ == "__main__":
    unittest.main()
