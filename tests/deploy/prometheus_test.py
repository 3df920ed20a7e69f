#!/usr/bin/env python3
"""A real Prometheus scrapes a real coordinator; rules and dashboard of deploy/ name metrics that there are.

LOUPE_BIN: the folder of the programs. Without prometheus and promtool (Debian's package prometheus) it is skipped (77), and fails under LOUPE_ALL."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "testing"))

from harness import free_port  # noqa: E402 - from tests/testing

ROOT = pathlib.Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy/prometheus/loupe-alerts.yml"
NAME = re.compile(r"\b(?:loupe|process)_[a-z0-9_]+\b")


def fetch(url, token=None):
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read().decode()


def until(what, seconds=60):
    """What `what` returns, once it does without an error."""
    end = time.monotonic() + seconds
    while True:
        try:
            return what()
        except (OSError, KeyError, IndexError, ValueError):
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def check_names(metrics, text, where):
    known = set(re.findall(r"^# TYPE (\S+)", metrics, re.M))
    for name in set(NAME.findall(text)):
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        assert name in known or base in known, f"{where}: there is no metric {name}"


def main():
    prometheus, promtool = shutil.which("prometheus"), shutil.which("promtool")
    if not prometheus or not promtool:
        print("no prometheus and promtool (Debian's package prometheus)")
        return 1 if os.environ.get("LOUPE_ALL") else 77
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        data = folder / "data"
        programs = [subprocess.Popen([f"{os.environ['LOUPE_BIN']}/loupe-coordinator", "--data", data, "--listen",
                                      "127.0.0.1:0", "--log-level", "warn"])]
        try:
            address = until(lambda: (data / "http_address").read_text().strip())
            token = until(lambda: (data / "token").read_text().split()[0])
            metrics = fetch(f"{address}/metrics", token)
            subprocess.run([promtool, "check", "metrics"], input=metrics, text=True, check=True)
            subprocess.run([promtool, "check", "rules", RULES], check=True)
            subprocess.run([promtool, "test", "rules", RULES.with_name("loupe-alerts_test.yml")], check=True)
            check_names(metrics, RULES.read_text(), RULES.name)
            dashboard = ROOT / "deploy/grafana/loupe.json"
            for panel in json.loads(dashboard.read_text())["panels"]:
                for target in panel["targets"]:
                    check_names(metrics, target["expr"], f"{dashboard.name}, {panel['title']}")

            # The shipped configuration, with this coordinator and this token.
            text = (ROOT / "deploy/prometheus/prometheus.yml").read_text()
            text = text.replace("/etc/prometheus/loupe-token", str(data / "token"))
            text = text.replace("127.0.0.1:7118", address.removeprefix("http://")).replace("15s", "1s")
            (folder / "prometheus.yml").write_text(text)
            shutil.copy(RULES, folder)
            port = free_port()
            programs.append(subprocess.Popen([prometheus, f"--config.file={folder}/prometheus.yml",
                                              f"--storage.tsdb.path={folder}/tsdb", "--log.level=error",
                                              f"--web.listen-address=127.0.0.1:{port}"]))

            def value(query):
                answer = json.loads(fetch(f"http://127.0.0.1:{port}/api/v1/query?query={urllib.parse.quote(query)}"))
                return answer["data"]["result"][0]["value"][1]

            assert until(lambda: value("loupe_build_info")) == "1"
            assert value('up{job="loupe"}') == "1"
            assert value("loupe_slots") == "0"
            rules = json.loads(fetch(f"http://127.0.0.1:{port}/api/v1/rules"))["data"]["groups"][0]["rules"]
            assert len(rules) == 8 and all(rule["health"] in ("ok", "unknown") for rule in rules), rules
        finally:
            for program in programs:
                program.terminate()
                program.wait()
    print("ok")
    return 0


sys.exit(main())
