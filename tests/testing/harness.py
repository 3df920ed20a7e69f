"""What the tests in Python share. To be found by a script in tests/*/:

    sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "testing"))
"""
import socket
import time


def wait_until(condition, seconds, what, logs=lambda: ""):
    """What `condition` returns as soon as that is something; an AssertionError with `what` and the logs after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.1)
    raise AssertionError(f"waited {seconds} s in vain: {what}\n{logs()}".rstrip())


def free_port():
    """A TCP port of the loopback interface that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
