"""The service under a steady mixed load for SOAK_SECONDS (1800): memory and descriptors stay flat, nothing is refused or lost.

What grows with what is stored (the page cache of the store is bounded) must not show: the last quarter is compared with
the second one, when all caches have filled."""
import gzip
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import websockets.sync.client

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "integration"))
from conftest import KONTOR, serving  # noqa: E402

SECONDS = int(os.environ.get("SOAK_SECONDS", "1800"))
P = "/api/v1/projects/acme"
WORKFLOW = """workflow { name = "steps", run = function(run, input)
  local out = {}
  for i = 1, 5 do time.sleep(0.01) out[i] = random() end
  parallel { function() time.sleep(0.01) end, function() return #data.list("dataset", {}) end }
  return out
end } -- %d
"""


@pytest.fixture
def service(tmp_path):
    with serving(tmp_path / "service") as made:
        yield made


def sample(pid):
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return {"rss": int(status["VmRSS"].split()[0]), "threads": int(status["Threads"]), "fds": len(os.listdir(f"/proc/{pid}/fd"))}


class Clients:
    """Each kind of client goes round until the time is over; the first failure ends them all."""

    def __init__(self, service, company):
        self.service, self.company = service, company
        self.erp = service.erp()
        service.made("/api/v1/master/agents", {"agent_id": "steps", "name": "Steps"})
        self.push(0)
        self.steps = service.made(f"{P}/agent-instances", {"agent_id": "steps", "name": "S"})["instance_id"]
        service.request("PUT", "/api/v1/master/projects/acme", {
            "project_name": "P", "customer_name": "C", "quotas": {"datasets": 100000, "requests_per_minute": 1000000}})
        self.ends = time.monotonic() + SECONDS
        self.done, self.faults = {}, []

    def push(self, n):
        answer = self.service.request("PUT", "/api/v1/master/scripts/agents%2Fsteps%2Fworkflow.lua", {"source": WORKFLOW % n})
        assert answer.status == 200, answer.body

    def execution(self, n):
        assert self.service.execute(self.steps)["status"] == "completed"

    def followed(self, n):
        run = self.service.execute(self.steps, wait=False)["execution_id"]
        with websockets.sync.client.connect(f"ws://127.0.0.1:{self.service.port}/ws/execution/{run}") as socket:
            last = json.loads(list(socket)[-1])
        assert last["type"] == "execution.completed", last

    def reads(self, n):
        for path in (f"{P}/executions?limit=50", f"{P}/agent-instances", "/metrics", f"{P}/audit-log"):
            assert self.service.get(path).status == 200, path
        assert self.service.post(f"{P}/executions", {"nothing": 1}).status == 422

    def analysis(self, n):
        dataset = self.service.made(f"{P}/datasets", {"name": f"d{n}", "as_of": "2025-06-30"})["dataset_id"]
        for path in sorted(self.company.glob("*.csv")):
            answer = self.service.request("PUT", f"{P}/datasets/{dataset}/tables/{path.name}", gzip.compress(path.read_bytes()),
                                          {"Content-Type": "text/csv", "Content-Encoding": "gzip"})
            assert answer.status == 200, answer.body
        self.service.made(f"{P}/datasets/{dataset}/seal", {})
        run = self.service.execute(self.erp, input_data={"dataset_id": dataset})
        assert run["status"] == "completed" and run["result"]["metrics"]["findings"] > 0
        assert self.service.get(f"{P}/executions/{run['execution_id']}/report").status == 200

    def scripts(self, n):
        self.push(n + 1)

    def broken(self, n):
        """Clients that leave in the middle."""
        run = self.service.execute(self.steps, wait=False)["execution_id"]
        with websockets.sync.client.connect(f"ws://127.0.0.1:{self.service.port}/ws/execution/{run}") as socket:
            socket.socket.close()

    def run(self, kind, pause):
        n = 0
        while time.monotonic() < self.ends and not self.faults:
            try:
                getattr(self, kind)(n)
            except BaseException as fault:  # noqa: BLE001 - reported by the test
                self.faults.append(f"{kind} {n}: {fault!r}")
                return
            n += 1
            self.done[kind] = n
            time.sleep(pause)


def test_it_stays_flat(service, tmp_path):
    company = tmp_path / "company"
    subprocess.run([KONTOR, "demo-data", "--out", company, "--n", "200"], check=True, capture_output=True)
    (company / "labels.csv").unlink()
    clients = Clients(service, company)
    [worker] = service.workers()
    plan = [("execution", 0.05), ("execution", 0.05), ("followed", 0.1), ("reads", 0.2), ("analysis", 2), ("scripts", 1), ("broken", 0.5)]
    threads = [threading.Thread(target=clients.run, args=one) for one in plan]
    for thread in threads:
        thread.start()
    samples = []
    while any(thread.is_alive() for thread in threads):
        samples.append(sample(worker))
        time.sleep(SECONDS / 400)
    assert not clients.faults
    quarter = len(samples) // 4
    before, after = samples[quarter:2 * quarter], samples[-quarter:]
    for what, slack in (("rss", 6 * 1024), ("fds", 4), ("threads", 0)):
        was, now = max(s[what] for s in before), max(s[what] for s in after)
        print(f"{what}: at most {was} in the second quarter, {now} in the last")
        assert now <= was * 1.05 + slack, (what, was, now)
    print(", ".join(f"{kind} {n}" for kind, n in sorted(clients.done.items())))
    assert service.workers() == [worker]
