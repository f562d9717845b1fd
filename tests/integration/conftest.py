"""Fixtures: a service in a folder of its own, on a free port, that leaves nothing behind.

KONTOR_TEST_ENGINE=mongodb: services keep their documents on the server of KONTOR_TEST_MONGODB_URL, or
on a secantusd-py started here; each has names of its own there, and its databases are dropped in the end.
"""
import contextlib
import functools
import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests/fault")]
KONTOR = os.environ.get("KONTOR", str(ROOT / "build" / "kontor"))
PATIENCE = 60  # seconds until a thing that must happen is given up; no test asserts a time
ON_MONGODB = os.environ.get("KONTOR_TEST_ENGINE") == "mongodb"
started = []  # the server that shared_url() began


@functools.cache
def shared_url():
    """Of the MongoDB server for all services that do not name one."""
    if url := os.environ.get("KONTOR_TEST_MONGODB_URL"):
        return url
    from mongo_server import Server
    started.append(Server().start())
    return started[0].url


def pytest_sessionfinish(session):  # noqa: ARG001 - pytest's name of it
    for server in started:
        server.stop()


def eventually(check, what, seconds=PATIENCE):
    """The first true value of check(); fails when it stays false."""
    end = time.monotonic() + seconds
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > end:
            pytest.fail(f"never: {what}")
        time.sleep(0.02)


def marked(mark):
    """Pids of all processes that carry the mark in their environment."""
    pids = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    pids.append(int(entry.name))
            except OSError:
                continue
    return pids


MONGODB_NAMES = ("MONGODB_URL", "MASTER_DATABASE_NAME", "PROJECT_DATABASE_PREFIX")


class Answer:
    def __init__(self, response):
        self.status, self.headers, self.body = response.status, response.headers, response.read()

    def json(self):
        return json.loads(self.body)


class Service:
    """`kontor serve` in tmp: data, logs and a .env of its own. start() waits until it is ready. With MONGODB_URL
    its databases are named after the data folder, so that another service on the same one has the same."""

    def __init__(self, tmp, home=None, **env):
        self.tmp, self.process, self.port = Path(tmp), None, None
        self.mark = f"KONTOR_SERVICE_MARK={uuid.uuid4().hex}".encode()
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("KONTOR") and k not in MONGODB_NAMES}
        for name in ("KONTOR_TEST_MARK",):
            if name in os.environ:
                self.env[name] = os.environ[name]
        self.env.update(dict([self.mark.decode().split("=")]), KONTOR_LISTEN="127.0.0.1:0",
                        KONTOR_DATA_DIR=str(self.tmp / "data"), KONTOR_LOG_DIR=str(self.tmp / "logs"),
                        KONTOR_HOME=str(home or ROOT), KONTOR_DRAIN_SECONDS="10")
        if ON_MONGODB:
            self.env["MONGODB_URL"] = shared_url()
            self.env["KONTOR_MASTER_KEY"] = "7" * 64  # which only the embedded store makes itself
        self.env.update({k: str(v) for k, v in env.items()})
        self.data, self.stderr = Path(self.env["KONTOR_DATA_DIR"]), self.tmp / "stderr"
        if "MONGODB_URL" in self.env:
            tag = hashlib.sha256(f"{os.getpid()} {self.data}".encode()).hexdigest()[:8]
            self.env = {"MASTER_DATABASE_NAME": f"ktm-{tag}", "PROJECT_DATABASE_PREFIX": f"kt-{tag}-", **self.env}
        self.master = self.env.get("MASTER_DATABASE_NAME", "ktern-masterdb")
        self.prefix = self.env.get("PROJECT_DATABASE_PREFIX", "ktern-project-")

    def launch(self):
        self.tmp.mkdir(parents=True, exist_ok=True)
        with open(self.stderr, "ab") as err:
            self.process = subprocess.Popen([KONTOR, "serve"], cwd=self.tmp, env=self.env,
                                            stdin=subprocess.DEVNULL, stdout=err, stderr=err)
        return self

    def start(self):
        begun = len(self.events("service.ready"))
        self.launch()
        eventually(lambda: len(self.events("service.ready")) > begun or self.process.poll() is not None,
                   "service.ready")
        if self.process.poll() is not None:
            pytest.fail("the service did not start:\n" + self.text()[-3000:])
        self.port = int(re.search(r":(\d+)$", self.events("service.ready")[-1]["url"]).group(1))
        return self

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def text(self):
        return self.stderr.read_text("utf-8", "replace") if self.stderr.exists() else ""

    def events(self, name):
        """The log lines of an event, as dictionaries."""
        found = []
        for line in self.text().splitlines():
            if f" event={name} " in line + " ":
                pairs = re.findall(r'(\w+)=(?:"((?:[^"\\]|\\.)*)"|(\S*))', line)
                found.append({key: quoted or plain for key, quoted, plain in pairs})
        return found

    def workers(self):
        """Pids of the workers that live."""
        def lives(pid):
            try:
                return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
            except (FileNotFoundError, ProcessLookupError):
                return False
        pids = [int(e["worker"].split(":")[1]) for e in self.events("worker.started")]
        return [pid for pid in pids if lives(pid)]

    def request(self, method, path, body=None, headers=None, timeout=PATIENCE):
        """One request on a connection of its own."""
        if isinstance(body, (dict, list)):
            body, headers = json.dumps(body), {"Content-Type": "application/json", **(headers or {})}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, {"Connection": "close", **(headers or {})})
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def get(self, path, **kw):
        return self.request("GET", path, **kw)

    def post(self, path, body=None, **kw):
        return self.request("POST", path, body, **kw)

    def made(self, path, body):
        """POST that must succeed; the answer's document."""
        answer = self.post(path, body)
        assert answer.status in (200, 201, 202), (path, answer.status, answer.body)
        return answer.json()

    def job(self, method, path, body, status="completed"):
        """A request that begins a job, which must end so; the job."""
        answer = self.request(method, path, body)
        assert answer.status == 202, (path, answer.status, answer.body)
        return self.ended_job(answer.json()["job_id"], status)

    def ended_job(self, job_id, status="completed"):
        def ended():
            answer = self.get(f"/api/v1/master/jobs/{job_id}")
            assert answer.status == 200, answer.body
            return answer.json() if answer.json()["status"] != "running" else None
        job = eventually(ended, f"{job_id} has ended")
        assert job["status"] == status, job
        return job

    def erp(self, project="acme"):
        """A project with an instance of the ERP agent; the instance's id."""
        self.made("/api/v1/master/setup/erp-defaults", {})
        self.made("/api/v1/master/projects", {"project_id": project, "project_name": "P", "customer_name": "C"})
        return self.made(f"/api/v1/projects/{project}/agent-instances",
                         {"agent_id": "erp-exception-management", "name": "ERP"})["instance_id"]

    def execute(self, instance, project="acme", wait=True, **body):
        """Run it; the execution (async, not waited for, with wait=False)."""
        return self.made(f"/api/v1/projects/{project}/executions",
                         {"instance_id": instance, "async_execution": not wait, **body})

    def signal(self, number):
        self.process.send_signal(number)

    def kill_supervisor(self):
        """SIGKILL; waits until its workers are gone too."""
        self.process.kill()
        self.process.wait()
        eventually(lambda: not marked(self.mark), "the workers ended with their supervisor")
        self.end_transactions()

    def end_transactions(self):
        """After a kill -9 of a worker."""
        if "MONGODB_URL" in self.env:
            # The open transactions of a killed client hold their documents; mongod ends them after a minute, secantusd never.
            with self.mongo() as client:
                if client.admin.command("hello")["setName"] == "secantus":
                    client.admin.command({"killAllSessions": []})

    def stop(self):
        """TERM, drained, exit code 0, nothing left."""
        self.assert_unharmed()
        if self.process is None:
            return
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.kill_all()
                pytest.fail("the service did not end:\n" + self.text()[-3000:])
            assert self.process.returncode == 0, self.text()[-3000:]
        self.process = None
        self.assert_unharmed()
        self.assert_clean()

    def assert_unharmed(self):
        """No worker crashed (one that did is replaced, and the test might not notice), no sanitizer complained."""
        ends = [e["msg"] for e in self.events("worker.ended")]
        crashes = [f"signal {n.value}" for n in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)]
        assert not set(ends) & {*crashes, "exit 99"}, ends  # 99: see tests/run
        report = re.search(r"[^\n]*(Sanitizer:|runtime error:)", self.text())
        assert not report, self.text()[report.start():][:4000]

    def kill_all(self):
        for pid in marked(self.mark):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if self.process is not None:
            self.process.wait()

    def mongo(self):
        """A client of its MongoDB server, for a with statement."""
        import pymongo
        return pymongo.MongoClient(self.env["MONGODB_URL"], serverSelectionTimeoutMS=PATIENCE * 1000)

    def databases(self):
        """Names of those that are its own, as they are in its store."""
        if "MONGODB_URL" in self.env:
            with self.mongo() as client:
                return {n for n in client.list_database_names() if n == self.master or n.startswith(self.prefix)}
        return {path.stem for path in self.data.glob("*.db")}

    def stored(self):
        """Every byte of its documents, as they are stored."""
        if "MONGODB_URL" not in self.env:
            return b"".join(p.read_bytes() for p in self.data.glob("*.db*"))
        from bson import encode
        with self.mongo() as client:
            return b"".join(encode(doc) for name in self.databases() for coll in client[name].list_collection_names()
                            for doc in client[name][coll].find())

    def documents(self, database):
        """All documents of one of its databases, by collection, in the order of _id as it is stored."""
        import bson
        if "MONGODB_URL" in self.env:
            with self.mongo() as client:
                return {c: list(client[database][c].find().sort("_id")) for c in sorted(client[database].list_collection_names())}
        with contextlib.closing(sqlite3.connect(f"file:{self.data / database}.db?mode=ro", uri=True)) as db:
            names = [n for (n,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'c\\_%' ESCAPE '\\' ORDER BY name")]
            return {n[2:]: [bson.decode(doc) for (doc,) in db.execute(f'SELECT doc FROM "{n}" ORDER BY id')] for n in names}

    def drop_databases(self):
        """Those on the shared server; a test's own server goes as a whole."""
        if ON_MONGODB and self.env.get("MONGODB_URL") == shared_url():
            with self.mongo() as client:
                for name in self.databases():
                    client.drop_database(name)

    def assert_clean(self):
        eventually(lambda: not marked(self.mark), f"no process is left: {marked(self.mark)}", 5)
        assert not (self.tmp / "data" / "kontor.sock").exists()
        assert not self.events("worker.handles_left"), "a worker left handles open"
        if self.port:
            with socket.socket() as s:
                assert s.connect_ex(("127.0.0.1", self.port)) != 0, "the port is still served"


@pytest.fixture
def make_service(tmp_path):
    """make_service(name?, home=?, VARIABLE=value…) -> Service in a folder of its own, not started."""
    made = []

    def make(name=None, home=None, **env):
        made.append(Service(tmp_path / (name or f"service{len(made)}"), home, **env))
        return made[-1]

    yield make
    try:
        for service in made:
            service.stop()
    finally:
        for service in made:
            service.kill_all()
            service.drop_databases()


@contextlib.contextmanager
def serving(tmp, kind=Service, **env):
    """A started service: stopped at the end, killed where something failed."""
    made = kind(tmp, **env)
    try:
        yield made.start()
        made.stop()
    finally:
        made.kill_all()
        made.drop_databases()


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """The real service, started once for all tests of a module."""
    with serving(tmp_path_factory.mktemp("service")) as made:
        yield made


@pytest.fixture
def mini_home(tmp_path):
    """A home with apps/mini as its app: a copy, so that a test may change it."""
    home = tmp_path / "home"
    shutil.copytree(ROOT / "tests/integration/apps/mini", home)
    (home / "lua" / "kt").symlink_to(ROOT / "lua" / "kt")
    return home


@pytest.fixture
def mini(make_service, mini_home):
    """A service with the mini app, started."""
    return make_service(home=mini_home).start()
