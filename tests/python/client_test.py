"""The Python client against a real coordinator (and workers whose trials are acted: programs.py).

    PYTHONPATH=BUILD/python client_test.py        with LOUPE_BIN set to the folder of the programs; ctest does both
"""

import asyncio
import csv
import datetime
import hashlib
import html.parser
import inspect
import io
import json
import math
import os
import pathlib
import signal
import sqlite3
import stat
import subprocess
import tempfile
import threading
import unittest
from contextlib import closing, redirect_stderr
from unittest import mock

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import statsmodels.formula.api as smf
from opentelemetry import trace
from statsmodels.stats.anova import anova_lm

import loupe
from loupe import connection, model, transport
from loupe.v1 import sweep_pb2
from programs import BIN, Service, wait_until

FACTORS = ["input", "output", "activation"]


def spec(name, **changes):
    made = {
        "name": name, "base": "b", "scorer": "s",
        "task": {"images": "pictures", "instance_prompt": "a photo of sks", "class_prompt": "a photo of cat face"},
        "method": {"width": 8},
        "factors": {"input": ["SA_in", "CA_in"], "output": ["FFN_in", "Trans_out"], "activation": ["relu", "silu"]},
        "replicates": 2, "budget": {"steps": 5}}
    return made | changes


def setUpModule():
    global scratch, folder, service, client, done
    scratch = tempfile.TemporaryDirectory()
    unittest.addModuleCleanup(scratch.cleanup)
    folder = pathlib.Path(scratch.name)
    service = Service(folder / "service").start()
    unittest.addModuleCleanup(service.stop)
    client = loupe.Client(data=service.data)
    unittest.addModuleCleanup(client.close)
    done = client.wait(client.submit(spec("finished")), progress=False, timeout=60)


class SubmitTest(unittest.TestCase):
    def test_dict_text_and_path_are_one_design(self):
        mapping = spec("three-ways")
        first = client.submit(mapping)
        text = json.dumps(mapping)
        path = folder / "three-ways.yaml"
        path.write_text("# the same, in YAML\n" + text.replace('"', ""))
        for again in (text, path, str(path)):
            self.assertEqual(client.submit(again, exist_ok=True).created, first.created)
        self.assertEqual(first.counts.total, 16)
        self.assertEqual(first.factors["output"], ["FFN_in", "Trans_out"])

    def test_taken_name_says_which_design_it_has(self):
        with self.assertRaisesRegex(loupe.AlreadyExistsError, "exist_ok=True"):
            client.submit(spec("finished"))
        with self.assertRaisesRegex(loupe.AlreadyExistsError, "another design"):
            client.submit(spec("finished", seed=5), exist_ok=True)

    def test_name_replaces_the_files(self):
        self.assertEqual(client.submit(spec("unused-name"), name="own-name").name, "own-name")

    def test_the_audit_log_has_the_name(self):
        client.submit(spec("in-the-log"))
        self.assertRegex((service.data / "audit.log").read_text(), r"created 'sweeps/in-the-log' OK")

    def test_relative_paths_start_where_it_runs(self):
        sweep = client.submit(spec("with-paths", base=pathlib.Path("bases/one")), relative_to="/somewhere")
        self.assertEqual(sweep.spec.settings["base"], "/somewhere/bases/one")
        self.assertEqual(client.submit(spec("with-paths-2")).spec.settings["scorer"], os.path.join(os.getcwd(), "s"))

    def test_numbers_of_numpy_are_numbers(self):
        plan = client.plan(spec("numpy-seed", seed=np.int64(7), train={"learning_rate": np.float32(0.5)}))
        self.assertEqual((plan.spec.seed, plan.spec.settings["train.learning_rate"]), (7, "0.5"))

    def test_every_problem_is_told_with_its_line(self):
        wrong = spec("wrong-values", budget={"steps": 0})
        wrong["method"]["widht"] = 8
        with self.assertRaises(loupe.InvalidRequestError) as caught:
            client.plan(wrong)
        self.assertEqual(caught.exception.code, "INVALID_ARGUMENT")
        self.assertEqual(len(caught.exception.violations), 2)
        self.assertIn('| ', caught.exception.hint)
        self.assertIn('"widht": 8', caught.exception.hint)
        self.assertIn('"steps": 0', caught.exception.hint)
        self.assertIn("width", str(caught.exception))

    def test_file_errors_name_file_and_place(self):
        path = folder / "broken.yaml"
        path.write_text("name: broken-file\nbase: [\n")
        with self.assertRaisesRegex(loupe.InvalidRequestError, rf"{path}:\d+:\d+"):
            client.plan(path)
        with self.assertRaisesRegex(loupe.NotFoundError, "no-such.yaml"):
            client.plan("no-such.yaml")
        (folder / "latin.yaml").write_bytes(b"name: caf\xe9\n")
        with self.assertRaisesRegex(loupe.InvalidRequestError, "byte 10"):
            client.plan(folder / "latin.yaml")

    def test_what_json_cannot_hold_is_refused(self):
        for value in (object(), float("nan")):
            with self.assertRaises(loupe.InvalidRequestError):
                client.plan(spec("no-json", seed=value))

    def test_relative_paths_without_a_folder_are_refused(self):
        request = sweep_pb2.CreateSweepRequest(validate_only=True, file=sweep_pb2.SweepFile(text=json.dumps(spec("no-folder"))))
        over = transport.BlockingTransport(connection.find(data=service.data), 20)
        self.addCleanup(lambda: transport.finish(over.close()))
        with self.assertRaisesRegex(loupe.InvalidRequestError, "working_directory"):
            transport.finish(over.unary(transport.CREATE_SWEEP, request))
        request.file.working_directory = "not/absolute"
        with self.assertRaisesRegex(loupe.InvalidRequestError, "absolute"):
            transport.finish(over.unary(transport.CREATE_SWEEP, request))
        request.file.working_directory = "/"
        request.spec.seed = 3
        with self.assertRaisesRegex(loupe.InvalidRequestError, "both"):
            transport.finish(over.unary(transport.CREATE_SWEEP, request))

    def test_plan_stores_nothing(self):
        plan = client.plan(spec("only-planned"))
        self.assertEqual((plan.cells, plan.trials), (8, 16))
        self.assertEqual({term.term: term.df for term in plan.terms}["output"], 1)
        with self.assertRaises(loupe.NotFoundError):
            client.sweep("only-planned")
        self.assertIn("16 trials", plan._repr_html_())


class WaitTest(unittest.TestCase):
    def test_bar_ends_with_all_trials(self):
        sweep = client.submit(spec("with-a-bar"))
        shown = io.StringIO()
        with redirect_stderr(shown):
            ended = client.wait(sweep, progress=True)
        self.assertEqual((ended.state, ended.counts.succeeded), ("COMPLETED", 16))
        self.assertIn("16/16", shown.getvalue())

    def test_timeout_leaves_the_sweep(self):
        sweep = client.submit(spec("paused-one"))
        client.pause(sweep)
        with self.assertRaisesRegex(loupe.DeadlineError, "It goes on"):
            client.wait(sweep, progress=False, timeout=0.3)
        self.assertEqual(client.sweep(sweep).state, "PAUSED")
        client.cancel(sweep)
        with self.assertRaises(loupe.TrialsWithoutResultError) as caught:
            client.wait(sweep, progress=False)
        self.assertEqual(caught.exception.sweep.state, "CANCELLED")
        self.assertEqual(client.wait(sweep, progress=False, check=False).state, "CANCELLED")
        cancelled = client.trials(sweep, states=["cancelled"])
        self.assertEqual(client.retry(sweep, cancelled=True, cell={"input": "SA_in"}), (cancelled["input"] == "SA_in").sum())
        client.wait(sweep, progress=False, check=False)
        client.delete(sweep, force=True)
        wait_until(lambda: sweep.name not in [one.name for one in client.sweeps()], 20, "it is gone")

    def test_killed_coordinator_is_waited_for(self):
        sweep = client.submit(spec("outlives-it", replicates=20))
        states = []

        def follow():
            states.append(client.wait(sweep, progress=False, timeout=100))

        thread = threading.Thread(target=follow)
        thread.start()
        wait_until(lambda: client.sweep(sweep).counts.succeeded > 5, 30, "some trials have ended")
        [pid] = subprocess.run(["pgrep", "-P", str(service.process.pid), "-f", "loupe-coordinator"], capture_output=True,
                               text=True).stdout.split()
        os.kill(int(pid), signal.SIGKILL)
        thread.join()
        self.assertEqual([state.counts.succeeded for state in states], [160])

    def test_watch_can_be_left(self):
        sweep = client.submit(spec("watched-one", replicates=10))
        for progress in client.watch(sweep):
            self.assertEqual(progress.sweep.counts.total, 80)
            break
        self.assertTrue(list(client.watch(sweep))[-1].sweep.ended)


class FramesTest(unittest.TestCase):
    def test_trials_have_levels_and_scores(self):
        frame = client.trials(done)
        self.assertEqual(list(frame.columns), ["trial", "cell", "replicate", "state", *FACTORS, "clip_i", "attempts", "worker_losses",
                                               "worker", "started", "ended", "failure_class", "failure"])
        self.assertEqual(len(frame), 16)
        self.assertEqual(set(frame["state"]), {"SUCCEEDED"})
        one = client.trial(done, 5)
        self.assertEqual(dict(frame.loc[5, FACTORS]), one.cell)
        self.assertEqual(frame.loc[5, "clip_i"], one.scores["clip_i"])
        self.assertLess(abs(datetime.datetime.now(datetime.timezone.utc) - one.started), datetime.timedelta(minutes=10))

    def test_polars_and_rows_say_the_same(self):
        frame, rows = client.trials(done, frame="polars"), client.trials(done, frame="rows")
        self.assertIsInstance(frame, pl.DataFrame)
        self.assertEqual(frame.to_dicts(), rows)
        self.assertEqual(client.trials(done)["clip_i"].tolist(), frame["clip_i"].to_list())

    def test_states_choose(self):
        self.assertEqual(len(client.trials(done, states=["failed"])), 0)
        self.assertIn("clip_i", client.trials(done, states=["succeeded"]).columns)
        with self.assertRaisesRegex(loupe.InvalidRequestError, "QUARANTINED"):
            client.trials(done, states=["broken"])

    def test_names_that_meet_are_kept_apart(self):
        trial = client.trial(done, 0)
        changed = model.dataclasses.replace(trial, cell={"worker": "a", "x": "b"}, scores={"x": 1.0, "state": 2.0})
        rows, columns = model.trial_table([changed])
        self.assertEqual(len(columns), len(set(columns)))
        self.assertEqual([rows[0][name] for name in ("factor.worker", "x", "score.x", "score.state")], ["a", "b", 1.0, 2.0])

    def test_logs_are_lines_of_an_attempt(self):
        lines = client.logs(done, 3)
        self.assertEqual([line.sequence for line in lines], list(range(1, len(lines) + 1)))
        self.assertRegex(lines[0].text, "^taken by workers/")
        self.assertRegex(lines[-1].text, "has a result")
        self.assertEqual({line.level for line in lines}, {"info"})
        self.assertRegex(str(lines[0]), r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  taken by")
        self.assertEqual(client.logs(done, 3, attempt=1, tail=1), lines[-1:])
        with self.assertRaises(loupe.NotFoundError):
            client.logs(done, 3, attempt=9)

    def test_metrics_are_curves(self):
        frame = client.metrics(done)
        self.assertEqual(list(frame.columns), ["trial", "metric", "step", "value"])
        self.assertEqual(len(frame), 16 * 3)
        self.assertEqual(client.metrics(done, 3, metric="loss")["value"].tolist(), [1.0, 0.5, 1 / 3])
        self.assertEqual(client.metrics(done, [1, 2], frame="polars")["trial"].unique().sort().to_list(), [1, 2])
        self.assertEqual(len(client.metrics(done, 3, metric="no-such")), 0)

    def test_missing_package_says_how_to_get_it(self):
        with mock.patch.dict("sys.modules", {"pandas": None}):
            with self.assertRaisesRegex(loupe.MissingPackageError, r"pip install 'loupe-sweeps\[pandas\]'"):
                client.trials(done)
            self.assertEqual(len(client.trials(done, frame="rows")), 16)


class AnalysisTest(unittest.TestCase):
    def test_anova_is_that_of_statsmodels(self):
        table = client.anova(done)
        frame = client.trials(done).rename(columns={"clip_i": "y"})
        expected = anova_lm(smf.ols("y ~ C(replicate) + C(input) + C(output) + C(activation)", frame).fit(), typ=2)
        for factor in FACTORS:
            row = expected.loc[f"C({factor})"]
            # Both sides are float64 least squares on 16 rows.
            np.testing.assert_allclose([table[factor].sum_sq, table[factor].f, table[factor].p],
                                       [row["sum_sq"], row["F"], row["PR(>F)"]], rtol=1e-8)
        frame = table.frame()
        self.assertEqual(frame["term"].tolist()[-1], "residual")
        np.testing.assert_allclose(frame["sum_sq"].tolist()[-1], expected.loc["Residual", "sum_sq"], rtol=1e-8)
        with self.assertRaisesRegex(KeyError, "activation"):
            table["no-such"]

    def test_reports_are_the_same_numbers(self):
        numbers = client.report(done, format="json").json()
        table = client.anova(done)
        self.assertEqual({term["term"]: term["f"] for term in numbers["terms"]}, {term.term: term.f for term in table.terms})
        self.assertEqual(len(client.report(done, format="csv").frame()), 16)
        pairs = client.report(done, format="csv", table="pairs").frame("polars")
        self.assertIn("p_tukey", pairs.columns)
        self.assertIn("activation", client.report(done, format="text").text)
        page = client.report(done, baseline={"input": "SA_in", "output": "FFN_in", "activation": "relu"})
        saved = page.save(folder / "report.html")
        self.assertEqual(saved.read_text(), page.text)
        self.assertIn("<svg", page.text)
        with self.assertRaisesRegex(loupe.InvalidRequestError, "json"):
            page.json()
        with self.assertRaisesRegex(loupe.InvalidRequestError, "csv, html"):
            client.report(done, format="pdf")
        with self.assertRaises(loupe.InvalidRequestError):
            client.report(done, contrasts=["[no=level]"])

    def test_too_few_results_say_what_is_missing(self):
        sweep = client.submit(spec("no-results"))
        client.cancel(sweep)
        with self.assertRaises(loupe.StateError):
            client.anova(sweep)

    def test_heat_map_is_the_means(self):
        shown = client.heat_map(done)
        means = client.trials(done).groupby(["input", "output"])["clip_i"].mean()
        for pair, mean in means.items():
            self.assertAlmostEqual(shown.mean[pair], mean, places=12)
        self.assertEqual(shown.frame().set_index(["input", "output"])["n"].tolist(), [4] * 4)
        with self.assertRaisesRegex(loupe.InvalidRequestError, "activation"):
            client.heat_map(done, rows="no-such")


class Tags(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.open, self.all, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.all.append(tag)
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data):
        self.words.append(data)


class NotebookTest(unittest.TestCase):
    def test_everything_shows_itself(self):
        for shown in (done, client.anova(done), client.heat_map(done), client.report(done), client.report(done, format="text"),
                      client.plan(spec("shown-plan"))):
            page = Tags(shown._repr_html_())
            self.assertEqual(page.open, [])
            self.assertNotIn("script", page.all)
        self.assertEqual(Tags(client.heat_map(done)._repr_html_()).all.count("td"), 4)
        self.assertIn("SA_in", Tags(client.heat_map(done)._repr_html_()).words)

    def test_hostile_levels_are_text(self):
        trial = client.trial(done, 0)
        hostile = "<script>alert(1)</script>\"'&"
        changed = model.dataclasses.replace(trial, cell={"input": hostile, "output": "x"})
        page = Tags(model.HeatMap.of([changed], {}, "input", "output", "clip_i")._repr_html_())
        self.assertNotIn("script", page.all)
        self.assertIn(hostile, "".join(page.words))

    def test_best_is_brightest_whichever_way(self):
        trials = [model.dataclasses.replace(client.trial(done, 0), cell={"input": level, "output": "x"}, scores={score: value})
                  for score in ("clip_i",) for level, value in (("low", 1.0), ("high", 2.0))]
        larger = model.HeatMap.of(trials, {}, "input", "output", "clip_i")._repr_html_()
        smaller = model.HeatMap.of([model.dataclasses.replace(one, scores={"fid": one.scores["clip_i"]}) for one in trials], {}, "input",
                                   "output", "fid")._repr_html_()
        self.assertLess(larger.index("rgb(0,32,77)"), larger.index("rgb(255,234,70)"))
        self.assertLess(smaller.index("rgb(255,234,70)"), smaller.index("rgb(0,32,77)"))


class FilesTest(unittest.TestCase):
    def test_download_is_whole_and_checked(self):
        log, picture = ([one for one in client.artifacts(done, 2) if one.name == name][0] for name in ("log.txt", "samples.png"))
        self.assertEqual((log.name, picture.media_type), ("log.txt", "image/png"))
        path = client.download(done, 2, "samples.png", folder)
        self.assertEqual(path, folder / "samples.png")
        self.assertEqual(hashlib.sha256(path.read_bytes()).hexdigest(), picture.sha256)
        with self.assertRaises(loupe.NotFoundError):
            client.download(done, 2, "no-such.txt", folder / "never")
        self.assertFalse((folder / "never").exists())
        self.assertEqual([one for one in folder.iterdir() if one.name.endswith(".tmp")], [])

    def test_damaged_download_leaves_what_was(self):
        target = folder / "kept.txt"
        target.write_text("before")
        [artifact] = [one for one in client.artifacts(done, 4) if one.name == "log.txt"]
        stored = service.data / "artifacts" / artifact.sha256[:2] / artifact.sha256
        content = stored.read_bytes()
        stored.chmod(0o600)
        stored.write_bytes(content[:-2] + b"!\n")
        try:
            with self.assertRaises(loupe.DamagedDataError):
                client.download(done, 4, "log.txt", target)
        finally:
            stored.write_bytes(content)
        self.assertEqual(target.read_text(), "before")

    def test_exports_read_back(self):
        expected = client.trials(done)
        parquet = client.export(done, folder / "trials.parquet")
        self.assertEqual(duckdb.sql(f"SELECT avg(clip_i), count(*) FROM '{parquet}'").fetchone(), (pl.read_parquet(parquet)["clip_i"].mean(), 16))
        self.assertEqual(pl.read_parquet(parquet)["clip_i"].to_list(), expected["clip_i"].tolist())
        self.assertEqual(pd.read_csv(client.export(done, folder / "trials.csv"))["clip_i"].tolist(), expected["clip_i"].tolist())
        lines = [json.loads(line) for line in client.export(done, folder / "metrics.jsonl", table="metrics").read_text().splitlines()]
        self.assertEqual(lines, client.metrics(done, frame="rows"))
        with self.assertRaisesRegex(loupe.InvalidRequestError, ".parquet"):
            client.export(done, folder / "trials.xlsx")
        with self.assertRaisesRegex(loupe.InvalidRequestError, "trials or metrics"):
            client.export(done, folder / "trials.csv", table="artifacts")

    def test_formulas_in_csv_are_text(self):
        from loupe.frames import write_rows
        path = write_rows([{"a": "=1+1", "b": -2.5, "c": "@x"}], ["a", "b", "c"], folder / "formula.csv")
        self.assertEqual(list(csv.reader(path.read_text().splitlines()))[1], ["'=1+1", "-2.5", "'@x"])

    def test_failed_write_leaves_what_was(self):
        from loupe.frames import write_rows
        path = folder / "before.jsonl"
        path.write_text("before")
        with self.assertRaises(TypeError):
            write_rows([{"a": 1}, {"a": object()}], ["a"], path)
        self.assertEqual(path.read_text(), "before")
        self.assertEqual(stat.S_IMODE(path.stat().st_mode) & 0o077, 0o044)

    def test_tensorboard_reads_the_export(self):
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        from tensorboard.plugins.hparams import metadata, plugin_data_pb2
        target = client.export_tensorboard(done, folder / "events")
        runs = sorted(path.name for path in target.iterdir())
        self.assertEqual((len(runs), runs[7]), (16, "trial-00007"))
        events = EventAccumulator(str(target / runs[7]))
        events.Reload()
        trial = client.trial(done, 7)
        [score] = events.Tensors("score/clip_i")
        self.assertEqual(score.tensor_proto.double_val[:] or np.frombuffer(score.tensor_proto.tensor_content), [trial.scores["clip_i"]])
        self.assertEqual([event.step for event in events.Tensors("loss")], [1, 2, 3])
        content = events.summary_metadata[metadata.SESSION_START_INFO_TAG].plugin_data.content
        levels = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
        self.assertEqual({name: levels[name].string_value for name in FACTORS}, trial.cell)
        with self.assertRaisesRegex(loupe.StateError, "not empty"):
            client.export_tensorboard(done, target)

    def test_mlflow_reads_the_export(self):
        import mlflow
        uri = (folder / "mlruns").as_uri()
        with mock.patch.dict(os.environ, {"MLFLOW_ALLOW_FILE_STORE": "true"}):
            experiment = client.export_mlflow(done, uri)
            self.assertEqual(client.export_mlflow(done, uri), experiment)
            reader = mlflow.MlflowClient(tracking_uri=uri)
            runs = reader.search_runs([experiment], max_results=100)
            self.assertEqual(len(runs), 16)
            [run] = [run for run in runs if run.data.tags["loupe.trial"] == "finished/trials/7"]
            trial = client.trial(done, 7)
            self.assertEqual({name: run.data.params[name] for name in FACTORS}, trial.cell)
            self.assertEqual(run.data.metrics["score/clip_i"], trial.scores["clip_i"])
            self.assertEqual([point.value for point in reader.get_metric_history(run.info.run_id, "loss")], [1.0, 0.5, 1 / 3])
            self.assertEqual(run.info.status, "FINISHED")

    def test_only_ended_sweeps_go_to_trackers(self):
        sweep = client.submit(spec("still-running"))
        client.pause(sweep)
        for export in (client.export_tensorboard, client.export_mlflow):
            with self.assertRaisesRegex(loupe.StateError, "wait"):
                export(sweep, str(folder / "nothing"))
        self.assertFalse((folder / "nothing").exists())
        client.cancel(sweep)


class AsyncTest(unittest.IsolatedAsyncioTestCase):
    async def test_twin_answers_alike(self):
        async with loupe.AsyncClient(data=service.data) as twin:
            self.assertEqual(await twin.anova(done), client.anova(done))
            self.assertEqual(await twin.trials(done, frame="rows"), client.trials(done, frame="rows"))
            self.assertEqual((await twin.report(done, format="csv")).content, client.report(done, format="csv").content)
            path = await twin.download(done, 1, "log.txt", folder / "async.txt")
            self.assertEqual(path.read_bytes(), client.download(done, 1, "log.txt", folder / "blocking.txt").read_bytes())
            with self.assertRaises(loupe.NotFoundError):
                await twin.sweep("no-such-sweep")

    async def test_two_sweeps_are_waited_for_at_once(self):
        async with loupe.AsyncClient(data=service.data) as twin:
            sweeps = [await twin.submit(spec(f"async-{number}")) for number in range(2)]
            ended = await asyncio.gather(*(twin.wait(sweep, progress=False) for sweep in sweeps))
            self.assertEqual([sweep.counts.succeeded for sweep in ended], [16, 16])
            seen = [progress.sweep.state async for progress in twin.watch(sweeps[0])]
            self.assertEqual(seen[-1], "COMPLETED")

    def test_twin_has_the_same_methods(self):
        def signatures(of):
            return {name: str(inspect.signature(method)).split(" -> ")[0] for name, method in inspect.getmembers(of, inspect.isfunction)
                    if not name.startswith("_")}
        self.assertEqual(signatures(loupe.Client), signatures(loupe.AsyncClient))


class ContractTest(unittest.TestCase):
    def test_methods_are_those_of_the_contract(self):
        from loupe.v1 import analysis_pb2, trial_pb2, worker_pb2
        contract = {f"/{service.full_name}/{method.name}": (method.input_type.full_name, method.output_type.full_name)
                    for file in (sweep_pb2, trial_pb2, worker_pb2, analysis_pb2)
                    for service in file.DESCRIPTOR.services_by_name.values() for method in service.methods}
        used = [value for value in vars(transport).values() if isinstance(value, transport.Method)]
        self.assertGreater(len(used), 15)
        for method in used:
            self.assertEqual(contract[method.path], (method.request.DESCRIPTOR.full_name, method.response.DESCRIPTOR.full_name))


class TraceTest(unittest.TestCase):
    """The coordinator keeps the context of a sweep's creation, for its attempts."""

    def kept(self):
        with closing(sqlite3.connect(f"file:{service.data / 'traces.db'}?mode=ro", uri=True)) as database:
            return {row[0] for row in database.execute("SELECT traceparent FROM sweep_traces")}

    def test_a_sweep_belongs_to_the_trace_of_its_environment(self):
        parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        with mock.patch.dict(os.environ, {"TRACEPARENT": parent}):
            client.submit(spec("traced"))
        self.assertIn(parent, self.kept())

    def test_the_current_span_comes_first(self):
        span = trace.NonRecordingSpan(trace.SpanContext(0xabc, 0xdef, is_remote=False, trace_flags=trace.TraceFlags(1)))
        with mock.patch.dict(os.environ, {"TRACEPARENT": "00-" + "1" * 32 + "-" + "2" * 16 + "-01"}), trace.use_span(span):
            client.submit(spec("spanned"))
        self.assertIn(f"00-{0xabc:032x}-{0xdef:016x}-01", self.kept())

    def test_without_one_nothing_is_sent(self):
        for text in ("", "nonsense", "00-abc-def-01\r\nauthorization: x"):
            with mock.patch.dict(os.environ, {"TRACEPARENT": text}):
                self.assertNotIn("traceparent", dict(connection.find(data=service.data).metadata()), text)


class ConnectionTest(unittest.TestCase):
    """Where the coordinator is looked for: docs/cli.md, and cli/connect.cc, which does the same."""

    def setUp(self):
        patch = mock.patch.dict(os.environ)
        patch.start()
        self.addCleanup(patch.stop)
        for name in [name for name in os.environ if name.startswith("LOUPE_")]:
            del os.environ[name]
        self.data = pathlib.Path(tempfile.mkdtemp(dir=folder))
        (self.data / "address").write_text("127.0.0.1:4711\n")
        (self.data / "token").write_text("token-of-data\n")

    def find(self, *arguments, **options):
        found = connection.find(*arguments, data=self.data, **options)
        return found.address, dict(found.metadata()).get("authorization")

    def test_folder_of_up_gives_address_and_token(self):
        self.assertEqual(self.find(), ("127.0.0.1:4711", "Bearer token-of-data"))

    def test_a_local_token_is_sent_nowhere_else(self):
        self.assertEqual(self.find("other:7117"), ("other:7117", None))
        os.environ["LOUPE_ADDRESS"] = "third:7117"
        self.assertEqual(self.find(), ("third:7117", None))

    def test_environment_gives_a_token(self):
        os.environ["LOUPE_TOKEN"] = "of-environment"
        self.assertEqual(self.find(), ("127.0.0.1:4711", "Bearer of-environment"))
        self.assertEqual(self.find("other:7117", token="given"), ("other:7117", "Bearer given"))

    def test_a_token_is_the_first_line_that_is_not_blank(self):
        path = self.data / "token"
        path.write_bytes(b"\xef\xbb\xbf\n  tok-1  \r\nmore\n")
        self.assertEqual(self.find()[1], "Bearer tok-1")
        for text, word in (("", "no token"), ("a b", "character 2"), ("t\u00f6k", "character 2"), ('"tok"', "quotation marks")):
            path.write_text(text)
            with self.assertRaisesRegex(loupe.InvalidRequestError, word) as caught:
                self.find()
            self.assertNotIn("tok", str(caught.exception).replace("token", ""))

    def test_credentials_files_are_private_and_whole(self):
        path = self.data / "anna.pem"
        path.write_text("# Loupe credentials of 'anna'\nAddress: far:1234\nToken: of-anna\n")
        with self.assertRaisesRegex(loupe.AccessError, "chmod 600"):
            path.chmod(0o644)
            self.find(credentials=str(path))
        path.chmod(0o600)
        self.assertEqual(self.find(credentials=str(path)), ("far:1234", "Bearer of-anna"))
        self.assertEqual(self.find("near:1", credentials=str(path), token="mine"), ("near:1", "Bearer mine"))
        os.environ["LOUPE_CREDENTIALS"] = str(path)
        self.assertEqual(self.find(), ("far:1234", "Bearer of-anna"))
        path.write_text("Address: far:1234\n")
        with self.assertRaisesRegex(loupe.InvalidRequestError, "Token"):
            self.find()

    def test_what_is_no_address_is_refused(self):
        for address in ("host", "host:", ":1", "http://host:1", "host:port"):
            with self.assertRaisesRegex(loupe.InvalidRequestError, "host:port"):
                connection.find(address)

    def test_nobody_there_says_how_to_start_one(self):
        with loupe.Client("127.0.0.1:1", timeout=2) as nobody:
            with self.assertRaisesRegex(loupe.UnavailableError, "loupe up"):
                nobody.sweeps()

    def test_wrong_token_says_where_one_is_looked_for(self):
        with loupe.Client(client.address, token="wrong") as stranger:
            with self.assertRaisesRegex(loupe.AccessError, "LOUPE_TOKEN_FILE"):
                stranger.sweeps()

    def test_a_renewed_token_is_read_again(self):
        path = self.data / "renewed"
        path.write_text("wrong")
        with loupe.Client(client.address, token_file=str(path)) as renewed:
            with self.assertRaises(loupe.AccessError):
                renewed.sweeps()
            path.write_text((service.data / "token").read_text())
            self.assertIn("finished", [one.name for one in renewed.sweeps()])

    def test_roles_and_tls_are_as_for_the_command(self):
        data = self.data / "tls"
        process = subprocess.Popen([BIN / "loupe-coordinator", "--data", data, "--listen", "0.0.0.0:0", "--tls-name", "localhost"],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)
        wait_until((data / "address").exists, 30, "it listens")
        port = (data / "address").read_text().strip().rpartition(":")[2]
        with loupe.Client(data=data) as own:
            self.assertEqual(own.submit(spec("over-tls")).state, "ACTIVE")
        viewer = self.data / "viewer.pem"
        subprocess.run([BIN / "loupe-coordinator", "--data", data, "token", "add", "--name", "eve", "--role", "viewer", "-o", viewer,
                        "--address", f"localhost:{port}"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with loupe.Client(credentials=str(viewer)) as eve:
            self.assertEqual(eve.sweep("over-tls").counts.total, 16)
            with self.assertRaisesRegex(loupe.AccessError, "submitter"):
                eve.cancel("over-tls")
        with loupe.Client(f"localhost:{port}", timeout=5) as plain:
            with self.assertRaisesRegex(loupe.UnavailableError, "credentials"):
                plain.sweeps()


if __name__ == "__main__":
    unittest.main()
