"""The units of deploy/systemd: systemd reads them without a warning, what they are held to is measured, and users and folders
are made as they say. Nothing is started."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "deploy/systemd"
SKIPPED = 77
# systemd's exposure times ten: 0 is shut, 100 is open. The worker needs devices.
MOST_EXPOSED = {"loupe-coordinator.service": 15, "loupe-worker@.service": 20}
# They start no program, so that there is no exposure to measure. What they listen on is reached by this machine alone.
SOCKETS = ["loupe-coordinator.socket", "loupe-coordinator-http.socket"]


def run(*command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def main():
    if not shutil.which("systemd-analyze"):
        print("systemd-analyze is not installed here")
        return 1 if os.environ.get("LOUPE_ALL") else SKIPPED
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for unit, most in MOST_EXPOSED.items():
            text = (FOLDER / unit).read_text()
            # The programs that it names, where this machine has none.
            program = re.search(r"^ExecStart=(\S+)", text, re.M)[1]
            stand_in = root / pathlib.Path(program).name
            shutil.copy("/bin/true", stand_in)
            name = unit.replace("@.", "@0.")
            (root / unit).write_text(text.replace(f"ExecStart={program}", f"ExecStart={stand_in}"))
            code, said = run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", root / name
                             if not unit.endswith("@.service") else root / unit)
            assert code == 0 and not said.strip(), f"{unit}: {said}"
            code, said = run("systemd-analyze", "security", "--offline=yes", f"--threshold={most}", root / unit)
            assert code == 0, f"{unit} is more exposed than {most / 10}:\n{said}"
            print(unit, re.search(r"Overall exposure level.*?(\d+\.\d+)", said)[1])
        for unit in SOCKETS:
            shutil.copy(FOLDER / unit, root)
            code, said = run("systemd-analyze", "verify", "--man=no", "--recursive-errors=yes", root / unit)
            assert code == 0 and not said.strip(), f"{unit}: {said}"
            text = (FOLDER / unit).read_text()
            assert re.findall(r"^ListenStream=(.*):\d+$", text, re.M) == ["127.0.0.1"] and "\nAccept=no\n" in text, unit
            service = re.search(r"^Service=(\S+)$", text, re.M)
            assert (service[1] if service else unit.replace(".socket", ".service")) == "loupe-coordinator.service"
            assert not re.search(r"^Exec", text, re.M), f"{unit} starts a program"
        (root / "etc").mkdir()
        for name in ("passwd", "group"):
            (root / "etc" / name).write_text("root:x:0:0:root:/root:/bin/sh\n" if name == "passwd" else "root:x:0:\n")
        if shutil.which("systemd-sysusers"):
            code, said = run("systemd-sysusers", f"--root={root}", FOLDER / "loupe.sysusers")
            assert code == 0, said
            assert re.search(r"^loupe:.*:/var/lib/loupe:/usr/sbin/nologin$", (root / "etc/passwd").read_text(), re.M), said
        if shutil.which("systemd-tmpfiles"):
            code, said = run("systemd-tmpfiles", "--create", f"--root={root}", FOLDER / "loupe.tmpfiles")
            assert code == 0 and (root / "var/lib/loupe").stat().st_mode & 0o777 == 0o700, said
    print(f"{len(MOST_EXPOSED) + len(SOCKETS)} passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
