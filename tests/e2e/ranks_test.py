"""One trial on several devices, in real processes: on two CPU ranks it is the trial of one, losses and file; what ranks sample, embed
and validate is one process's, byte for byte; a rank that is killed, in training or while pictures are sampled, ends it with the
reason, and leaves no process behind; it goes on from the checkpoint with another number of ranks; and when the
worker itself is killed, its ranks end with it. The same where the ranks are the tasks of a job step (Slurm's variables are all that
it takes; tests/cluster/slurm_test.py has the real one).

    ranks_test.py        with LOUPE_BIN set to the folder of the programs
"""

import contextlib
import csv
import errno
import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import tempfile
import time

import numpy

from service import BIN, ROOT

STEPS = 8
SETTINGS = [
    "base=configs/bases/emoji-sd", "scorer=configs/scorers/emoji-clip", "task.instance_prompt=a photo of sks",
    "task.class_prompt=a photo of cat face", "task.class_images=2", f"budget.steps={STEPS}", "budget.batch=3", "budget.samples=5",
    "sample.steps=2", "sample.chunk=2", "train.ema_decay=0.9", "train.noise_offset=0.1", "train.clip_norm=1"]
ADAPTER = ["input=CA_out", "output=FFN_in", "width=8", "train.learning_rate=0.001", "train.checkpoint_every=2"]
# All weights: its gradients go by buckets, while the backward pass runs.
# Pictures in uneven numbers, more of them than go through CLIP or the sampler together.
PICTURES = ["task.class_images=7", "budget.samples=66", "sample.steps=1", "sample.guidance=1", "sample.chunk=3", "budget.steps=2",
            "train.validate_every=1"]
FULL = ["method.kind=full", "train.learning_rate=0.00001", "train.checkpoint_every=0"]


def task_environment(task, tasks):
    return {**os.environ, "SLURM_PROCID": str(task), "SLURM_LOCALID": str(task), "SLURM_STEP_NUM_TASKS": str(tasks),
            "SLURM_STEP_NUM_NODES": "1"}


class Trial:
    def __init__(self, root, name, ranks, settings, data="cache", step=False):
        self.folder = root / name
        self.log = root / f"{name}.log"
        self.step_file = root / f"{name}.step"
        command = [BIN / "loupe-worker", "trial", "--threads", "1", "--seed", "5", "--out", self.folder, "--data", root / data,
                   *(["--device", "cpu", "--step-file", self.step_file] if step else ["--device", ",".join(["cpu"] * ranks)]),
                   "--settings", f"task.images={root / 'cats'}", f"train.devices={ranks}", *SETTINGS, *settings]
        tasks = [subprocess.Popen(command, cwd=ROOT, stdout=open(self.log, "a"), stderr=subprocess.STDOUT, env=task_environment(task, ranks))
                 for task in range(ranks if step else 1)]
        self.process, self.hosts = tasks[0], tasks[1:]

    def finish(self):
        for process in (self.process, *self.hosts):
            assert process.wait(timeout=300) == 0, self.log.read_text()
        return self

    def ranks(self):
        """Process ids of its other ranks."""
        children = pathlib.Path(f"/proc/{self.process.pid}/task").glob("*/children")
        found = []
        for file in children:
            try:
                found += [int(pid) for pid in file.read_text().split()]
            except OSError:
                pass
        return found

    def step(self):
        """Of its checkpoint; 0 without one."""
        try:
            with open(self.folder / "checkpoint/checkpoint.safetensors", "rb") as file:
                return int(json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))["__metadata__"]["loupe.step"])
        except FileNotFoundError:
            return 0

    def until_step(self, step):
        while self.process.poll() is None and self.step() < step:
            time.sleep(0.002)
        assert self.process.poll() is None, self.log.read_text()

    def until_phase(self, phase):
        while self.process.poll() is None and phase not in self.log.read_text().splitlines():
            time.sleep(0.002)
        assert self.process.poll() is None, self.log.read_text()

    def losses(self, metric="loss"):
        with open(self.folder / "metrics.csv", newline="") as file:
            return {int(row["step"]): float(row["value"]) for row in csv.DictReader(file) if row["metric"] == metric}

    def values(self):
        data = (self.folder / "adapter.safetensors").read_bytes()
        size = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8:8 + size])
        arrays = {}
        for name, entry in header.items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                arrays[name] = numpy.frombuffer(data[8 + size + begin:8 + size + end], numpy.float32)
        return arrays

    def scores(self):
        lines = (line.split() for line in self.log.read_text().splitlines())
        return {line[0]: float(line[1]) for line in lines if len(line) == 2 and line[0].startswith("clip_")}


def compare(ranked, alone, what):
    ours, theirs = ranked.losses(), alone.losses()
    assert set(ours) == set(theirs), (what, ours, theirs)
    loss = max(abs(ours[step] / theirs[step] - 1) for step in theirs)
    ours, theirs = ranked.values(), alone.values()
    assert set(ours) == set(theirs), what
    largest = max(numpy.abs(value).max() for value in theirs.values())
    value = max(numpy.abs(ours[name] - theirs[name]).max() for name in theirs) / largest
    ours, theirs = ranked.scores(), alone.scores()
    assert set(ours) == set(theirs) and "clip_i" in ours, (what, ours)
    score = max(abs(ours[name] - theirs[name]) for name in ("clip_i", "clip_t"))
    print(f"{what}: losses differ by {loss:.1e} of themselves, values by {value:.1e} of the largest, scores by {score:.1e}")
    # Rows are added up in another order, in float32. Scores are printed with six digits.
    assert loss <= 1e-6 and value <= 1e-5 and score <= 1e-4, what


def shares(root, alone):
    """What ranks make of the untuned base, in a cache of their own; and what they make of the same trained values."""
    kept = {}
    for ranks in (1, 3):
        trial = Trial(root, f"pictures-{ranks}", ranks, [*ADAPTER, *PICTURES], data=f"cache-{ranks}").finish()
        kept[ranks] = {path.name: path.read_bytes() for kind in ("class-pictures", "base-pictures", "base-embeddings")
                       for path in (root / f"cache-{ranks}/cache" / kind).glob("*.safetensors")}
        assert len(kept[ranks]) == 3 and kept[ranks] == kept[1], f"{ranks} ranks make other pictures of the untuned base"
        if ranks > 1:
            compare(trial, first, f"{ranks} ranks")
            ours, theirs = trial.losses("validation_loss"), first.losses("validation_loss")
            assert set(ours) == {1, 2} and max(abs(ours[at] / theirs[at] - 1) for at in theirs) <= 1e-6, (ours, theirs)
        first = trial if ranks == 1 else first
    values = ["method.kind=file", f"method.path={alone.folder / 'adapter.safetensors'}"]
    results = {}
    for ranks in (1, 3):
        trial = Trial(root, f"file-{ranks}", ranks, [*PICTURES, *values], data="cache-1").finish()
        results[ranks] = (trial.scores(), *((trial.folder / name).read_bytes() for name in ("samples.png", "embeddings.npy")))
    assert results[1] == results[3], "the same values have other pictures or scores on three ranks"
    print("base's pictures, features, pictures and scores of the same values: the same bytes on 1 and 3 ranks")


def killed_while_sampling(root):
    trial = Trial(root, "killed-late", 2, [*ADAPTER, *PICTURES, "sample.steps=9"], data="cache-killed")
    # The untuned base's pictures.
    trial.until_phase("base")
    others = trial.ranks()
    os.kill(others[0], signal.SIGKILL)
    assert trial.process.wait(timeout=60) == 1 and "was ended by signal 9" in trial.log.read_text(), trial.log.read_text()
    assert gone(others) and not list((root / "cache-killed/cache/base-pictures").glob("*.safetensors"))


def job_step(root, two):
    trial = Trial(root, "step", 2, ADAPTER, step=True)
    while not trial.step_file.exists():
        assert trial.process.poll() is None, trial.log.read_text()
        time.sleep(0.002)
    assert trial.step_file.stat().st_mode & 0o077 == 0
    step = json.loads(trial.step_file.read_text())
    for pid in [trial.process.pid, *(host.pid for host in trial.hosts)]:
        assert step["secret"].encode() not in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    # Who does not know the secret is not listened to: not with a rank's words, and not with anything.
    for words in (b"\0\0\0\2{}", b"\xff\xff\xff\xff", struct.pack("!I", 46) + b'{"kind":0,"rank":1,"job":0,"nonce":"00000000"} ' * 2):
        # However it is cut off.
        with contextlib.suppress(ConnectionError), socket.create_connection((step["addresses"][0], step["port"])) as stranger:
            stranger.sendall(words)
            try:
                stranger.shutdown(socket.SHUT_WR)
            except OSError as error:
                # Of what is cut off already; no ConnectionError.
                if error.errno != errno.ENOTCONN:
                    raise
            while stranger.recv(4096):
                pass
    trial.finish()
    assert not trial.step_file.exists(), "the step's file outlives it"
    ours, theirs = trial.values(), two.values()
    assert all(numpy.array_equal(ours[name], theirs[name]) for name in theirs) and trial.scores() == two.scores()
    print("ranks as tasks of a job step: the values and scores of ranks as own processes")

    killed = Trial(root, "step-killed", 2, ADAPTER, step=True)
    killed.until_step(2)
    killed.hosts[0].kill()
    assert killed.process.wait(timeout=60) == 1 and "its task of the job step is gone" in killed.log.read_text(), killed.log.read_text()
    killed.hosts[0].wait()


def gone(pids):
    for _ in range(500):
        if not any(pathlib.Path(f"/proc/{pid}").exists() for pid in pids):
            return True
        time.sleep(0.01)
    return False


def main():
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        subprocess.run([BIN / "loupe-worker", "render-emoji", "--family", "cat-faces", "--side", "64", "--out", root / "cats"],
                       cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        alone = Trial(root, "alone", 1, ADAPTER).finish()
        # 6 rows and 3 batches of pictures: even shares of the ones, uneven ones of the others.
        two = Trial(root, "two", 2, ADAPTER).finish()
        compare(two, alone, "adapter, 2 ranks")
        job_step(root, two)
        compare(Trial(root, "full-two", 2, FULL).finish(), Trial(root, "full", 1, FULL).finish(), "full, 2 ranks")

        shares(root, alone)
        killed_while_sampling(root)

        killed = Trial(root, "killed", 3, ADAPTER)
        killed.until_step(2)
        others = killed.ranks()
        assert len(others) == 2, others
        os.kill(others[1], signal.SIGKILL)
        assert killed.process.wait(timeout=60) == 1, "the trial goes on without one of its ranks"
        assert "was ended by signal 9" in killed.log.read_text(), killed.log.read_text()
        assert gone(others), "a rank has outlived its trial"
        step = killed.step()
        # With fewer ranks; losses of the steps that are left are those of the undisturbed run.
        rest = Trial(root, "killed", 2, ADAPTER).finish()
        assert min(rest.losses()) == step + 1, (step, rest.losses())
        for at, value in rest.losses().items():
            assert abs(value / alone.losses()[at] - 1) <= 1e-6, at

        orphaned = Trial(root, "orphaned", 2, ADAPTER)
        orphaned.until_step(2)
        others = orphaned.ranks()
        orphaned.process.kill()
        orphaned.process.wait()
        assert others and gone(others), "a rank has outlived its worker"
        # What they left in the folder does not keep new ones from meeting there.
        step = orphaned.step()
        assert min(Trial(root, "orphaned", 2, ADAPTER).finish().losses()) == step + 1
    print("ok")


main()
