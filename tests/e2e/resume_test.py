"""One trial as a process of its own, killed with SIGKILL and started again: whatever the moment, the finished adapter file is
byte for byte the file of an undisturbed run; and so is that of a second run with a warm cache, and of two that fill one cache.

    resume_test.py        with LOUPE_BIN set to the folder of the programs
"""

import json
import os
import pathlib
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time

from service import BIN, ROOT

STEPS, EVERY = 12, 3
SETTINGS = [
    "base=configs/bases/emoji-sd", "scorer=configs/scorers/emoji-clip", "task.instance_prompt=a photo of sks",
    "task.class_prompt=a photo of cat face", "task.class_images=2", "input=CA_out", "output=FFN_in", "width=8",
    f"budget.steps={STEPS}", "budget.batch=1", "budget.samples=2", "sample.steps=2", f"train.checkpoint_every={EVERY}",
    # Everything that has a state of its own.
    "train.accumulation=2", "train.ema_decay=0.9", "train.schedule=cosine", "train.warmup_steps=3", "train.noise_offset=0.1",
    "train.clip_norm=1", "train.learning_rate=0.01"]


class Trial:
    def __init__(self, folder, images, cache):
        self.folder = folder
        self.command = [BIN / "loupe-worker", "trial", "--threads", "1", "--seed", "5", "--out", folder, "--data", cache,
                        "--settings", f"task.images={images}", *SETTINGS]
        self.process = None

    def start(self):
        self.process = subprocess.Popen(self.command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return self

    def finish(self):
        output, _ = self.process.communicate(timeout=300)
        assert self.process.returncode == 0, output
        return (self.folder / "adapter.safetensors").read_bytes()

    def step(self):
        """Of its checkpoint; 0 without one."""
        try:
            with open(self.folder / "checkpoint/checkpoint.safetensors", "rb") as file:
                header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
            return int(header["__metadata__"]["loupe.step"])
        except FileNotFoundError:
            return 0

    def kill_after(self, step, delay):
        """SIGKILL `delay` seconds after the checkpoint of `step` is there. False when the trial was quicker."""
        while self.process.poll() is None and self.step() < step:
            time.sleep(0.002)
        time.sleep(delay)
        if self.process.poll() is not None:
            return False
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()
        return True


def main():
    seed = int(os.environ.get("LOUPE_KILL_SEED", random.SystemRandom().randrange(10**6)))
    rounds = int(os.environ.get("LOUPE_KILL_ROUNDS", "2"))
    print(f"LOUPE_KILL_SEED={seed}")
    moments = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        images, cache = folder / "images", folder / "cache"
        subprocess.run([BIN / "loupe-worker", "render-emoji", "--family", "cat-faces", "--out", images], check=True, cwd=ROOT,
                       stdout=subprocess.DEVNULL)
        started = time.monotonic()
        undisturbed = Trial(folder / "cold", images, cache).start().finish()
        seconds = time.monotonic() - started
        assert Trial(folder / "warm", images, cache).start().finish() == undisturbed, "the same again, with a warm cache"
        beside = [Trial(folder / name, images, folder / "cache2").start() for name in ("one", "other")]
        for trial in beside:
            assert trial.finish() == undisturbed, "two workers at once that share a cold cache"

        for number in range(rounds):
            # A cache of its own: the first kill of the last round may come while that is filled.
            trial = Trial(folder / f"killed-{number}", images, folder / f"killed-cache-{number}")
            first, second = sorted(moments.sample(range(0, STEPS + 1, EVERY), 2))
            for step in (first, second):
                delay = moments.uniform(0, seconds / 6)
                was_killed = trial.start().kill_after(step, delay)
                print(f"round {number}: {'killed' if was_killed else 'had finished'} {delay:.3f} s after step {step}; "
                      f"its checkpoint is of step {trial.step()}", flush=True)
            assert trial.start().finish() == undisturbed, f"killed after steps {first} and {second}"
            left = [path.name for path in trial.folder.rglob("*") if path.name.endswith(".tmp")]
            assert len(left) <= 2, f"at most the file that a killed process was writing: {left}"
    print(f"{2 + rounds} passed, 0 failed")


if __name__ == "__main__":
    sys.exit(main())
