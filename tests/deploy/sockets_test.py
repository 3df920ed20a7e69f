"""Sockets that are handed over at the coordinator's start, as systemd does: it serves them, and who calls while it is started again is
served too. The sockets' units say what systemd would hand over.

    sockets_test.py        with LOUPE_BIN set to the folder of the programs
"""

import contextlib
import fcntl
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import urllib.request

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "testing"))

from harness import wait_until  # noqa: E402 - from tests/testing

BIN = pathlib.Path(os.environ["LOUPE_BIN"])
UNITS = pathlib.Path(__file__).resolve().parents[2] / "deploy/systemd"


class Handed:
    """Listening sockets that outlive the coordinator, and a coordinator that gets them."""

    def __init__(self, folder, names, hosts=None):
        self.folder = folder
        self.data = folder / "data"
        self.names = names
        self.sockets = [socket.create_server((host, 0), backlog=64) for host in hosts or ["127.0.0.1"] * len(names)]
        self.ports = [one.getsockname()[1] for one in self.sockets]
        self.process = None

    def start(self, *options, pid=None, names=None, wait=True):
        (self.data / "address").unlink(missing_ok=True)
        (self.data / "http_address").unlink(missing_ok=True)
        high = [fcntl.fcntl(one, fcntl.F_DUPFD, 100) for one in self.sockets]

        def hand_over():
            for i, fd in enumerate(high):
                os.dup2(fd, 3 + i)
            os.environ["LISTEN_PID"] = str(pid or os.getpid())
            os.environ["LISTEN_FDS"] = str(len(high))
            os.environ["LISTEN_FDNAMES"] = ":".join(names or self.names)

        self.log = self.folder / "log"
        self.process = subprocess.Popen([BIN / "loupe-coordinator", "--data", self.data, *options], preexec_fn=hand_over,
                                        pass_fds=range(3, 3 + len(high)), stdout=open(self.log, "wb"), stderr=subprocess.STDOUT)
        for fd in high:
            os.close(fd)
        if wait:
            wait_until(lambda: (self.data / "address").exists() or self.process.poll() is not None, 30, "it serves")
            assert self.process.poll() is None, self.log.read_text()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0, self.log.read_text()

    def refusal(self, **how):
        self.start(wait=False, **how)
        assert self.process.wait(30) == 1, self.log.read_text()
        return self.log.read_text()


@contextlib.contextmanager
def handed(names, hosts=None):
    with tempfile.TemporaryDirectory(prefix="loupe-sockets-") as name:
        one = Handed(pathlib.Path(name), names, hosts)
        try:
            yield one
        finally:
            if one.process and one.process.poll() is None:
                one.process.kill()
                one.process.wait()
            for listening in one.sockets:
                listening.close()


def call(*where):
    return subprocess.Popen([BIN / "loupe", "sweeps", *where], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def http(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=20) as answer:
        return answer.status


def check_served_and_restarted():
    with handed(["grpc", "http"]) as it:
        it.start("--listen", "127.0.0.1:1", "--http-listen", "off")
        grpc, web = it.ports
        assert (it.data / "address").read_text() == f"127.0.0.1:{grpc}\n"
        assert (it.data / "http_address").read_text() == f"http://127.0.0.1:{web}\n"
        said = it.log.read_text()
        assert f"--listen 127.0.0.1:1 is not used: a socket at 127.0.0.1:{grpc} was handed over" in said, said
        assert f"--http-listen off is not used: a socket at 127.0.0.1:{web}" in said, said
        for fd in (3, 4):
            flags = re.search(r"^flags:\s+(\d+)$", pathlib.Path(f"/proc/{it.process.pid}/fdinfo/{fd}").read_text(), re.M)[1]
            assert int(flags, 8) & os.O_CLOEXEC, "programs that it starts inherit its sockets"
        client = call("--data", it.data)
        assert client.wait(20) == 0, client.stdout.read()
        assert http(web) == 200
        it.stop()
        # Nobody serves now. Both wait, each in its socket's queue.
        early = socket.create_connection(("127.0.0.1", web), timeout=20)
        early.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        client = call("--token-file", it.data / "token", "--address", f"127.0.0.1:{grpc}")
        wait_until(lambda: queued(grpc) > 0, 10, "the client has connected")
        assert client.poll() is None
        it.start()
        assert early.recv(12) == b"HTTP/1.1 200"
        assert client.wait(20) == 0, client.stdout.read()
        it.stop()


def queued(port):
    """Connections of a listening socket that nobody has accepted: the receive queue's length of a socket in state 0A."""
    for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if words[1].endswith(f":{port:04X}") and words[3] == "0A":
            return int(words[4].split(":")[1], 16)
    raise AssertionError(f"nobody listens on {port}")


def check_reachable_speaks_tls():
    """What other machines reach is refused without a certificate, whoever opened the socket and whatever --listen says."""
    with handed(["grpc", "http"], ["0.0.0.0", "0.0.0.0"]) as it:
        it.start("--listen", "127.0.0.1:0")
        assert (it.data / "address").read_text() == f"0.0.0.0:{it.ports[0]}\n"
        assert (it.data / "http_address").read_text().startswith("https://")
        for port in it.ports:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with socket.create_connection(("127.0.0.1", port), timeout=20) as plain, context.wrap_socket(plain) as secure:
                try:
                    secure.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                    answered = secure.recv(1)
                except (ssl.SSLError, ConnectionError):
                    answered = b""
                assert not answered, f"port {port} answers a client without a certificate"
        client = call("--data", it.data)
        assert client.wait(20) == 0, client.stdout.read()
        it.stop()


def check_refusals():
    with handed(["grpc"]) as it:
        # For another process: this one opens its own.
        it.start("--listen", "127.0.0.1:0", pid=1)
        assert (it.data / "address").read_text() != f"127.0.0.1:{it.ports[0]}\n"
        it.stop()
        assert "is named 'loupe-coordinator.socket': expected 'grpc' or 'http'" in it.refusal(names=["loupe-coordinator.socket"])
        it.sockets[0].close()
        it.sockets[0] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        assert "descriptor 3 is no TCP socket that listens" in it.refusal()


def check_systemds_own():
    """systemd's program for trying this out listens as the units say, and starts the coordinator at the first connection."""
    names, addresses = [], []
    for unit in ("loupe-coordinator.socket", "loupe-coordinator-http.socket"):
        text = (UNITS / unit).read_text()
        names.append(re.search(r"^FileDescriptorName=(\S+)$", text, re.M)[1])
        addresses.append(re.search(r"^ListenStream=(\S+)$", text, re.M)[1])
    assert addresses == ["127.0.0.1:7117", "127.0.0.1:7118"]
    if not shutil.which("systemd-socket-activate"):
        print("systemd-socket-activate is not installed here")
        return not os.environ.get("LOUPE_ALL")
    ports = []
    for _ in addresses:
        with socket.create_server(("127.0.0.1", 0)) as one:
            ports.append(one.getsockname()[1])
    with tempfile.TemporaryDirectory(prefix="loupe-sockets-") as name:
        data = pathlib.Path(name) / "data"
        process = subprocess.Popen(["systemd-socket-activate", *(f"--listen=127.0.0.1:{port}" for port in ports),
                                    f"--fdname={':'.join(names)}", BIN / "loupe-coordinator", "--data", data],
                                   stdout=open(f"{name}/log", "wb"), stderr=subprocess.STDOUT)
        try:
            wait_until(lambda: "Listening on" in pathlib.Path(f"{name}/log").read_text(), 10, "systemd-socket-activate listens")
            assert http(ports[1]) == 200
            wait_until((data / "address").exists, 10, "the coordinator says where it is")
            assert (data / "address").read_text() == f"127.0.0.1:{ports[0]}\n"
            client = call("--data", data)
            assert client.wait(20) == 0, client.stdout.read()
        finally:
            process.terminate()
            process.wait(30)
    return True


def main():
    check_served_and_restarted()
    check_reachable_speaks_tls()
    check_refusals()
    assert check_systemds_own(), "LOUPE_ALL wants systemd-socket-activate"
    print("4 passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
