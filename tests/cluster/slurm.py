"""A Slurm cluster on this machine: munged, slurmctld and one slurmd on loopback, in a folder of their own. Needs root, since
slurmd starts jobs as their owners."""

import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import time

CONF = """
ClusterName=test_farm
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmdPort={d_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=10
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobCompType=jobcomp/none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=1,sched_interval=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
SlurmdParameters=config_overrides
KillWait={kill_wait}
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=low Nodes={host} Default=YES PriorityTier=1 PreemptMode=REQUEUE State=UP
PartitionName=high Nodes={host} PriorityTier=10 PreemptMode=OFF State=UP
"""

PROGRAMS = ["munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol"]


def why_not():
    """Why there can be no cluster here; empty where there can."""
    missing = [program for program in PROGRAMS if not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin")]
    if missing:
        return f"Slurm is not installed here ({', '.join(missing)} missing): see tests/cluster/debian-packages.txt"
    if os.geteuid() != 0:
        return "slurmd starts jobs as their owners: this test needs root"
    return ""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Cluster:
    def __init__(self, folder, cpus=8, kill_wait=10):
        self.folder = pathlib.Path(folder)
        self.host = socket.gethostname().split(".")[0]
        self.conf = self.folder / "slurm.conf"
        self.environment = {**os.environ, "SLURM_CONF": str(self.conf), "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
        self.processes = {}
        for name in ("state", "spool", "munge"):
            (self.folder / name).mkdir(parents=True)
        # munged goes through the folder as its own user.
        for path in (self.folder, self.folder.parent):
            path.chmod(path.stat().st_mode | 0o055)
        self.conf.write_text(CONF.format(host=self.host, folder=self.folder, cpus=cpus, kill_wait=kill_wait,
                                         ctld_port=free_port(), d_port=free_port()))

    def __enter__(self):
        try:
            self._start_munge()
            self.start_controller()
            self.start_node()
            wait_until(lambda: "idle" in self.run("sinfo", "-h", "-o", "%t", "-p", "low", check=False).stdout, 60,
                       "the node is idle", self.logs)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if "slurmctld" in self.processes:
            self.run("scancel", "-u", "root", check=False)
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline and self.run("squeue", "-h", check=False).stdout.strip():
                time.sleep(0.5)
        for name in ("slurmd", "slurmctld", "munged"):
            self.stop(name)

    def _start(self, name, command):
        log = open(self.folder / f"{name}.out", "ab")
        self.processes[name] = subprocess.Popen(command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log,
                                                stderr=subprocess.STDOUT, start_new_session=True)

    def _start_munge(self):
        owner = pwd.getpwnam("munge")
        munge = self.folder / "munge"
        key = munge / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        for path in (munge, key):
            os.chown(path, owner.pw_uid, owner.pw_gid)
        munge.chmod(0o755)
        self._start("munged", ["setpriv", "--reuid=munge", "--regid=munge", "--clear-groups", "munged", "--foreground", "--force",
                               f"--key-file={key}", f"--socket={munge}/socket", f"--pid-file={munge}/pid",
                               f"--log-file={munge}/log", f"--seed-file={munge}/seed"])
        wait_until(lambda: (munge / "socket").exists(), 20, "munged listens", self.logs)

    def start_controller(self):
        self._start("slurmctld", ["slurmctld", "-D"])

    def start_node(self):
        self._start("slurmd", ["slurmd", "-D"])

    def stop(self, name, how=signal.SIGTERM):
        process = self.processes.pop(name, None)
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def run(self, *command, check=True, env=None):
        done = subprocess.run(list(map(str, command)), env={**self.environment, **(env or {})}, capture_output=True, text=True,
                              timeout=60)
        if check and done.returncode != 0:
            raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}\n{self.logs()}")
        return done

    def logs(self):
        texts = []
        for path in sorted(self.folder.glob("*.out")) + sorted(self.folder.glob("*.log")) + [self.folder / "munge/log"]:
            if path.exists():
                lines = path.read_text(errors="replace").splitlines()[-15:]
                texts.append(f"--- {path.name}\n" + "\n".join(lines))
        return "\n".join(texts)


def wait_until(condition, seconds, what, logs=lambda: ""):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.2)
    raise AssertionError(f"waited {seconds} s in vain: {what}\n{logs()}")
