"""kill -9 of the worker and of the supervisor in mid-run, at random points: nothing that was accepted
is lost without a word, no half result is seen, the store stays whole. STORM: rounds (20)."""
import http.client
import json
import os
import random
import signal
import subprocess
import threading
import time

import pytest

from conftest import KONTOR, eventually

ROUNDS = int(os.environ.get("STORM", "20"))
ENDED = ("completed", "failed", "cancelled", "timed_out")
BASE = "/api/v1/projects/acme"


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "company"
    subprocess.run([KONTOR, "demo-data", "--out", str(folder), "--n", "600"], check=True, timeout=120,
                   cwd=tmp_path, stdout=subprocess.DEVNULL)
    return folder


def upload(service, folder):
    as_of = json.loads((folder / "manifest.json").read_text())["as_of"]
    dataset = service.made(f"{BASE}/datasets", {"name": "company", "mapping": "identity", "as_of": as_of})["dataset_id"]
    for path in sorted(folder.glob("*.csv")):
        if path.name != "labels.csv":
            answer = service.request("PUT", f"{BASE}/datasets/{dataset}/tables/{path.name}", path.read_bytes(),
                                     {"Content-Type": "text/csv"})
            assert answer.status in (200, 201), answer.body
    service.made(f"{BASE}/datasets/{dataset}/seal", {})
    return dataset


class Clients:
    """Threads that start executions as fast as they are answered; what was accepted."""

    def __init__(self, service, instance, count=2):
        self.service, self.instance, self.running = service, instance, True
        self.accepted, self.refused = [], []
        self.threads = [threading.Thread(target=self.run) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def run(self):
        while self.running:
            try:
                answer = self.service.post(f"{BASE}/executions", {"instance_id": self.instance, "input_data": {}})
                if answer.status == 202:
                    self.accepted.append(answer.json()["execution_id"])
                elif answer.status not in (429, 503):
                    self.refused.append((answer.status, answer.body))
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)  # killed in between: not accepted
            time.sleep(0.25)

    def stop(self):
        self.running = False
        for thread in self.threads:
            thread.join()


def check_ended(service, execution):
    """One result, of the status that the execution has; numbered events without a gap to the end."""
    doc = service.get(f"{BASE}/executions/{execution}").json()
    assert doc["status"] in ENDED, doc
    if doc["status"] != "completed":
        assert doc["stop_reason"] == "worker_lost", doc
    result = service.get(f"{BASE}/executions/{execution}/result")
    assert result.status == 200 and result.json()["status"] == doc["status"], (doc, result.body)
    stream = service.get(f"{BASE}/executions/{execution}/events").body.decode()
    seqs = [int(line[3:]) for line in stream.splitlines() if line.startswith("id:")]
    assert seqs == list(range(1, doc["last_seq"] + 1)), (doc, seqs)
    report = service.get(f"{BASE}/executions/{execution}/report")
    if doc["status"] == "completed":
        assert report.status == 200 and report.json()["summary"]["total"], report.body
    return doc["status"]


def test_kills_at_random_points(make_service, data):
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    print(f"seed {seed}")
    service = make_service().start()
    instance = service.erp()
    upload(service, data)
    service = service
    accepted, counts = [], {}
    for round_number in range(ROUNDS):
        clients = Clients(service, instance)
        time.sleep(chance.uniform(0.05, 2.0))
        if round_number % 2:
            service.process.kill()
            service.process.wait()
            clients.stop()
            service.start()
        else:
            for pid in service.workers():
                os.kill(pid, signal.SIGKILL)
            clients.stop()
        assert not clients.refused, clients.refused[:3]
        eventually(lambda: service.get("/ready").status == 200, "it is ready again")

        def left():
            docs = [service.get(f"{BASE}/executions/{e}") for e in clients.accepted]
            assert all(d.status == 200 for d in docs), "an accepted execution is gone"
            return [d.json() for d in docs if d.json()["status"] not in ENDED]
        eventually(lambda: not left(), "all that was accepted has ended")
        for execution in clients.accepted:
            status = check_ended(service, execution)
            counts[status] = counts.get(status, 0) + 1
        accepted += clients.accepted
    assert len(accepted) == len(set(accepted)) and counts.get("completed"), counts
    print(f"{ROUNDS} rounds, {len(accepted)} executions: {counts}")
    service.stop()
    check = subprocess.run([KONTOR, "db", "check"], env=service.env, cwd=service.tmp, timeout=120, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert check.returncode == 0, check.stdout
