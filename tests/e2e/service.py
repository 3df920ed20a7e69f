"""Real processes for the end-to-end tests: a coordinator with workers in a folder of its own, driven by the `loupe` command."""

import json
import os
import pathlib
import signal
import subprocess
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "testing"))

from harness import wait_until  # noqa: E402 - from tests/testing

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ["LOUPE_BIN"])


class Service:
    """`loupe up` in `data`; stopped at the end of the `with` block."""

    def __init__(self, data, workers):
        self.data = pathlib.Path(data)
        self.workers = workers

    def __enter__(self):
        self.data.mkdir(parents=True, exist_ok=True)
        self.log = open(self.data / "up.log", "w")
        self.process = subprocess.Popen(
            [BIN / "loupe", "up", "--data", self.data, "--workers", str(self.workers), "--listen", "127.0.0.1:0"],
            cwd=ROOT, stdout=self.log, stderr=subprocess.STDOUT)
        wait_until(lambda: self.loupe("sweeps", check=False).returncode == 0, 60, "the coordinator answers")
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        finally:
            self.process.kill()
            self.log.close()

    def loupe(self, *arguments, check=True):
        done = subprocess.run([BIN / "loupe", *map(str, arguments), "--data", self.data], cwd=ROOT, capture_output=True,
                              text=True, timeout=600)
        if check and done.returncode != 0:
            raise AssertionError(f"loupe {arguments} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def json(self, *arguments):
        return json.loads(self.loupe(*arguments, "--format", "json").stdout)
