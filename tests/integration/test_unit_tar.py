"""A project as one tar over HTTP: GET …/export, and POST /master/projects/import."""
import hashlib
import io
import json
import os
import signal
import socket
import subprocess
import tarfile
import threading

import bson
import pytest

from client import Client, check_problem
from conftest import eventually

MASTER = "/api/v1/master"
EXPORT = "/api/v1/projects/acme/export"
BASE = "/api/v1/projects/acme/agent-instances"


def left_over(service):
    """What is on the disk of exports and imports under way."""
    return [p for what in ("exports", "imports") if (service.data / what).exists() for p in (service.data / what).iterdir()]


def assert_nothing_left(service):
    eventually(lambda: not left_over(service), f"nothing is left: {left_over(service)}")


def files_of(data):
    """A tar's files by name, checked against its manifest; the manifest."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        files = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}
        assert all(m.isfile() for m in tar.getmembers()) and len(files) == len(tar.getmembers())
    manifest = json.loads(files["manifest.json"])
    names = {"manifest.json"}
    for c in manifest["collections"]:
        for end, size, sha256 in ((".bson", "bytes", "sha256"), (".metadata.json", "metadata_bytes", "metadata_sha256")):
            name = f"{manifest['database']}/{c['name']}{end}"
            assert (len(files[name]), hashlib.sha256(files[name]).hexdigest()) == (c[size], c[sha256])
            names.add(name)
        assert len(bson.decode_all(files[f"{manifest['database']}/{c['name']}.bson"])) == c["documents"]
    assert set(files) == names
    return files, manifest


def documents(files, manifest, collection):
    return bson.decode_all(files[f"{manifest['database']}/{collection}.bson"])


@pytest.fixture
def acme(make_service):
    service = make_service().start()
    service.erp()
    return service


def large(service):
    """Acme gets a table of 28 MB, so that its export does not fit into a socket."""
    api = Client(service.port)
    dataset = api.ok("POST", "/api/v1/projects/acme/datasets", {})["dataset_id"]
    rows = b"".join(b"%x\n" % (i * 2654435761 % 2**64) for i in range(2_000_000))
    assert api.upload("acme", dataset, "t", b"a\n" + rows).status == 200


def test_export_while_the_project_works(acme, tmp_path):
    api, acknowledged, stop = Client(acme.port), [], threading.Event()

    def write():
        while not stop.is_set():
            acknowledged.append(acme.made(BASE, {"agent_id": "erp-exception-management", "name": "n"})["instance_id"])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        eventually(lambda: len(acknowledged) >= 20 or not writer.is_alive(), "writes")
        before = list(acknowledged)
        answer = api.get(EXPORT)
    finally:
        stop.set()
        writer.join()
    assert answer.status == 200 and answer.headers["content-type"] == "application/x-tar"
    assert int(answer.headers["content-length"]) == len(answer.body)
    files, manifest = files_of(answer.body)
    time = manifest["at"][:19].replace("-", "").replace(":", "")
    assert answer.headers["content-disposition"] == f'attachment; filename="acme-{time}Z.tar"'
    assert manifest["project"]["project_id"] == "acme" and manifest["database"] == acme.prefix + "acme"
    heads = {d["_id"] for d in documents(files, manifest, "kt_p_agent_instances")}
    assert set(before) <= heads, "what was acknowledged before is in it"
    # An instance, its version and its line in the audit log are one commit: all of them are there, or none.
    audited = documents(files, manifest, "kt_p_audit_log")
    assert heads == {d["target_id"] for d in audited if d["action"] == "agent_instance.create"}

    (tmp_path / "a.tar").write_bytes(answer.body)
    subprocess.run(["tar", "-xf", tmp_path / "a.tar", "-C", tmp_path], check=True)
    for name, data in files.items():
        assert (tmp_path / name).read_bytes() == data

    entries = api.ok("GET", f"{MASTER}/audit-log?action=project.export")["data"]
    assert [(e["target_type"], e["target_id"], e["outcome"], e["actor"]) for e in entries] == [("project", "acme", "ok", "dev")]
    assert entries[0]["request_id"] == answer.headers["x-request-id"]
    assert_nothing_left(acme)


def test_export_of_a_large_project(acme):
    large(acme)
    answer = Client(acme.port).get(EXPORT)
    files, manifest = files_of(answer.body)
    assert len(answer.body) > 20 * 10**6 and documents(files, manifest, "kt_p_blobs")
    assert_nothing_left(acme)


def begin(service):
    """An export whose first bytes have come; the socket."""
    s = socket.create_connection(("127.0.0.1", service.port), timeout=60)
    s.sendall(f"GET {EXPORT} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert s.recv(1000).startswith(b"HTTP/1.1 200 ")
    return s


def test_a_client_that_goes_away(acme):
    large(acme)
    for _ in range(3):
        with begin(acme):
            assert left_over(acme)
        assert_nothing_left(acme)
    # Also one that does not wait for the first byte.
    for _ in range(10):
        with socket.create_connection(("127.0.0.1", acme.port)) as s:
            s.sendall(f"GET {EXPORT} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert_nothing_left(acme)
    assert Client(acme.port).get(EXPORT).status == 200


def test_a_worker_takes_two_at_once(acme):
    large(acme)
    with begin(acme), begin(acme):
        problem = check_problem(Client(acme.port).get(EXPORT), 429, "concurrency_limited")
        assert problem["retryable"]
    eventually(lambda: Client(acme.port).get(EXPORT).status == 200, "the next one")
    assert_nothing_left(acme)


def test_a_killed_worker_leaves_what_the_next_one_removes(acme):
    large(acme)
    with begin(acme) as s:
        os.kill(acme.workers()[0], signal.SIGKILL)
        assert sum(len(data) for data in iter(lambda: s.recv(1 << 20), b"")) < 20 * 10**6
    acme.end_transactions()
    assert_nothing_left(acme)
    # One that works is not touched by another worker's start.
    eventually(lambda: acme.workers() and len(acme.events("worker.started")) == 2, "a new worker")


def test_another_workers_export_is_left_alone(make_service):
    service = make_service(KONTOR_WORKERS=2).start()
    service.erp()
    large(service)
    with begin(service) as s:
        place = [p for p in left_over(service) if p.is_dir()]
        holder = next(pid for pid in service.workers() for fd in os.listdir(f"/proc/{pid}/fd")
                      if os.readlink(f"/proc/{pid}/fd/{fd}") == f"{place[0]}.part")
        os.kill(next(pid for pid in service.workers() if pid != holder), signal.SIGKILL)
        eventually(lambda: len(service.events("worker.started")) == 3, "a new worker")
        service.end_transactions()
        s.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        rest = b"".join(iter(lambda: s.recv(1 << 20), b""))
        assert b"\r\n\r\n{" in rest[-4000:], "the export was sent to its end, and then the next answer"
    assert_nothing_left(service)


def test_a_drain_ends_it(acme):
    large(acme)
    s = begin(acme)
    acme.stop()
    s.close()
    assert not left_over(acme)


@pytest.mark.parametrize("fault", ["store.export:1", "store.export:3"])
def test_export_that_fails(make_service, fault):
    service = make_service(KONTOR_FAULT=fault).start()
    service.erp()
    check_problem(Client(service.port).get(EXPORT), 507, "storage_full")
    assert_nothing_left(service)
    assert not Client(service.port).ok("GET", f"{MASTER}/audit-log?action=project.export")["data"]


def test_who_may(acme):
    acme.made(f"{MASTER}/projects", {"project_id": "other", "project_name": "O", "customer_name": "C"})
    root = Client(acme.port, key=acme.made(f"{MASTER}/api-keys", {"name": "root", "role": "admin", "projects": ["*"]})["api_key"])

    def key(role, *projects):
        made = root.ok("POST", f"{MASTER}/api-keys", {"name": "k", "role": role, "projects": list(projects)}, want=(201,))
        return Client(acme.port, key=made["api_key"])

    check_problem(Client(acme.port).get(EXPORT), 401, "unauthenticated")
    for role in ("viewer", "operator", "author"):
        check_problem(key(role, "acme").get(EXPORT), 403, "forbidden")
    check_problem(key("admin", "other").get(EXPORT), 404, "not_found")
    for project in ("nobody", "No!"):
        check_problem(root.get(f"/api/v1/projects/{project}/export"), 404, "not_found")
    files_of(key("admin", "acme").get(EXPORT).body)
    head = root.send("HEAD", EXPORT)
    assert (head.status, head.body, head.headers["content-type"]) == (200, b"", "application/x-tar")
    check_problem(root.get(EXPORT, headers={"Accept": "application/json"}), 406, "not_acceptable")
    assert_nothing_left(acme)
