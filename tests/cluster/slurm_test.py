"""A fleet on a real Slurm, on loopback: eight workers go through preemption, cancellation, a requeue, a restart of Slurm's
controller and of the coordinator, a node that goes down, and their time limit. Every trial ends once, none is charged, and
the analysis is that of an undisturbed run, byte for byte. Workers are the real agent; their trials are acted. At the end a worker
that is one job step of two tasks trains: the result of two processes on one machine, and a task that is killed. Then the same over
two nodes, which are network namespaces with addresses of their own; the coordinator is reached by mutual TLS there.

    slurm_test.py        with LOUPE_BIN set to the folder of the programs
"""

import contextlib
import json
import os
import pathlib
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time

from slurm import CONTROLLER, Cluster, free_port, own_network, wait_until, why_not

BIN = pathlib.Path(os.environ["LOUPE_BIN"])
ROOT = pathlib.Path(__file__).resolve().parents[2]
SKIPPED = 77
# Of a trial. A third of those that are told to end are near enough to it to finish within the grace.
SECONDS = 12

SWEEP = """
name: {name}
base: {root}/configs/bases/emoji-sd
scorer: {root}/configs/scorers/emoji-clip
task: {{kind: dreambooth, images: {folder}, instance_prompt: "a photo of sks", class_prompt: "a photo of cat face"}}
method: {{kind: adapter, input: CA_out, output: FFN_in}}
factors:
  width: [2, 4, 8, 16]
  scale: [1, 2, 3, 4]
  activation: [relu, silu]
replicates: {replicates}
budget: {{steps: 4}}
seed: 7
"""


class Coordinator:
    def __init__(self, folder, host="127.0.0.1"):
        self.data = folder / "coordinator"
        self.log = folder / "coordinator.log"
        self.address = f"{host}:{free_port()}"
        self.process = None

    def start(self):
        (self.data / "address").unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [BIN / "loupe-coordinator", "--data", self.data, "--listen", self.address, "--http-listen", "off",
             "--lease-seconds", "30"], stdout=open(self.log, "ab"), stderr=subprocess.STDOUT)
        wait_until(lambda: (self.data / "address").exists(), 30, "the coordinator listens", self.log.read_text)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def token(self, name, role):
        path = self.data.parent / f"{name}.pem"
        subprocess.run([BIN / "loupe-coordinator", "--data", self.data, "token", "add", "--name", name, "--role", role,
                        "-o", path], check=True, capture_output=True)
        return path

    def query(self, sql):
        connection = sqlite3.connect(f"file:{self.data}/coordinator.db?mode=ro", uri=True)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()


class Fleet:
    def __init__(self, cluster, coordinator, folder):
        self.cluster = cluster
        self.folder = folder
        self.anna = coordinator.token("anna", "admin")
        self.credentials = coordinator.token("farm", "worker")
        # What a user who keeps a token in the environment has there: no job may see it.
        self.environment = {"LOUPE_TOKEN": "a-token-that-nobody-may-see", "LOUPE_CREDENTIALS": str(self.anna)}
        self.worker = folder / "loupe-worker"
        self.worker.write_text(f'#!/bin/sh\nenv > "{folder}/environment.$SLURM_JOB_ID"\n'
                               f'exec "{BIN}/loupe-fake-worker" "$@" --seconds {SECONDS} --log-level info\n')
        self.worker.chmod(0o755)

    def __call__(self, verb, *arguments, check=True):
        # The token in the environment is no coordinator's: the credentials file goes before it.
        environment = {**self.cluster.environment, **self.environment}
        environment.pop("LOUPE_TOKEN") if verb not in ("up", "scale") else None
        done = subprocess.run(
            [BIN / "loupe", "fleet", "slurm", verb, "--state", self.folder / "state", *map(str, arguments)],
            env=environment, capture_output=True, text=True, timeout=60)
        if check and done.returncode != 0:
            raise AssertionError(f"fleet {verb} ended with {done.returncode}:\n{done.stdout}{done.stderr}{self.cluster.logs()}")
        return done

    def up(self, *arguments):
        return self("up", "--worker-credentials", self.credentials, "--worker-program", self.worker, "--worker-data",
                    self.folder / "data", "--logs", self.folder / "logs", "--partition", "low", "--cpus-per-worker", 1, "--grace", 8,
                    *arguments)

    def status(self):
        return json.loads(self("status", "--format", "json").stdout)

    def tasks(self, state="RUNNING"):
        return [task for task in self.status()["tasks"] if task["state"] == state]

    def connected(self):
        return [task for task in self.tasks() if task["worker"]]

    def busy(self):
        return [task for task in self.connected() if task["worker"]["running"]]

    def await_busy(self, count, seconds, what):
        wait_until(lambda: len(self.busy()) >= count, seconds, f"{what}: {count} workers run trials",
                   lambda: self("status", check=False).stdout + self.cluster.logs())


def loupe(coordinator_file, *arguments):
    done = subprocess.run([BIN / "loupe", *map(str, arguments), "--credentials", coordinator_file], capture_output=True, text=True,
                          timeout=600)
    assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
    return done.stdout


def attempts(coordinator):
    """How many ended how: 1 succeeded, 2 failed, 3 lost, 4 handed back."""
    return dict(coordinator.query("SELECT outcome, count(*) FROM attempts GROUP BY outcome"))


def submit(fleet, folder, name, replicates):
    file = folder / f"{name}.yaml"
    file.write_text(SWEEP.format(name=name, root=ROOT, folder=folder / "images", replicates=replicates))
    loupe(fleet.anna, "submit", file)


def finish_here(fleet, sweep, *command):
    """A worker of this machine, without Slurm, until the sweep is complete."""
    worker = subprocess.Popen([*command, "--credentials", fleet.credentials])
    try:
        loupe(fleet.anna, "watch", sweep)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0
    finally:
        worker.kill()
        worker.wait()


def disturb(cluster, coordinator, fleet):
    """One misfortune after the other, each while all that are left are at work."""
    say = lambda text: print(f"{time.monotonic() - started:6.1f} s  {text}; attempts {attempts(coordinator)}", flush=True)
    started = time.monotonic()
    fleet.await_busy(8, 60, "start")
    say("eight workers at work")

    victim = fleet.busy()[0]
    lost = attempts(coordinator).get(3, 0)
    cluster.run("scancel", victim["task"])
    wait_until(lambda: victim["task"] not in [task["task"] for task in fleet.status()["tasks"]], 40, "the cancelled task is gone")
    assert attempts(coordinator).get(3, 0) == lost, "finished or handed back, not lost"
    say("one task cancelled")

    fleet("scale", 8)
    fleet.await_busy(8, 60, "after scale 8")
    say("scaled to eight again")
    fleet("scale", 6)
    wait_until(lambda: len(fleet.status()["tasks"]) == 6, 40, "six tasks are left")
    fleet("scale", 8)
    say("scaled to six and back")

    fleet.await_busy(8, 60, "before the preemption")
    cluster.run("sbatch", "--partition=high", "--cpus-per-task=3", "--output=/dev/null", "--wrap=sleep 2")
    wait_until(lambda: len(fleet.tasks()) <= 5, 60, "three are preempted", cluster.logs)
    say("three workers preempted")
    fleet.await_busy(8, 150, "after the preemption")
    assert attempts(coordinator).get(3, 0) == lost, "preempted workers handed back or finished"
    assert attempts(coordinator).get(4, 0) > 0, "some were handed back"
    say("and back")

    requeued = fleet.busy()[-1]
    cluster.run("scontrol", "requeue", requeued["task"])
    cluster.stop("slurmctld", signal.SIGKILL)
    say("one task requeued, and Slurm's controller killed")
    coordinator.kill()
    time.sleep(2)
    coordinator.start()
    cluster.start_controller()
    wait_until(lambda: cluster.run("squeue", "-h", check=False).returncode == 0, 60, "the controller answers")
    fleet.await_busy(7, 150, "after the restarts")
    say("the coordinator and Slurm's controller are back")

    # A machine that is gone without a word: slurmd, its steps and the workers at once. Their trials wait for a lease's end.
    cluster.lose_node()
    cluster.run("scontrol", "update", f"nodename={cluster.host}", "state=down", "reason=test")
    wait_until(lambda: not fleet.tasks(), 60, "nothing runs on a node that is down")
    wait_until(lambda: attempts(coordinator).get(3, 0) >= lost + 6, 90, "the leases of the dead machine's workers end",
               lambda: str(attempts(coordinator)))
    say("the node is down")
    cluster.start_node()
    # A controller that restarted while a requeued task was still ending may have drained the node ("Duplicate jobid").
    cluster.run("scontrol", "update", f"nodename={cluster.host}", "state=resume", check=False)
    fleet.await_busy(6, 200, "after the node is up again")
    say("and up again")


def check_secrets(fleet, folder):
    token = [line.split()[1] for line in fleet.credentials.read_text().splitlines() if line.startswith("Token:")][0]
    for path in folder.glob("environment.*"):
        text = path.read_text()
        assert token not in text and "a-token-that-nobody-may-see" not in text, "a token in a job's environment"
    script = (folder / "state/loupe.sbatch").read_text()
    assert token not in script and "nobody-may-see" not in script
    for process in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert token.encode() not in process.read_bytes(), "a token on a command line"
        except OSError:
            pass
    for path in (folder / "state").iterdir():
        assert path.is_dir() or path.stat().st_mode & 0o077 == 0, f"{path} is not private"


def check_results(coordinator, fleet, folder, replicates):
    trials = 32 * replicates
    assert coordinator.query("SELECT count(*), count(DISTINCT trial_index) FROM results JOIN sweeps USING (sweep_key)"
                             " WHERE sweep_id = 'disturbed'") == [(trials, trials)], "each trial has one result"
    charged = coordinator.query("SELECT count(*) FROM trials WHERE failed_attempts > 0")
    assert charged == [(0,)], f"{charged} trials were charged a failure"
    assert attempts(coordinator).get(2, 0) == 0
    # The same once more, with nothing in its way.
    submit(fleet, folder, "clean", replicates)
    finish_here(fleet, "clean", BIN / "loupe-fake-worker", "--id", "clean", "--data", folder / "clean-data", "--seconds", "0")
    tables = []
    for name in ("disturbed", "clean"):
        report = json.loads(loupe(fleet.anna, "report", name, "--format", "json"))
        tables.append(json.dumps([report["terms"], report["residual"]]))
    assert tables[0] == tables[1], "the analysis is not that of an undisturbed run"
    scores = [coordinator.query("SELECT trial_index, name, value FROM scores JOIN sweeps USING (sweep_key)"
                                f" WHERE sweep_id = '{name}' ORDER BY 1, 2") for name in ("disturbed", "clean")]
    assert scores[0] == scores[1]


def check_time_limit(cluster, coordinator, fleet, folder):
    """Two workers with a limit of two minutes and trials that take longer than that: they hand back by themselves."""
    fleet.worker.write_text(f'#!/bin/sh\nexec "{BIN}/loupe-fake-worker" "$@" --seconds 1000 --log-level info\n')
    submit(fleet, folder, "long", 1)
    before = attempts(coordinator)
    fleet.up("--workers", 2, "--time", "2")
    fleet.await_busy(2, 60, "with a time limit")
    wait_until(lambda: not fleet.status()["tasks"], 150, "both have left before their limit", cluster.logs)
    after = attempts(coordinator)
    assert after.get(3, 0) == before.get(3, 0), "none was lost"
    assert after.get(4, 0) == before.get(4, 0) + 2, "both were handed back"
    logs = [path.read_text() for path in (folder / "logs").iterdir() if "TIME LIMIT" in path.read_text()]
    assert not logs, f"a worker was cut off by Slurm:\n{logs}"
    fleet("down")
    # What is left of it is for workers that train nothing: the next ones do.
    loupe(fleet.anna, "cancel", "long")


RANKED = """
name: {name}
base: {root}/configs/bases/emoji-sd
scorer: {root}/configs/scorers/emoji-clip
task: {{kind: dreambooth, images: {folder}/cats, instance_prompt: "a photo of sks", class_prompt: "a photo of cat face", class_images: 2}}
method: {{kind: adapter, input: CA_out, output: FFN_in}}
factors:
  width: [4]
train: {{devices: 2, checkpoint_every: 5, learning_rate: 0.001}}
sample: {{steps: 2}}
budget: {{steps: {steps}, batch: 3, samples: 4}}
seed: 7
"""


def tasks_of(folder, program="loupe-worker"):
    """Process ids of a job step's tasks, by their number."""
    found = {}
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            if words[0].endswith(program.encode()) and b"run" in words and str(folder / "ranked-data").encode() in words:
                variables = dict(line.split(b"=", 1) for line in (process / "environ").read_bytes().split(b"\0") if b"=" in line)
                found[int(variables[b"SLURM_PROCID"])] = int(process.name)
        except (OSError, KeyError):
            pass
    return found


def send_ranked(fleet, folder, name, steps):
    if not (folder / "cats").exists():
        subprocess.run([BIN / "loupe-worker", "render-emoji", "--family", "cat-faces", "--side", "64", "--out", folder / "cats"], cwd=ROOT,
                       check=True, stdout=subprocess.DEVNULL)
    file = folder / f"{name}.yaml"
    file.write_text(RANKED.format(name=name, root=ROOT, folder=folder, steps=steps))
    loupe(fleet.anna, "submit", file)


def up_ranked(fleet, folder, *more):
    fleet("up", "--worker-credentials", fleet.credentials, "--worker-program", BIN / "loupe-worker", "--worker-data",
          folder / "ranked-data", "--logs", folder / "logs", "--workers", 1, "--ranks-per-worker", 2, "--grace", 8, *more)


def scores_of(coordinator, sweep):
    found = coordinator.query("SELECT name, value FROM scores JOIN sweeps USING (sweep_key)"
                              f" WHERE sweep_id = '{sweep}' ORDER BY 1")
    assert found, f"'{sweep}' has no scores"
    return found


def scores_of_children(coordinator, fleet, folder):
    """The same trial by a worker with two child processes."""
    send_ranked(fleet, folder, "children", 6)
    finish_here(fleet, "children", BIN / "loupe-worker", "run", "--id", "children", "--data", folder / "children-data", "--device",
                "cpu,cpu", "--threads", "1")
    return scores_of(coordinator, "children")


def step_file_of(cluster, folder):
    """Where task 0 listens, once it says so; until then the file has a temporary name, and may be empty."""
    whole = lambda: next((path for path in (folder / "logs").glob("step-*") if path.suffix != ".tmp"), None)
    return wait_until(whole, 60, "task 0 says where it listens", cluster.logs)


def check_job_step(cluster, coordinator, fleet, folder):
    """A worker whose ranks are the tasks of one job step trains what one with child processes does; a task that is killed ends the
    step, and the trial goes on elsewhere. The scores."""
    send_ranked(fleet, folder, "step", 6)
    up_ranked(fleet, folder)
    tasks = wait_until(lambda: len(tasks_of(folder)) == 2 and tasks_of(folder), 60, "both tasks run", cluster.logs)
    step_file = step_file_of(cluster, folder)
    secret = json.loads(step_file.read_text())["secret"].encode()
    assert step_file.stat().st_mode & 0o077 == 0
    assert all(secret not in pathlib.Path(f"/proc/{pid}/{what}").read_bytes() for pid in tasks.values() for what in ("cmdline", "environ"))
    loupe(fleet.anna, "watch", "step")

    send_ranked(fleet, folder, "killed", 40)
    wait_until(lambda: list((folder / "ranked-data").glob("**/checkpoint.safetensors")), 120, "the second trial trains", cluster.logs)
    lost = attempts(coordinator).get(3, 0)
    os.kill(tasks[1], signal.SIGKILL)
    wait_until(lambda: not fleet.status()["tasks"], 60, "the step ends with its task", cluster.logs)
    wait_until(lambda: not tasks_of(folder), 20, "no task is left")
    wait_until(lambda: attempts(coordinator).get(3, 0) == lost + 1, 60, "the attempt is lost", lambda: str(attempts(coordinator)))
    fleet("scale", 1)
    loupe(fleet.anna, "watch", "killed")

    # TERM is for task 0; the other ends well with it.
    left = coordinator.query("SELECT count(*) FROM attempts WHERE outcome = 3")
    files = set((folder / "logs").glob("step-*"))
    fleet("down")
    wait_until(lambda: not tasks_of(folder), 30, "'down' ends both tasks", cluster.logs)
    assert coordinator.query("SELECT count(*) FROM attempts WHERE outcome = 3") == left
    after = set((folder / "logs").glob("step-*"))
    assert len(files - after) == 1, f"the file of a step that ended well has outlived it: {files}, {after}"

    scores = scores_of_children(coordinator, fleet, folder)
    assert scores_of(coordinator, "step") == scores, "a job step's tasks do not train what child processes do"
    charged = coordinator.query("SELECT count(*) FROM trials WHERE failed_attempts > 0")
    assert charged == [(0,)], f"{charged} trials were charged a failure"
    print("one job step of two tasks: the scores of child processes; a killed task ended it, and its trial went on", flush=True)
    return scores


@contextlib.contextmanager
def two_nodes(folder):
    """A cluster of two nodes, and a coordinator and a fleet that are reached by addresses of their own."""
    folder.mkdir()
    with Cluster(folder / "slurm", nodes=2) as cluster:
        coordinator = Coordinator(folder, host=CONTROLLER)
        coordinator.start()
        try:
            yield cluster, coordinator, Fleet(cluster, coordinator, folder)
        finally:
            coordinator.kill()


def check_step_over_nodes(folder, scores=None):
    """A worker's two tasks on two nodes, that reach each other and the coordinator by addresses of their own alone, train what child
    processes of one machine do: `scores`, where they are known."""
    with two_nodes(folder) as (cluster, coordinator, fleet):
        send_ranked(fleet, folder, "nodes", 6)
        up_ranked(fleet, folder, "--nodes-per-worker", 2)
        tasks = wait_until(lambda: len(tasks_of(folder)) == 2 and tasks_of(folder), 60, "both tasks run", cluster.logs)
        networks = {os.stat(f"/proc/{pid}/ns/net").st_ino for pid in [os.getpid(), *tasks.values()]}
        assert len(networks) == 3, "the tasks are on one machine"
        step_file = step_file_of(cluster, folder)
        assert json.loads(step_file.read_text())["addresses"] == ["10.77.0.1"]
        loupe(fleet.anna, "watch", "nodes")
        fleet("down")
        wait_until(lambda: not tasks_of(folder), 30, "'down' ends both tasks", cluster.logs)
        assert not list((folder / "logs").glob("step-*")), "the step's file has outlived it"
        scores = scores or scores_of_children(coordinator, fleet, folder)
        assert scores_of(coordinator, "nodes") == scores, "tasks on two nodes do not train what child processes of one machine do"
        ended = coordinator.query("SELECT outcome, count(*) FROM attempts GROUP BY outcome")
        assert {outcome for outcome, _ in ended} == {1}, f"attempts that did not succeed: {ended}"
    print("one job step of two tasks on two nodes: the scores of child processes", flush=True)


def check_cut_cable(folder):
    """A node that is gone without a word closes no connection: the trial that it helped with is lost all the same, and goes on at its
    checkpoint as soon as there is a worker."""
    with two_nodes(folder) as (cluster, coordinator, fleet):
        send_ranked(fleet, folder, "severed", 40)
        up_ranked(fleet, folder, "--nodes-per-worker", 2)
        wait_until(lambda: list((folder / "ranked-data").glob("**/checkpoint.safetensors")), 120, "the trial trains", cluster.logs)
        cluster.machines[1].cut()
        cut = time.monotonic()
        wait_until(lambda: attempts(coordinator).get(3, 0) == 1, 180, "the attempt is lost", lambda: str(attempts(coordinator)))
        print(f"a cable was cut: the attempt counted as lost {time.monotonic() - cut:.0f} s later", flush=True)
        wait_until(lambda: not tasks_of(folder), 60, "no task is left", cluster.logs)
        log = next((folder / "logs").glob("*.log")).read_text()
        assert "rank 1: its task of the job step is gone" in log, log
        # Another worker, on one machine, has less to do than was left.
        finish_here(fleet, "severed", BIN / "loupe-worker", "run", "--id", "heir", "--data", folder / "ranked-data", "--device",
                    "cpu,cpu", "--threads", "1")
        assert coordinator.query("SELECT failed_attempts, worker_losses FROM trials") == [(0, 1)]
        print("it cost no retry, and went on at its checkpoint", flush=True)


def main():
    everything = os.environ.get("LOUPE_ALL")
    reason = why_not()
    if not reason and not everything and not os.environ.get("LOUPE_SLURM"):
        reason = ("it takes seven minutes: run by ./test --all, or with LOUPE_SLURM=1 (step, nodes: one of its last parts alone; "
                  "cut: a cable that is cut, two minutes more, by this name alone)")
    if reason:
        print("skipped:", reason)
        return 1 if everything else SKIPPED
    own = own_network()
    with tempfile.TemporaryDirectory(prefix="loupe-slurm-") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        over_nodes = {"nodes": check_step_over_nodes, "cut": check_cut_cable}.get(os.environ.get("LOUPE_SLURM"))
        if over_nodes is not None:
            assert own, "no network namespace can be made here"
            over_nodes(folder / "nodes")
            return 0
        (folder / "images").mkdir()
        coordinator = Coordinator(folder)
        coordinator.start()
        try:
            with Cluster(folder / "slurm") as cluster:
                fleet = Fleet(cluster, coordinator, folder)
                if os.environ.get("LOUPE_SLURM") == "step":
                    check_job_step(cluster, coordinator, fleet, folder)
                    return 0
                replicates = int(os.environ.get("LOUPE_SLURM_REPLICATES", "4"))
                submit(fleet, folder, "disturbed", replicates)
                printed = fleet.up("--workers", 8, "--print").stdout
                assert "#SBATCH --array=0-7\n" in printed and not cluster.run("squeue", "-h").stdout, "--print submits nothing"
                fleet.up("--workers", 8)
                assert fleet("up", "--workers", 8, "--worker-credentials", fleet.credentials, check=False).returncode == 1
                disturb(cluster, coordinator, fleet)
                check_secrets(fleet, folder)
                loupe(fleet.anna, "watch", "disturbed")
                print("the sweep is complete; attempts", attempts(coordinator), flush=True)
                check_results(coordinator, fleet, folder, replicates)
                fleet("down")
                wait_until(lambda: not cluster.run("squeue", "-h").stdout, 40, "'down' leaves no job")
                check_time_limit(cluster, coordinator, fleet, folder)
                scores = check_job_step(cluster, coordinator, fleet, folder)
        finally:
            coordinator.kill()
        if own:
            check_step_over_nodes(folder / "nodes", scores)
        else:
            print("not run: a job step over two nodes, since no network namespace can be made here", flush=True)
    print("1 passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
