"""One trial on several devices, in real processes: on two CPU ranks it is the trial of one, losses and file; a rank that is killed
ends it with the reason, and leaves no process behind; it goes on from the checkpoint with another number of ranks; and when the
worker itself is killed, its ranks end with it.

    ranks_test.py        with LOUPE_BIN set to the folder of the programs
"""

import csv
import json
import os
import pathlib
import signal
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
FULL = ["method.kind=full", "train.learning_rate=0.00001", "train.checkpoint_every=0"]


class Trial:
    def __init__(self, root, name, ranks, settings):
        self.folder = root / name
        self.log = root / f"{name}.log"
        command = [BIN / "loupe-worker", "trial", "--threads", "1", "--seed", "5", "--out", self.folder, "--data", root / "cache",
                   "--device", ",".join(["cpu"] * ranks), "--settings", f"task.images={root / 'cats'}",
                   f"train.devices={ranks}", *SETTINGS, *settings]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=open(self.log, "w"), stderr=subprocess.STDOUT)

    def finish(self):
        assert self.process.wait(timeout=300) == 0, self.log.read_text()
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

    def losses(self):
        with open(self.folder / "metrics.csv", newline="") as file:
            return {int(row["step"]): float(row["value"]) for row in csv.DictReader(file) if row["metric"] == "loss"}

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
        compare(Trial(root, "two", 2, ADAPTER).finish(), alone, "adapter, 2 ranks")
        compare(Trial(root, "full-two", 2, FULL).finish(), Trial(root, "full", 1, FULL).finish(), "full, 2 ranks")

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
