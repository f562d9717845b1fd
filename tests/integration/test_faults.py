"""What the machine may run out of: the service says so, loses nothing that it accepted, and goes on."""
import os
import resource
import socket
import subprocess
import threading

import pytest

from conftest import KONTOR, eventually

P = "/api/v1/projects/acme"


@pytest.fixture
def tmpfs(tmp_path):
    """tmpfs(size) -> a folder on a disk of its own, of that size."""
    made = []

    def make(size):
        folder = tmp_path / f"disk{len(made)}"
        folder.mkdir()
        if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]).returncode != 0:
            pytest.skip("a tmpfs cannot be mounted here")
        made.append(folder)
        return folder
    yield make
    for folder in made:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(folder):
    with open(folder / "filler", "wb", buffering=0) as f, pytest.raises(OSError):
        while True:
            f.write(b"x" * 4096)


def datasets(service):
    return {d["name"] for d in service.get(f"{P}/datasets?limit=500").json()["data"]}


def test_no_file_descriptor_is_left(make_service):
    service = make_service().start()
    instance = service.erp()
    [worker] = service.workers()
    used = len(os.listdir(f"/proc/{worker}/fd"))
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (used + 20, used + 20))
    idle = []
    for _ in range(100):
        s = socket.create_connection(("127.0.0.1", service.port), timeout=5)
        idle.append(s)
        try:
            s.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")  # a head that does not end: it is kept
        except OSError:
            pass  # one too many: it was turned away
    for s in idle:
        s.close()

    def answers():
        try:
            return service.get("/health").status == 200
        except OSError:
            return False  # it has not seen yet that those are closed
    eventually(answers, "it answers again")
    run = service.execute(instance)  # an analyst needs pipes
    assert run["status"] == "completed", run["error"]
    assert service.workers() == [worker], "the worker did not fall over it"
    eventually(lambda: len(os.listdir(f"/proc/{worker}/fd")) <= used + 2, "no descriptor leaks")


@pytest.mark.skipif("asan" in KONTOR, reason="the sanitizer itself needs the memory")
def test_no_memory_is_left(make_service):
    """A worker at the end of its memory answers an error or is replaced; what was accepted is there."""
    service = make_service().start()
    service.erp()
    [worker] = service.workers()
    pages = int(open(f"/proc/{worker}/statm").read().split()[0])
    limit = pages * resource.getpagesize() + 6 * 1048576
    resource.prlimit(worker, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    accepted, others = set(), []
    body = {"metadata": {f"k{i}": "v" * 1000 for i in range(60)}}

    def post(n):
        for i in range(10):
            try:
                answer = service.post(f"{P}/datasets", {"name": f"{n}-{i}", **body})
            except OSError:
                others.append("gone")
                continue
            if answer.status == 201:
                accepted.add(f"{n}-{i}")
            else:
                others.append(answer.status)
    threads = [threading.Thread(target=post, args=(n,)) for n in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(other == "gone" or other >= 500 for other in others), others
    if service.workers() == [worker]:
        resource.prlimit(worker, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    eventually(lambda: service.get("/ready").status == 200, "it serves, the same worker or the next")
    assert accepted <= datasets(service)
    service.kill_all()  # its worker may have been shot: how it ends is not the point here
    service.process = None


def test_the_disk_of_the_reports_is_full(make_service, tmpfs):
    disk = tmpfs("64k")
    service = make_service(ERP_REPORTS_DIRECTORY=disk / "reports").start()
    instance = service.erp()
    fill(disk)
    run = service.execute(instance)
    assert run["status"] == "completed", "the copy is not the report"
    assert [w["code"] for w in run["result"]["warnings"] if w["code"] == "storage_full"], run["result"]["warnings"]
    assert run["result"]["report"]["path"] is None
    assert service.get(f"{P}/executions/{run['execution_id']}/report").status == 200
    assert not list((disk / "reports").rglob("*.json")), "no half copy"


def test_the_disk_of_the_logs_is_full(make_service, tmpfs):
    disk = tmpfs("64k")
    service = make_service(KONTOR_LOG_DIR=disk / "logs").start()
    instance = service.erp()
    fill(disk)
    for _ in range(20):
        assert service.execute(instance)["status"] == "completed"
    (disk / "filler").unlink()
    before = (disk / "logs" / "executions.log").stat().st_size
    assert service.execute(instance)["status"] == "completed"
    assert (disk / "logs" / "executions.log").stat().st_size > before, "it is written again"


@pytest.mark.parametrize("fault, status", [("store.write:3", 507), ("store.fsync:8", 503)])
def test_a_write_of_the_store_fails(make_service, fault, status):
    """At any place the change is refused as a whole and the next one is taken. Its start syncs a few times."""
    service = make_service().start()
    service.erp()
    service.stop()
    service = make_service(KONTOR_DATA_DIR=service.data, KONTOR_FAULT=fault).start()
    seen = {}
    for i in range(12):
        answer = service.post(f"{P}/datasets", {"name": f"d{i}"})
        seen[f"d{i}"] = answer.status
    refused = {name for name, code in seen.items() if code >= 500}
    assert refused and {seen[name] for name in refused} <= {500, 503, 507}, seen
    assert {name for name, code in seen.items() if code == 201} <= datasets(service)


def test_an_analyst_cannot_be_started(make_service):
    service = make_service(KONTOR_FAULT="child.spawn:1").start()
    instance = service.erp()
    run = service.execute(instance)
    assert run["status"] == "failed" and run["error"]["code"] != "script_error", run["error"]
    assert service.execute(instance)["status"] == "completed"
