"""What `cpack` makes, in a bare Debian: the service's package is installed by apt and served as its own user, the worker's archive
is unpacked elsewhere, given its LibTorch, and takes part.

    install_test.py BUILD       with BUILD the folder of the build

The bare Debian is made by debootstrap from the mirror that this machine's apt uses. Needs root."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import urllib.request

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "testing"))

from harness import wait_until  # noqa: E402 - from tests/testing

SKIPPED = 77


def run(*command, check=True, **more):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **more)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done.stdout


def why_not():
    missing = [program for program in ("debootstrap", "cpack", "dpkg-shlibdeps") if not shutil.which(program)]
    if missing:
        return f"{', '.join(missing)} not installed: see tests/deploy/debian-packages.txt"
    if os.geteuid() != 0:
        return "making a bare Debian needs root"
    return ""


def dynamic(path):
    return run("readelf", "-d", path)


def make_packages(build, folder):
    for generator in ("DEB", "TGZ"):
        run("cpack", "--config", build / "CPackConfig.cmake", "-G", generator, "-B", folder, cwd=folder)
    deb, archive = next(folder.glob("loupe_*.deb")), next(folder.glob("loupe-worker-*.tar.gz"))
    said = run("dpkg-deb", "--info", deb)
    assert re.search(r"^ Maintainer: Loupe developers$", said, re.M), said
    assert re.search(r"^ Depends: .*libgrpc\+\+1\.51", said, re.M) and "torch" not in said, said
    print(f"{deb.name} {deb.stat().st_size >> 20} MiB, {archive.name} {archive.stat().st_size >> 20} MiB", flush=True)
    return deb, archive


def check_run_paths(root, archive, folder):
    """No program looks for libraries where it was built."""
    for program in ("loupe", "loupe-coordinator"):
        assert "PATH)" not in dynamic(root / "usr/bin" / program), f"{program} has a run path"
    top = archive.name.removesuffix(".tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="tar") if hasattr(tarfile, "tar_filter") else packed.extractall(folder)
    said = dynamic(folder / top / "bin/loupe-worker")
    assert "Library rpath: [$ORIGIN/../lib/torch:$ORIGIN/../lib/loupe]" in said, said
    libraries = {path.name for path in (folder / top / "lib/loupe").iterdir()}
    assert any(name.startswith("libgrpc++") for name in libraries) and not any("torch" in name for name in libraries), libraries
    return folder / top


def mirror():
    """Where this machine's apt gets its packages from."""
    for line in run("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)").splitlines():
        address, release = line.split()
        if release == "bookworm" or release.endswith("bookworm"):
            return address
    return run("apt-get", "indextargets", "--format", "$(REPO_URI)").split()[0]


class Bare:
    def __init__(self, folder):
        self.root = folder / "root"
        # LOUPE_BARE: such a folder, made before.
        if ready := os.environ.get("LOUPE_BARE"):
            run("cp", "-a", ready, self.root)
        else:
            run("debootstrap", "--variant=minbase", "bookworm", self.root, mirror())
        # As apt is set here: proxies, and where its packages come from.
        for name in ("apt.conf.d", "sources.list.d", "sources.list"):
            here = pathlib.Path("/etc/apt") / name
            if here.is_dir():
                shutil.copytree(here, self.root / "etc/apt" / name, dirs_exist_ok=True)
            elif here.exists():
                shutil.copy(here, self.root / "etc/apt" / name)
        (self.root / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n")
        (self.root / "usr/sbin/policy-rc.d").chmod(0o755)
        # Every running Debian has both. Without /sys glibc fails to count the processors, in the middle of gRPC 1.51's connecting,
        # which then takes that errno for connect's own (grpc/grpc pull request 35064): of 1,400 connections on a busy machine six, with /sys none.
        run("mount", "-t", "proc", "proc", self.root / "proc")
        run("mount", "--bind", "-o", "ro", "/sys", self.root / "sys")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for name in ("sys", "proc"):
            run("umount", "-l", self.root / name, check=False)

    def command(self, *words, user=None):
        whose = [f"--userspec={user}:{user}"] if user else []
        return ["chroot", *whose, self.root, *words]

    def run(self, *words, user=None, check=True):
        return run(*self.command("env", "DEBIAN_FRONTEND=noninteractive", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/tmp", *words,
                                 user=user), check=check)


def link_or_copy(source, target):
    """Half a gigabyte need not be written again; between two mounts, be they of one file system, there are no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def main():
    reason = why_not()
    everything = os.environ.get("LOUPE_ALL")
    if not reason and not everything and not os.environ.get("LOUPE_INSTALL"):
        reason = "it takes minutes: run by ./test --all, or with LOUPE_INSTALL=1"
    if reason:
        print("skipped:", reason)
        return 1 if everything else SKIPPED
    build = pathlib.Path(sys.argv[1]).resolve()
    started = []
    with tempfile.TemporaryDirectory(prefix="loupe-install-") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        deb, archive = make_packages(build, folder)
        with Bare(folder) as bare:
            shutil.copy(deb, bare.root / "tmp")
            bare.run("apt-get", "update")
            bare.run("apt-get", "install", "-y", "--no-install-recommends", f"/tmp/{deb.name}")
            worker = check_run_paths(bare.root, archive, folder)
            print(bare.run("loupe", "--version").strip(), flush=True)
            assert "LibTorch of its workers: " in bare.run("loupe", "--version")
            assert (bare.root / "var/lib/loupe").stat().st_mode & 0o777 == 0o700
            try:
                # As its own user, as the unit starts it.
                started.append(subprocess.Popen(bare.command(
                    "loupe-coordinator", "--data", "/var/lib/loupe/data", "--listen", "127.0.0.1:0", user="loupe"),
                    stdout=open(folder / "coordinator.log", "wb"), stderr=subprocess.STDOUT))
                data = bare.root / "var/lib/loupe/data"
                wait_until(lambda: (data / "http_address").exists() and (data / "address").exists(), 60, "the coordinator listens")
                assert bare.run("loupe", "sweeps", "--data", "/var/lib/loupe/data", user="loupe")
                with urllib.request.urlopen((data / "http_address").read_text().split()[0] + "/", timeout=20) as answer:
                    page = answer.read().decode()
                assert "<html" in page.lower(), page[:200]
                # The worker, as a user unpacks it, elsewhere than anything was built or installed.
                home = bare.root / "srv" / worker.name
                shutil.move(worker, home)
                torch = next(pathlib.Path(__file__).resolve().parents[2].glob(".venv/lib/python3*/site-packages/torch"))
                (bare.root / "torch").mkdir()
                shutil.copy(torch / "version.py", bare.root / "torch")
                shutil.copytree(torch / "lib", bare.root / "torch/lib", symlinks=True, copy_function=link_or_copy)
                assert "expected an unpacked LibTorch" in subprocess.run(
                    bare.command(f"/srv/{worker.name}/use-torch", "--torch", "/usr"), capture_output=True, text=True).stderr
                print(bare.run(f"/srv/{worker.name}/use-torch", "--torch", "/torch").strip(), flush=True)
                bare.run("loupe-coordinator", "--data", "/var/lib/loupe/data", "token", "add", "--name", "w", "--role", "worker",
                                 "-o", "/var/lib/loupe/w.pem", user="loupe")
                started.append(subprocess.Popen(bare.command(
                    f"/srv/{worker.name}/bin/loupe-worker", "run", "--credentials", "/var/lib/loupe/w.pem", "--data", "/var/lib/loupe/w",
                    "--id", "bare", "--device", "cpu", "--threads", "1", user="loupe"),
                    stdout=open(folder / "worker.log", "wb"), stderr=subprocess.STDOUT))
                wait_until(lambda: "bare" in bare.run("loupe", "workers", "--data", "/var/lib/loupe/data", user="loupe"), 60,
                           "the worker is there: " + (folder / "worker.log").read_text())
                started[-1].send_signal(signal.SIGTERM)
                assert started.pop().wait(30) == 0, (folder / "worker.log").read_text()
            finally:
                for process in started:
                    process.terminate()
                    process.wait(30)
            # The package goes, what it kept stays.
            bare.run("apt-get", "remove", "-y", "loupe")
            assert (bare.root / "var/lib/loupe/data/coordinator.db").exists() and not (bare.root / "usr/bin/loupe").exists()
    print("1 passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
