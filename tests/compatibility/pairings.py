#!/usr/bin/env python3
"""Older and newer programs together: an older worker with a newer coordinator, and the other way round.

    tests/compatibility/pairings.py --older COMMIT             builds that commit beside this one (a git worktree, preset
                                                               release) and runs both pairings
    tests/compatibility/pairings.py --older-programs DIR       the same with programs that are there already
    tests/compatibility/pairings.py ... --record FILE          also writes down what the older worker and the older
                                                               coordinator say to each other (for replay_test.cc)

Real processes over real sockets; the workers train nothing (loupe-fake-worker), so that each sweep takes a second or
two. Prints what was checked; exit code 0 when all of it held.
"""

import argparse
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "testing"))

from harness import wait_until  # noqa: E402 - from tests/testing

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = ["loupe", "loupe-coordinator", "loupe-fake-worker"]

SETTINGS = """
title: Programs of two versions
base: /base
scorer: /scorer
task: {kind: dreambooth, images: /images, instance_prompt: a photo of sks, class_prompt: a photo of cat face}
budget: {steps: 5}
seed: 7
"""
# Both versions know it.
ADAPTERS = "name: adapters" + SETTINGS + """
method: {kind: adapter, width: 8, output: Trans_out}
factors: {input: [SA_in, CA_in, CA_out], scale: [1, 2]}
replicates: 1
"""
# Of the newer one alone.
LORAS = "name: loras" + SETTINGS + """
method: {kind: lora}
factors: {rank: [2, 4]}
replicates: 1
"""
MIXED = "name: mixed" + SETTINGS + """
methods:
  - {kind: adapter, width: 8, input: SA_in, output: Trans_out, scale: [1, 2]}
  - {kind: lora, rank: [2, 4]}
replicates: 1
"""


def build(commit, folder):
    """The programs of `commit`, built in a worktree of their own."""
    tree = folder / "tree"
    subprocess.run(["git", "worktree", "add", "--detach", tree, commit], cwd=ROOT, check=True)
    try:
        # What the set-up script made serves both.
        for name in [".venv", ".setup"]:
            if (ROOT / name).exists() and not (tree / name).exists():
                (tree / name).symlink_to(ROOT / name)
        subprocess.run(["cmake", "--preset", "release"], cwd=tree, check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["cmake", "--build", "build/release", "--target", *PROGRAMS], cwd=tree, check=True)
        programs = folder / "programs"
        programs.mkdir()
        for name in PROGRAMS:
            (tree / "build/release/bin" / name).rename(programs / name)
        return programs
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=False)


class Programs:
    def __init__(self, folder, name):
        self.folder, self.name = pathlib.Path(folder), name
        for program in PROGRAMS:
            if not (self.folder / program).exists():
                sys.exit(f"there is no {program} in {folder}")


class Coordinator:
    """A coordinator of `programs` in a folder of its own, with the commands of its version."""

    def __init__(self, programs, folder):
        self.programs, self.folder, self.started = programs, folder, []

    def __enter__(self):
        self.log = open(self.folder / "coordinator.log", "w")
        self.data = self.folder / "data"
        self.run(self.programs.folder / "loupe-coordinator", "--data", self.data, "--listen", "127.0.0.1:0")
        wait_until(lambda: (self.data / "address").exists(), 30, "the coordinator is up")
        self.address = (self.data / "address").read_text().strip()
        return self

    def __exit__(self, *_):
        for process in reversed(self.started):
            process.send_signal(signal.SIGTERM)
        for process in self.started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
        self.log.close()

    def run(self, *command):
        self.started.append(subprocess.Popen([str(part) for part in command], stdout=self.log, stderr=self.log))
        return self.started[-1]

    def worker(self, programs, name, *arguments, address=None):
        return self.run(programs.folder / "loupe-fake-worker", "--address", address or self.address, "--token-file",
                        self.data / "token", "--data", self.folder / name, "--name", name, *arguments)

    def loupe(self, *arguments, check=True):
        done = subprocess.run([str(self.programs.folder / "loupe"), *map(str, arguments), "--address", self.address,
                               "--token-file", str(self.data / "token")], capture_output=True, text=True, timeout=60)
        if check and done.returncode != 0:
            raise AssertionError(f"loupe {arguments} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def json(self, *arguments):
        return json.loads(self.loupe(*arguments, "--format", "json").stdout)

    def submit(self, text):
        file = self.folder / "sweep.yaml"
        file.write_text(text)
        return self.loupe("submit", file, check=False)

    def counts(self, sweep):
        return self.json("status", sweep)["counts"]

    def trials(self, sweep):
        return self.json("trials", sweep)["trials"]


def check(holds, what):
    print(f"  {'ok  ' if holds else 'NOT '} {what}", flush=True)
    if not holds:
        raise AssertionError(what)


def succeed_at_once(coordinator, sweep, trials):
    wait_until(lambda: coordinator.counts(sweep)["succeeded"] == trials, 30, f"all trials of {sweep} succeed")
    attempts = [trial["attempts"] for trial in coordinator.trials(sweep)]
    check(attempts == [1] * trials, f"{sweep}: {trials} of {trials} trials succeeded, each at its first attempt")


def older_worker_newer_coordinator(older, newer, folder):
    print(f"worker {older.name}, coordinator {newer.name}", flush=True)
    with Coordinator(newer, folder) as coordinator:
        coordinator.worker(older, "older")
        check(coordinator.submit(ADAPTERS).returncode == 0, "a sweep of adapters is taken")
        succeed_at_once(coordinator, "adapters", 6)
        file = folder / "mixed.yaml"
        file.write_text(MIXED)
        plan = coordinator.loupe("plan", file)
        check("no connected worker runs it" in plan.stdout + plan.stderr, "plan says that loras would wait")
        check(coordinator.submit(MIXED).returncode == 0, "a sweep of adapters and loras is taken")
        wait_until(lambda: coordinator.counts("mixed")["succeeded"] == 2, 30, "the adapters of both methods are done")
        time.sleep(1)
        counts = coordinator.counts("mixed")
        check(counts["queued"] == 2 and counts["failed"] == 0, "loras wait, none has failed")
        waiting = [trial for trial in coordinator.trials("mixed") if trial["state"] == "QUEUED"]
        check([trial["attempts"] for trial in waiting] == [0, 0], "and have cost no attempt")
        sentence = "2 trials wait: method lora, and no connected worker runs it"
        for command in [["status", "mixed"], ["workers"]]:
            check(sentence in coordinator.loupe(*command).stdout, f"'loupe {command[0]}' says so: {sentence}")
        coordinator.worker(newer, "newer", "--methods", "adapter,lora")
        succeed_at_once(coordinator, "mixed", 4)
        ran = {trial["cell"]["method"]: trial["worker"] for trial in coordinator.trials("mixed")}
        check(ran["lora"] == "workers/newer", "the newer worker ran the loras")


def newer_worker_older_coordinator(older, newer, folder):
    print(f"worker {newer.name}, coordinator {older.name}", flush=True)
    with Coordinator(older, folder) as coordinator:
        coordinator.worker(newer, "newer", "--methods", "adapter,lora")
        check(coordinator.submit(ADAPTERS).returncode == 0, "a sweep of adapters is taken")
        succeed_at_once(coordinator, "adapters", 6)
        refused = coordinator.submit(LORAS)
        check(refused.returncode != 0 and "lora" in refused.stderr,
              f"a sweep of loras is refused: {refused.stderr.strip().splitlines()[0]}")
        # By the newer command line too, whose own check passes.
        newer_loupe = subprocess.run([str(newer.folder / "loupe"), "submit", str(folder / "sweep.yaml"), "--address",
                                      coordinator.address, "--token-file", str(coordinator.data / "token")],
                                     capture_output=True, text=True, timeout=60)
        check(newer_loupe.returncode != 0 and "lora" in newer_loupe.stderr,
              f"so it is by the newer command line: {newer_loupe.stderr.strip().splitlines()[-1]}")


def record(programs, recorder, folder, file):
    print(f"recording {programs.name} with itself", flush=True)
    with Coordinator(programs, folder) as coordinator:
        proxy = coordinator.run(recorder, "--to", coordinator.address, "--out", file, "--address-file",
                                folder / "proxy")
        wait_until(lambda: (folder / "proxy").exists(), 30, "the recorder is up")
        coordinator.worker(programs, "older", "--points", 2, address=(folder / "proxy").read_text().strip())
        coordinator.submit(ADAPTERS)
        succeed_at_once(coordinator, "adapters", 6)
        proxy.send_signal(signal.SIGTERM)
        proxy.wait(10)
    print(f"  {sum(1 for _ in open(file))} messages in {file}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--older", metavar="COMMIT")
    which.add_argument("--older-programs", metavar="DIR")
    parser.add_argument("--programs", metavar="DIR", default=ROOT / "build/release/bin", help="the newer ones")
    parser.add_argument("--record", metavar="FILE")
    options = parser.parse_args()
    for variable in [name for name in os.environ if name.startswith("LOUPE_")]:
        del os.environ[variable]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        older = Programs(options.older_programs or build(options.older, folder), options.older or "older")
        newer = Programs(options.programs, "newer")
        for number, pairing in enumerate([older_worker_newer_coordinator, newer_worker_older_coordinator]):
            (folder / str(number)).mkdir()
            pairing(older, newer, folder / str(number))
        if options.record:
            (folder / "record").mkdir()
            record(older, newer.folder / "loupe-record-messages", folder / "record", options.record)
    print("both pairings hold")


if __name__ == "__main__":
    main()
