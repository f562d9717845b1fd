"""The echo service (home/lua/cli/echo.lua): what the tests of HTTP and WebSocket talk to.

A test file takes its fixtures with `from echo import echo, start_echo`."""
import contextlib
import json
import os
import re
import resource
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
KONTOR = os.environ.get("KONTOR", str(ROOT / "build" / "kontor"))
ASAN = "asan" in KONTOR  # its allocator keeps what was freed: no figures of memory
SLOW = 4 if ASAN else 1  # factor for the limits of waiting, never for what is asserted


def bare_environment():
    """The environment without what a developer has set for a service at hand."""
    return {k: v for k, v in os.environ.items() if not k.startswith("KONTOR_") or k == "KONTOR_TEST_MARK"}


class Echo:
    """The echo service on a socket of ours. limits as in kt.http, e.g. header_time=0.2; descriptors: how many
    it may have."""

    def __init__(self, unix=None, descriptors=None, **limits):
        self.unix = unix
        if unix:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(unix)
        else:
            listener = socket.socket()
            listener.bind(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
        listener.listen(128)
        env = {**bare_environment(), "KONTOR_HOME": str(ROOT / "tests" / "integration" / "home"),
               "ECHO_VIA": "unix" if unix else "tcp"}
        self.err = tempfile.TemporaryFile()

        def limit():
            resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
        self.process = subprocess.Popen(
            [KONTOR, "echo", str(listener.fileno()), *(f"{k}={v}" for k, v in limits.items())],
            pass_fds=[listener.fileno()], env=env, preexec_fn=limit if descriptors else None, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.err)
        listener.close()
        line = self.process.stdout.readline()
        if line != b"ready\n":
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the echo service did not start: {self.log()}")

    def log(self):
        self.err.seek(0)
        return self.err.read().decode("utf-8", "replace")

    def connect(self, timeout=20):
        s = socket.socket(socket.AF_UNIX if self.unix else socket.AF_INET)
        s.settimeout(timeout * SLOW)
        s.connect(self.unix or ("127.0.0.1", self.port))
        return s

    def raw(self, data):
        """Send bytes, return all that comes until the server closes."""
        with self.connect() as s:
            s.sendall(data)
            return read_all(s)

    def get(self, path, headers=b""):
        """The body of a GET on a connection of its own."""
        head, _, body = self.raw(b"GET " + path.encode() + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + headers + b"\r\n").partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        return body

    def rss(self):
        return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text()).group(1)) * 1024

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        """It must still answer, end by itself, and leave nothing."""
        assert self.get("/hello") == b"hello"
        assert self.get("/quit") == b"bye"
        out, _ = self.process.communicate(timeout=20 * SLOW)
        assert self.process.returncode == 0, self.log()[-2000:]
        assert json.loads(out) == {"drained": True, "tasks": 0, "ops": 0, "handles": 0}

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.err.close()


def read_all(s):
    data = b""
    while True:
        part = s.recv(65536)
        if not part:
            return data
        data += part


@contextlib.contextmanager
def running(echo):
    try:
        yield echo
        echo.stop()
    finally:
        echo.kill()


@pytest.fixture
def start_echo():
    """start_echo(**limits) -> Echo; at the end each must answer, stop and have nothing left."""
    with contextlib.ExitStack() as stack:
        yield lambda **limits: stack.enter_context(running(Echo(**limits)))


@pytest.fixture(scope="module")
def echo():
    """One echo service for the tests of a file."""
    with running(Echo()) as one:
        yield one
