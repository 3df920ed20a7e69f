"""Real programs for the tests of the Python client and of the docs: a coordinator and the `loupe` command, with workers that are
the real agent around trials that are acted (tests/testing/fake_worker_main.cc), so that a sweep takes a second."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "testing"))

from harness import wait_until  # noqa: E402 - from tests/testing

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("LOUPE_BIN", ROOT / "build/release/bin")).resolve()

# `loupe` starts the programs beside itself. Everything but `run` is the real worker's.
_STAND_IN = """#!/bin/bash
[ "$1" = run ] || exec {real} "$@"
for one in "$@"; do [ "$one" != --help ] || exec {real} "$@"; done
shift
while [ $# -gt 0 ]; do
  case $1 in --credentials) c=$2 ;; --data) d=$2 ;; --id) n=$2 ;; esac
  shift 2
done
exec {fake} --credentials "$c" --data "$d/$n" --name "$n" --seconds {seconds} --methods {methods}
"""


def lay_out(folder, seconds=0.02):
    """The programs in a folder of their own, for PATH."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True)
    shutil.copy2(BIN / "loupe", folder / "loupe")
    (folder / "loupe-coordinator").symlink_to(BIN / "loupe-coordinator")
    keys = subprocess.run([BIN / "loupe", "keys"], capture_output=True, text=True, check=True).stdout
    methods = re.search(r"`method.kind` \| one of ([^|]+) \|", keys)[1].replace(", ", ",")
    worker = folder / "loupe-worker"
    worker.write_text(_STAND_IN.format(real=BIN / "loupe-worker", fake=BIN / "loupe-fake-worker", seconds=seconds, methods=methods))
    worker.chmod(0o755)
    return folder


class Service:
    """`loupe up` with its data in `folder`/data, from start() to stop()."""

    def __init__(self, folder, workers=2, seconds=0.02, real=False):
        self.folder = pathlib.Path(folder)
        self.data = self.folder / "data"
        self.folder.mkdir(parents=True)
        self.programs = BIN if real else lay_out(self.folder / "bin", seconds)
        self.workers = workers

    def start(self):
        self.log = open(self.folder / "up.log", "w")
        self.process = subprocess.Popen(
            [self.programs / "loupe", "up", "--data", self.data, "--workers", str(self.workers), "--threads", "1", "--listen",
             "127.0.0.1:0"],
            cwd=self.folder, stdout=self.log, stderr=subprocess.STDOUT)
        wait_until(lambda: self.loupe("sweeps").returncode == 0, 60, f"the coordinator answers\n{(self.folder / 'up.log').read_text()}")
        return self

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        finally:
            self.process.kill()
            self.process.wait()
            self.log.close()

    def loupe(self, *arguments):
        return subprocess.run([self.programs / "loupe", *map(str, arguments), "--data", self.data], cwd=self.folder, capture_output=True,
                              text=True, timeout=60)
