"""A `kontor serve` of the benchmark's own: in a folder, on a free port, one worker, pinned."""
import http.client
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import urllib.parse
from pathlib import Path

import machine

ROOT = Path(__file__).resolve().parent.parent.parent
KONTOR = os.environ.get("KONTOR", str(ROOT / "build/kontor"))
PROJECT = "bench"
BASE = f"/api/v1/projects/{PROJECT}"
# Nothing here is about quotas: they are out of the way, and cost what they cost.
QUOTAS = {"running": 10000, "queued": 1000000, "requests_per_minute": 1000000}


class Kontor:
    def __init__(self, cpu=machine.SERVER_CPU, **env):
        self.folder = Path(tempfile.mkdtemp(prefix="kt-bench-"))
        self.cpu, self.process, self.port = cpu, None, None
        clean = {k: v for k, v in os.environ.items() if not k.startswith("KONTOR")}
        self.env = {**clean, "KONTOR_LISTEN": "127.0.0.1:0", "KONTOR_DATA_DIR": str(self.folder / "data"),
                    "KONTOR_LOG_DIR": str(self.folder / "logs"), "KONTOR_HOME": str(ROOT), "KONTOR_WORKERS": "1", **env}

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self):
        return (self.folder / "stderr").read_text("utf-8", "replace")

    def start(self):
        """Start it; seconds until it said that it is ready."""
        began = time.monotonic()
        with open(self.folder / "stderr", "wb") as err:
            self.process = machine.launch([KONTOR, "serve"], self.cpu, cwd=self.folder, env=self.env, stdout=err, stderr=err)
        while not (ready := re.search(r"event=service.ready .*:(\d+)$", self.log(), re.M)):
            if self.process.poll() is not None or time.monotonic() > began + 60:
                raise RuntimeError("kontor did not start:\n" + self.log()[-2000:])
            time.sleep(0.001)
        self.port = int(ready[1])
        return time.monotonic() - began

    def stop(self):
        if self.process:
            machine.stop(self.process)

    @property
    def worker(self):
        return int(re.findall(r"event=worker.started worker=\d+:(\d+)", self.log())[-1])

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"

    def call(self, method, path, body=None, want=(200, 201, 202), accept="application/json"):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request(method, path, None if body is None else json.dumps(body),
                               {"Content-Type": "application/json", "Accept": accept})
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        if answer.status not in want:
            raise RuntimeError(f"{method} {path}: {answer.status} {text[:500]!r}")
        return json.loads(text) if text else None

    def setup(self):
        """The shipped agent, and a project of our own."""
        self.call("POST", "/api/v1/master/setup/erp-defaults", {})
        self.call("POST", "/api/v1/master/projects", {
            "project_id": PROJECT, "project_name": "Bench", "customer_name": "Bench", "quotas": QUOTAS})

    def agent(self, name, source, tools=(), **settings):
        """An agent with this workflow, and an instance of it; the instance's id."""
        path = urllib.parse.quote(f"agents/{name}/workflow.lua", safe="")
        self.call("PUT", f"/api/v1/master/scripts/{path}", {"source": source})
        self.call("POST", "/api/v1/master/agents", {"agent_id": name, "name": name, "tools": list(tools), "settings": settings})
        return self.call("POST", f"{BASE}/agent-instances", {"agent_id": name, "name": name})["instance_id"]


def version():
    return subprocess.run([KONTOR, "--version"], capture_output=True, text=True, check=False).stdout.strip()
