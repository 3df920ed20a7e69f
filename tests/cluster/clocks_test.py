"""Workers whose clocks are an hour before and an hour behind the coordinator's, behind mutual TLS and enrolled: every trial is done once
and right, no lease is lost for it, and times are the coordinator's.

    clocks_test.py        with LOUPE_BIN set to the folder of the programs
"""

import os
import pathlib
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time

BIN = pathlib.Path(os.environ["LOUPE_BIN"])
ROOT = pathlib.Path(__file__).resolve().parents[2]
SKIPPED = 77

SWEEP = """
name: clocks
base: {root}/configs/bases/emoji-sd
scorer: {root}/configs/scorers/emoji-clip
task: {{kind: dreambooth, images: {folder}, instance_prompt: "a photo of sks", class_prompt: "a photo of cat face"}}
method: {{kind: adapter, input: CA_out, output: FFN_in}}
factors:
  width: [2, 4, 8]
  scale: [1, 2]
replicates: 2
budget: {{steps: 4}}
seed: 7
"""
TRIALS = 12


def with_clock(shift):
    """Of a program that sees civil time so; the monotonic clock and the files' times are the machine's. (The library's own stat waits
    for a lock in memory that is gone at the program's end: gRPC's thread that looks after certificates would end it by a signal there.)"""
    return {**os.environ, "LD_PRELOAD": str(LIBRARY), "FAKETIME": shift, "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}


def find_library():
    found = sorted(pathlib.Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    return found[0] if found else None


LIBRARY = find_library()


def run(*command, env=None):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=env, timeout=60)
    assert done.returncode == 0, f"{command} ended with {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


def wait_for(path, log):
    end = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.05)


def check(folder):
    data, log = folder / "data", folder / "coordinator.log"
    coordinator = subprocess.Popen([BIN / "loupe-coordinator", "--data", data, "--listen", "0.0.0.0:0", "--http-listen", "off",
                                    "--tls-name", "localhost", "--lease-seconds", "3"], stdout=open(log, "wb"), stderr=subprocess.STDOUT)
    workers = []
    try:
        wait_for(data / "address", log)
        port = (data / "address").read_text().strip().rpartition(":")[2]
        files = {}
        for name, *more in (("farm", "enrol", "--uses", 2), ("anna", "submitter")):
            files[name] = folder / f"{name}.pem"
            run(BIN / "loupe-coordinator", "--data", data, "token", "add", "--name", name, "--days", 1, "-o", files[name], "--role", *more)
        (folder / "images").mkdir()
        (folder / "clocks.yaml").write_text(SWEEP.format(root=ROOT, folder=folder / "images"))
        at = ["--address", f"localhost:{port}"]
        run(BIN / "loupe", "submit", folder / "clocks.yaml", "--credentials", files["anna"], *at, env=with_clock("-1h"))
        began = time.time()
        for name, shift in (("early", "-1h"), ("late", "+1h")):
            # Longer than a lease: it is renewed.
            workers.append(subprocess.Popen([BIN / "loupe-fake-worker", "--credentials", files["farm"], *at, "--id", name, "--data",
                                             folder / name, "--seconds", "4" if not workers else "0.2"], env=with_clock(shift)))
        run(BIN / "loupe", "watch", "clocks", "--credentials", files["anna"], *at, env=with_clock("+1h"))
        for worker in workers:
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(20) == 0
        with sqlite3.connect(f"file:{data}/coordinator.db?mode=ro", uri=True) as database:
            rows = database.execute("SELECT outcome, start_time_us / 1e6, end_time_us / 1e6, worker FROM attempts").fetchall()
        assert len(rows) == TRIALS and {row[0] for row in rows} == {1}, rows
        assert all(began - 60 < begin <= end < time.time() + 60 for _, begin, end, _ in rows), rows
        assert len({row[3] for row in rows}) == 2, "one worker did nothing"
    finally:
        for process in [*workers, coordinator]:
            process.kill()
            process.wait()


def main():
    if LIBRARY is None:
        print("libfaketime is not installed here: see tests/cluster/debian-packages.txt")
        return 1 if os.environ.get("LOUPE_ALL") else SKIPPED
    assert abs(int(run("date", "+%s", env=with_clock("-1h"))) + 3600 - time.time()) < 60, "the clock is not another"
    with tempfile.TemporaryDirectory(prefix="loupe-clocks-") as name:
        check(pathlib.Path(name))
    print("1 passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
