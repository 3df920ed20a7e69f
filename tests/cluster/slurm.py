"""A Slurm cluster on this machine, in a folder of its own: munged, slurmctld, and either one slurmd on loopback or several, each in a
network namespace that is its machine. Needs root, since slurmd starts jobs as their owners."""

import contextlib
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "testing"))

from harness import free_port, wait_until  # noqa: E402 - from tests/testing

CONF = """
ClusterName=test_farm
SlurmctldHost={host}({address})
SlurmctldPort={ctld_port}
SlurmdPort={d_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=10
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
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
{nodes}
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 PreemptMode=REQUEUE State=UP
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF State=UP
"""

PROGRAMS = ["munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol"]
# Of the cables between machines that are network namespaces.
BRIDGE = "loupe-slurm"
CONTROLLER = "10.77.0.254"


def why_not():
    """Why there can be no cluster here; empty where there can."""
    missing = [program for program in PROGRAMS if not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin")]
    if missing:
        return f"Slurm is not installed here ({', '.join(missing)} missing): see tests/cluster/debian-packages.txt"
    if os.geteuid() != 0:
        return "slurmd starts jobs as their owners: this test needs root"
    return ""


def own_network():
    """Goes on in a network namespace of its own, which ends with this process and all that it starts; whether that is allowed."""
    if os.environ.get("LOUPE_OWN_NETWORK"):
        # An address besides loopback's: without one glibc finds none at all (AI_ADDRCONFIG), and Slurm does not start.
        for command in ("link set lo up", f"link add {BRIDGE} type bridge", f"address add {CONTROLLER}/24 dev {BRIDGE}",
                        f"link set {BRIDGE} up"):
            subprocess.run(["ip", *command.split()], check=True)
        return True
    if not shutil.which("ip") or subprocess.run(["unshare", "--net", "--uts", "ip", "link", "add", "loupe", "type", "bridge"],
                                                capture_output=True).returncode != 0:
        return False
    os.environ["LOUPE_OWN_NETWORK"] = "1"
    os.execvp("unshare", ["unshare", "--net", "--", sys.executable, *sys.argv])


class Machine:
    """A network namespace with a name and an address, at the end of a cable; processes are started in it."""

    def __init__(self, name, address):
        self.name = name
        self.holder = subprocess.Popen(["unshare", "--net", "--uts", "sh", "-c", f"hostname {name} && echo && exec sleep infinity"],
                                       stdout=subprocess.PIPE)
        self.holder.stdout.readline()
        for command in (["ip", "link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", str(self.holder.pid)],
                        ["ip", "link", "set", f"to-{name}", "master", BRIDGE, "up"],
                        self.inside("ip", "link", "set", "lo", "up"),
                        self.inside("ip", "address", "add", f"{address}/24", "dev", "eth0"),
                        self.inside("ip", "link", "set", "eth0", "up")):
            subprocess.run(command, check=True)

    def inside(self, *command):
        return ["nsenter", f"--target={self.holder.pid}", "--net", "--uts", "--", *map(str, command)]

    def cut(self):
        subprocess.run(["ip", "link", "set", f"to-{self.name}", "down"], check=True)

    def end(self):
        self.holder.kill()
        self.holder.wait()


class Cluster:
    def __init__(self, folder, cpus=8, kill_wait=10, nodes=1):
        """More than one node: after own_network()."""
        self.folder = pathlib.Path(folder)
        self.machines = []
        self.address = CONTROLLER if nodes > 1 else "127.0.0.1"
        self.names = [f"n{i + 1}" for i in range(nodes)] if nodes > 1 else [socket.gethostname().split(".")[0]]
        self.host = socket.gethostname().split(".")[0]
        self.conf = self.folder / "slurm.conf"
        self.environment = {**os.environ, "SLURM_CONF": str(self.conf), "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
        self.processes = {}
        for name in ("state", "spool", "munge"):
            (self.folder / name).mkdir(parents=True)
        # munged goes through the folder as its own user.
        for path in (self.folder, self.folder.parent):
            path.chmod(path.stat().st_mode | 0o055)
        lines = [f"NodeName={name} NodeAddr={self._address_of(i)} CPUs={cpus} State=UNKNOWN" for i, name in enumerate(self.names)]
        self.conf.write_text(CONF.format(host=self.host, address=self.address, nodes="\n".join(lines), folder=self.folder,
                                         kill_wait=kill_wait, ctld_port=free_port(), d_port=free_port()))

    def _address_of(self, node):
        return f"10.77.0.{node + 1}" if len(self.names) > 1 else self.address

    def __enter__(self):
        try:
            if len(self.names) > 1:
                self.machines = [Machine(name, self._address_of(i)) for i, name in enumerate(self.names)]
            self._start_munge()
            self.start_controller()
            self.start_node()
            wait_until(lambda: self.run("sinfo", "-h", "-N", "-o", "%t", "-p", "low", check=False).stdout.split() ==
                       ["idle"] * len(self.names), 60, "all nodes are idle", self.logs)
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
        for name in [name for name in self.processes if name.startswith("slurmd-")] + ["slurmd", "slurmctld", "munged"]:
            self.stop(name)
        for machine in self.machines:
            machine.end()

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
        for machine in self.machines:
            self._start(f"slurmd-{machine.name}", machine.inside("slurmd", "-D", "-N", machine.name))
        if not self.machines:
            self._start("slurmd", ["slurmd", "-D"])

    def _of_a_node(self):
        """Process ids of slurmd's steps and of all that they started. A step has no parent; it has the node's log open."""
        children, steps = {}, []
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                name, state = (process / "stat").read_text().rsplit(")", 1)
                children.setdefault(int(state.split()[1]), []).append(int(process.name))
                if "slurmstepd" in name and any(os.readlink(file).startswith(f"{self.folder}/") for file in (process / "fd").iterdir()):
                    steps.append(int(process.name))
            except OSError:
                pass
        found = []
        while steps:
            found.append(steps.pop())
            steps += children.get(found[-1], [])
        return found

    def lose_node(self):
        """What is left of a machine that lost its power: nothing of slurmd, of its steps, also those that were ending, and of their
        programs. A step that outlives it would be found by the next slurmd, which then takes no second one of the same job."""
        self.stop("slurmd", signal.SIGKILL)

        def kill():
            left = self._of_a_node()
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not left

        wait_until(kill, 20, "nothing of the node is left")

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
