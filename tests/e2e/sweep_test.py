"""A small real sweep, end to end: real coordinator, two real workers (LibTorch), the built-in base, one worker killed with
SIGKILL on the way; then every number of the report is computed again from the SQLite file."""

import json
import os
import pathlib
import signal
import sqlite3
import subprocess
import sys
import tempfile

import numpy as np
import pandas as pd
import statsmodels.api as sm
from safetensors import safe_open
from statsmodels.formula.api import ols

from service import BIN, ROOT, Service, wait_until

SWEEP = """
name: small-sweep
base: {root}/configs/bases/emoji-sd
scorer: {root}/configs/scorers/emoji-clip
task: {{kind: dreambooth, images: {images}, instance_prompt: "a photo of sks", class_prompt: "a photo of cat face", class_images: 2}}
method: {{kind: adapter, width: 4}}
factors:
  input: [CA_in, FFN_in]
  output: [FFN_in, Trans_out]
  activation: [relu, silu]
replicates: 2
budget: {{steps: 6, batch: 1, samples: 4}}
train: {{checkpoint_every: 2}}
sample: {{steps: 3}}
seed: 3
"""

FACTORS = ["input", "output", "activation"]


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        images = folder / "images"
        subprocess.run([BIN / "loupe-worker", "render-emoji", "--family", "cat-faces", "--out", images], check=True, cwd=ROOT)
        sweep_file = folder / "sweep.yaml"
        sweep_file.write_text(SWEEP.format(root=ROOT, images=images))
        data = folder / "data"
        with Service(data, workers=2) as service:
            run_with_a_killed_worker(service, sweep_file)
            report = service.json("report", "small-sweep")
            check_logs(service, data / "coordinator.db")
            check_report_against_database(report, data / "coordinator.db")
            check_scores_against_embeddings(service, data / "coordinator.db", folder)
            check_the_killed_trial_against_a_run_by_hand(service, data / "coordinator.db", folder)
            service.loupe("report", "small-sweep", "--format", "html", "--output", folder / "report.html")
        html = (folder / "report.html").read_text()
        assert html.count("<svg") >= 2 and "data:image/png;base64," in html, "the report shows no plots or pictures"
        assert "http://" not in html.replace("http://www.w3.org/", "") and "https://" not in html, "not self-contained"
    print("1 passed, 0 failed")


def run_with_a_killed_worker(service, sweep_file):
    service.loupe("submit", sweep_file)

    def busy_worker():
        for worker in service.json("workers")["workers"]:
            if worker.get("running"):
                return worker

    victim = wait_until(busy_worker, 120, "a worker is busy")
    os.kill(int(victim["process_id"]), signal.SIGKILL)
    watched = service.loupe("watch", "small-sweep")
    counts = service.json("status", "small-sweep")["counts"]
    assert int(counts["succeeded"]) == 16 == int(counts["total"]), f"{counts}\n{watched.stdout}"


def check_logs(service, database):
    """What the workers' own code logged, by phase; the trial whose worker was killed has its log under the next attempt."""
    lines = [json.loads(line) for line in service.loupe("logs", "small-sweep", 0, "--format", "json").stdout.splitlines()]
    assert [line["sequence"] for line in lines] == list(range(1, len(lines) + 1))
    texts = [line["text"] for line in lines]
    assert texts[0].startswith("taken by workers/") and "has a result after" in texts[-1], texts
    for phase in ("prepare begins", "train begins, 6 steps; ", "sample begins; train took "):
        assert any(text.startswith(phase) for text in texts), (phase, texts)
    # The process logged it for everybody; the attempt that loaded the base has it in its own log.
    all_lines = "".join(service.loupe("logs", "small-sweep", index).stdout for index in range(16))
    assert "loaded " in all_lines, all_lines
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    index, epoch = connection.execute("SELECT trial_index, epoch FROM attempts WHERE outcome <> 1").fetchone()
    connection.close()
    followed = service.loupe("logs", f"small-sweep/{index}", "--follow", "--attempt", epoch + 1).stdout
    assert "has a result after" in followed, followed
    workers = [worker["telemetry"] for worker in service.json("workers")["workers"] if worker["telemetry"]]
    assert sum(worker["steps"] for worker in workers) > 6 and any(worker["step_seconds"] for worker in workers), workers
    assert any(worker["pictures_per_second"] for worker in workers), workers


def trials(database):
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    rows = pd.read_sql(
        "SELECT t.trial_index, c.levels, t.replicate, t.epoch, s.name, s.value FROM trials t"
        " JOIN cells c USING (sweep_key, cell_index) JOIN scores s USING (sweep_key, trial_index)", connection)
    lost = connection.execute("SELECT count(*) FROM attempts WHERE outcome <> 1").fetchone()[0]
    connection.close()
    assert lost >= 1, "the killed worker's attempt left no trace"
    return rows


def check_report_against_database(report, database):
    rows = trials(database)
    wide = rows.pivot_table(index=["trial_index", "levels", "replicate"], columns="name", values="value").reset_index()
    levels = wide["levels"].map(json.loads)
    for factor in FACTORS:
        wide[factor] = levels.map(lambda cell: cell[factor])
    wide["replicate"] = wide["replicate"].astype(str)
    assert len(wide) == 16
    model = ols("clip_i ~ C(replicate) + C(input) + C(output) + C(activation)", wide).fit()
    expected = sm.stats.anova_lm(model, typ=2)
    terms = {term["term"]: term for term in report["terms"]}
    for factor in ["replicate", *FACTORS]:
        row = expected.loc[f"C({factor})"]
        assert terms[factor]["df"] == row["df"]
        # Both sides are float64 least squares on 16 rows: agreement to about 1e-10; 1e-8 leaves room for conditioning.
        np.testing.assert_allclose(terms[factor]["sum_sq"], row["sum_sq"], rtol=1e-8)
        np.testing.assert_allclose(terms[factor]["f"], row["F"], rtol=1e-8)
        np.testing.assert_allclose(terms[factor]["p"], row["PR(>F)"], rtol=1e-8)
    np.testing.assert_allclose(report["residual"]["sum_sq"], expected.loc["Residual", "sum_sq"], rtol=1e-8)


def check_scores_against_embeddings(service, database, folder):
    """clip_i again from what the worker stored: the mean cosine of generated and subject embeddings."""
    rows = trials(database)
    stored = rows[(rows["trial_index"] == 0) & (rows["name"] == "clip_i")]["value"].item()
    target = folder / "embeddings.npy"
    reference = folder / "reference.npy"
    service.loupe("download", "small-sweep", 0, "embeddings.npy", "--output", target)
    service.loupe("download", "small-sweep", 0, "embeddings-subject.npy", "--output", reference)
    generated = np.load(target).astype(np.float64)
    subject = np.load(reference).astype(np.float64)
    generated /= np.linalg.norm(generated, axis=1, keepdims=True)
    subject /= np.linalg.norm(subject, axis=1, keepdims=True)
    # float32 embeddings, float64 sums on both sides.
    np.testing.assert_allclose((generated @ subject.T).mean(), stored, atol=1e-6)


def check_the_killed_trial_against_a_run_by_hand(service, database, folder):
    """What its adapter file says of itself is enough to train it again, on a machine of the same kind: the same numbers."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    index = connection.execute("SELECT trial_index FROM attempts WHERE outcome <> 1").fetchone()[0]
    provenance = json.loads(connection.execute("SELECT provenance FROM results WHERE trial_index = ?", [index]).fetchone()[0])
    connection.close()
    service.loupe("download", "small-sweep", index, "adapter.safetensors", "--output", folder / "killed.safetensors")
    with safe_open(folder / "killed.safetensors", "numpy") as file:
        said = file.metadata()
        killed = {name: file.get_tensor(name) for name in file.keys()}
    settings = [f"{key}={value}" for key, value in json.loads(said["loupe.settings"]).items()]
    subprocess.run([BIN / "loupe-worker", "trial", "--threads", provenance["threads"], "--seed", said["loupe.sweep_seed"],
                    "--replicate", said["loupe.replicate"], "--out", folder / "again", "--settings", *settings],
                   check=True, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with safe_open(folder / "again/adapter.safetensors", "numpy") as file:
        assert set(file.keys()) == set(killed)
        for name, value in killed.items():
            assert np.array_equal(file.get_tensor(name), value), name


if __name__ == "__main__":
    sys.exit(main())
