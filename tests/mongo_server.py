"""Servers that speak MongoDB's protocol, for tests: started in a folder of their own, nothing left.

secantusd-py (tests/requirements.txt) always; secantusd-rs where KONTOR_TEST_SECANTUS_RS names the
program, always with --sync-on-commit, without which it loses acknowledged writes; and the server of
KONTOR_TEST_MONGODB_URL. Where these differ from MongoDB, its manual is right: what may not be
asserted on them is said where a test would want to. secantusd-py syncs plain writes with j: true, but transactions only with
--sync-on-commit: whoever kills it wants that. Only the standard library: tests/run uses it too.
"""
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.parse
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 60
MEMORY_BYTES = 4 << 30  # Docker gives a container 64 MB of it


def memory_folder():
    """A folder that is in memory and has room for a few servers; None where there is none."""
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return None
    room = os.statvfs(folder)
    return folder if room.f_bavail * room.f_frsize > MEMORY_BYTES else None


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class CannotStart(Exception):
    pass


class Server:
    """A server process. stop() ends it and removes its folder; kill() and start() again keep it."""

    def __init__(self, *options, program=None):
        self.program = program or ROOT / ".venv/bin/secantusd-py"
        # The program of the Rust server has another name of its own; only it needs this.
        self.options = [*options, *(["--sync-on-commit"] if program else [])]
        self.folder, self.port, self.child = None, free_port(), None

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    @property
    def url(self):
        return f"mongodb://{self.address}/?replicaSet=secantus"

    def text(self):
        return (self.folder / "log").read_text("utf-8", "replace")

    def start(self):
        if self.folder is None:
            survives = "--sync-on-commit" in self.options
            self.folder = Path(tempfile.mkdtemp(prefix="kontor-mongo-", dir=None if survives else memory_folder()))
        with open(self.folder / "log", "ab") as log:
            self.child = subprocess.Popen(
                [self.program, "--host", "127.0.0.1", "--port", str(self.port), "--storage-path", self.folder / "db",
                 "--cache-size", "256M", "--log-level", "WARNING", "--enable-test-commands", *self.options],
                cwd=self.folder, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        give_up = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                if self.child.poll() is not None or time.monotonic() > give_up:
                    text = self.text()[-2000:]
                    self.stop()
                    raise CannotStart(f"{self.program} did not start: {text}") from None
                time.sleep(0.05)

    def guard(self, **users):
        """Once, after start(): it wants to know who is there. users: name=(password, roles), kept in admin."""
        import pymongo  # tests/run does without
        with pymongo.MongoClient(self.url) as client:
            for name, (password, roles) in users.items():
                client.admin.command("createUser", name, pwd=password, roles=roles)
        self.child.terminate()
        self.child.wait(30)
        self.options.append("--auth")
        return self.start()

    def url_of(self, name, password):
        """For a user of guard()."""
        return f"mongodb://{name}:{urllib.parse.quote(password, safe='')}@{self.address}/?replicaSet=secantus&authSource=admin"

    def kill(self):
        """SIGKILL; the port is free when it returns."""
        self.child.kill()
        self.child.wait()

    def pause(self):
        """It keeps its connections and answers nothing."""
        self.child.send_signal(signal.SIGSTOP)

    def resume(self):
        self.child.send_signal(signal.SIGCONT)

    def stop(self):
        if self.child is not None and self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()


class Named:
    """A server that runs already; nothing of it is ours but the databases that tests make there."""

    def __init__(self, url):
        self.url = url

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def servers():
    """All servers that tests of the store run on: [(name, context of one with .url)]."""
    found = [("secantusd-py", Server())]
    if program := os.environ.get("KONTOR_TEST_SECANTUS_RS"):
        found.append(("secantusd-rs", Server(program=program)))
    if url := os.environ.get("KONTOR_TEST_MONGODB_URL"):
        found.append(("KONTOR_TEST_MONGODB_URL", Named(url)))
    return found
