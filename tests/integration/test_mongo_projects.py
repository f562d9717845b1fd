"""Many projects: what the service holds open does not grow with them. 1,000 on SQLite, 200 on MongoDB."""
import contextlib
import signal
import statistics
import time
from pathlib import Path

import pytest
from mongo_server import Server

from conftest import MONGODB_NAMES, Service, eventually

FILES_OF_A_PROJECT = 30  # in WiredTiger, one a collection and one an index


def held(service):
    """(descriptors, threads, MB of memory) of the worker."""
    [pid] = service.workers()
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return len(list(Path(f"/proc/{pid}/fd").iterdir())), int(status["Threads"]), int(status["VmRSS"].split()[0]) / 1024


def many(service, count):
    """Make them, ask each; what was held when a fifth was there, and at the end."""
    service.made("/api/v1/master/setup/erp-defaults", {})
    before = None
    for n in range(count):
        service.made("/api/v1/master/projects", {"project_id": f"p-{n}", "project_name": "P", "customer_name": "C"})
        if n == count // 5:
            before = held(service)
    times = {}
    service.signal(signal.SIGHUP)  # a new worker knows none of them
    eventually(lambda: len(service.events("worker.started")) >= 2 and len(service.workers()) == 1, "a new worker alone")
    for turn in ("cold", "warm"):
        times[turn] = []
        for n in range(0, count, 4):
            began = time.monotonic()
            answer = service.get(f"/api/v1/projects/p-{n}/agent-instances")
            times[turn].append(time.monotonic() - began)
            assert answer.status == 200, answer.body
    after = held(service)
    for turn, seconds in times.items():
        print(f"first request to a {turn} project: {statistics.median(seconds) * 1000:.1f} ms, at most {max(seconds) * 1000:.0f} ms")
    print(f"{count} projects: descriptors, threads, MB {before} -> {after}")
    return before, after


@pytest.mark.parametrize("engine, count", [("sqlite", 1000), ("mongodb", 200)])
def test_many_projects(tmp_path, engine, count):
    with Server() if engine == "mongodb" else contextlib.nullcontext() as server:
        service = Service(tmp_path / "service", **({"MONGODB_URL": server.url} if server else {}))
        if server is None:
            service.env = {k: v for k, v in service.env.items() if k not in MONGODB_NAMES}
        try:
            service.start()
            before, after = many(service, count)
            # 128 databases are open at most, each with a few descriptors; threads and connections are as many as at first.
            assert max(before[0], after[0]) < (1000 if engine == "sqlite" else 60)
            assert after[1] <= before[1] + 4
            assert after[2] <= before[2] + 100
            if engine == "mongodb":
                with service.mongo() as client:
                    db = client[service.prefix + "p-1"]
                    colls = db.list_collection_names()
                    assert sum(1 + len(list(db[c].list_indexes())) for c in colls) <= FILES_OF_A_PROJECT, colls
            service.stop()
        finally:
            service.kill_all()
