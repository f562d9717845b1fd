"""A project as one tar over HTTP: GET …/export, and POST /master/projects/import."""
import gzip
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
from conftest import eventually, serving

MASTER = "/api/v1/master"
EXPORT = "/api/v1/projects/acme/export"
BASE = "/api/v1/projects/acme/agent-instances"


def left_over(service):
    """What is on the disk of exports and imports under way."""
    return [p for what in ("exports", "jobs") if (service.data / what).exists() for p in (service.data / what).iterdir()]


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


# ---- in ----

IMPORT = f"{MASTER}/projects/import"
TAR = {"Content-Type": "application/x-tar"}


def send_in(api, data, project="copy", query="", **headers):
    return api.send("POST", f"{IMPORT}?project_id={project}{query}", raw=data, headers={**TAR, **headers})


def packed(members):
    """A tar of (name, bytes), and of TarInfo without bytes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for m in members:
            m, data = (m, b"") if isinstance(m, tarfile.TarInfo) else (tarfile.TarInfo(m[0]), m[1])
            m.size = len(data)
            tar.addfile(m, io.BytesIO(data))
    return out.getvalue()


def entry(name, kind, target=""):
    m = tarfile.TarInfo(name)
    m.type, m.linkname = kind, target
    return m


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A service with acme, and what its export has."""
    with serving(tmp_path_factory.mktemp("source")) as service:
        instance = service.erp()
        service.execute(instance)
        api = Client(service.port)
        dataset = api.ok("POST", "/api/v1/projects/acme/datasets", {"name": "June"})["dataset_id"]
        assert api.upload("acme", dataset, "t", b"a\n1\n").status == 200
        data = api.get(EXPORT).body
        files, manifest = files_of(data)
        yield service, api, data, files, manifest


def plain(files):
    """Documents by collection, without what is a service's own."""
    return {name.split("/")[1]: bson.decode_all(data) for name, data in files.items()
            if name.endswith(".bson") and not name.endswith(("kt_p_audit_log.bson", "kt_p_idempotency.bson"))}


def renamed(docs, old, new):
    return {name: [{k: new if k == "project_id" and v == old else v for k, v in d.items()} for d in list] for name, list in docs.items()}


def test_there_and_back(source):
    service, api, data, files, manifest = source
    answer = send_in(api, data)
    assert answer.status == 202 and answer.json["kind"] == "import" and answer.json["project_id"] == "copy", answer
    assert answer.headers["location"] == f"{MASTER}/jobs/{answer.json['job_id']}"
    service.ended_job(answer.json["job_id"])
    assert_nothing_left(service)
    again, its = files_of(api.get("/api/v1/projects/copy/export").body)
    assert its["project"]["project_id"] == "copy" and its["project"]["status"] == "active"
    assert plain(again) == renamed(plain(files), "acme", "copy")
    assert set(documents_of_audit(files, manifest)) <= set(documents_of_audit(again, its))
    entries = api.ok("GET", f"{MASTER}/audit-log?action=project.import")["data"]
    assert ("copy", "ok", answer.headers["x-request-id"]) in [(e["target_id"], e["outcome"], e["request_id"]) for e in entries]
    check_problem(send_in(api, data), 409, "already_exists")


def documents_of_audit(files, manifest):
    return [d["_id"] for d in documents(files, manifest, "kt_p_audit_log")]


@pytest.mark.parametrize("how", ["gnu", "python", "dots", "gzip", "encoded", "chunked"])
def test_tars_of_others(source, tmp_path, how):
    service, api, data, files, manifest = source
    headers = {}
    if how in ("gnu", "dots"):
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            tar.extractall(tmp_path)
        names = ["."] if how == "dots" else sorted(os.listdir(tmp_path))
        data = subprocess.run(["tar", "-cf", "-", "-C", tmp_path, *names], check=True, capture_output=True).stdout
        assert (b"./manifest.json" in data) == (how == "dots")
    elif how == "python":
        data = packed(files.items())
    elif how == "gzip":
        data, headers = gzip.compress(data), {"Content-Type": "application/gzip"}
    elif how == "encoded":
        data, headers = gzip.compress(data), {"Content-Encoding": "gzip"}
    else:
        data = iter([data[i:i + 7001] for i in range(0, len(data), 7001)])  # without a length
    answer = send_in(api, data, "by-" + how, **headers)
    assert answer.status == 202, answer
    service.ended_job(answer.json["job_id"])
    assert len(api.ok("GET", f"/api/v1/projects/by-{how}/datasets")["data"]) == 1
    assert_nothing_left(service)


def hostile(files, manifest):
    """name -> (bytes, words of the refusal)"""
    db, good = manifest["database"], list(files.items())
    one = f"{db}/kt_p_datasets.bson"
    changed = {**files, one: files[one][:-1] + b"\1"}
    longer = {**files, one: files[one] + b"\0"}
    less = {n: d for n, d in files.items() if n != one}
    other = json.loads(files["manifest.json"])
    data = packed(good)

    def with_manifest(**fields):
        return packed([*((n, d) for n, d in good if n != "manifest.json"), ("manifest.json", json.dumps({**other, **fields}).encode())])

    yield "up", packed([("../evil", b"x"), *good]), '"../evil"'
    yield "up inside", packed([(f"{db}/../../evil", b"x"), *good]), f'"{db}/../../evil"'
    yield "absolute", packed([("/etc/evil", b"x"), *good]), '"/etc/evil"'
    yield "symlink", packed([entry(one, tarfile.SYMTYPE, "/etc/passwd"), *good]), f'"{one}": is a symbolic link'
    yield "symlinked folder", packed([entry(db, tarfile.SYMTYPE, "/tmp"), *good]), f'"{db}"'
    yield "hard link", packed([*good, entry(f"{db}/kt_p_x.bson", tarfile.LNKTYPE, one)]), "is a hard link"
    yield "device", packed([entry(one, tarfile.CHRTYPE), *good]), f'"{one}": is a device'
    yield "pipe", packed([entry(one, tarfile.FIFOTYPE), *good]), f'"{one}": is a pipe'
    yield "folder for a file", packed([entry(one, tarfile.DIRTYPE), *good]), f'"{one}'
    yield "file for a folder", packed([(db, b"x"), *good]), f'"{db}"'
    yield "twice", packed([*good, (one, files[one])]), f'"{one}": is there twice'
    yield "twice with a dot", packed([("./" + one, files[one]), *good]), "is there twice"
    yield "unknown file", packed([*good, ("readme.txt", b"x")]), '"readme.txt"'
    yield "unknown in the folder", packed([(f"{db}/evil.sh", b"x"), *good]), f'"{db}/evil.sh"'
    yield "unknown collection", packed([(f"{db}/kt_p_more.bson", b""), *good]), f'"{db}/kt_p_more.bson": is not in the manifest'
    yield "another folder", packed([("other/kt_p_more.bson", b""), *good]), '"other/kt_p_more.bson": is not in the manifest'
    yield "not ASCII", packed([("k\u00f6nig.bson", b""), *good]), '"k??nig.bson"'
    yield "wrapped", packed([("acme/" + n, d) for n, d in good]), '"acme/'
    yield "changed", packed(changed.items()), f'"{one}": has another SHA-256'
    yield "longer", packed(longer.items()), f'"{one}": has {len(files[one]) + 1} bytes, in the manifest {len(files[one])}'
    yield "missing", packed(less.items()), f'"{one}": is missing'
    yield "no manifest", packed((n, d) for n, d in good if n != "manifest.json"), '"manifest.json": is missing'
    yield "manifest is no JSON", packed([*((n, d) for n, d in good if n != "manifest.json"), ("manifest.json", b"{")]), "manifest.json is no JSON"
    yield "other format", with_manifest(format=2), "manifest.json has format 2"
    yield "no collections", with_manifest(collections={}), "manifest.json has no collections"
    yield "up by the manifest", with_manifest(database="../" + db), "manifest.json has no name of a database"
    yield "cut in a file", data[:len(data) // 2], "cannot be read"
    yield "cut in a header", data[:700], "cannot be read"
    yield "cut between entries", data[:1024], "is missing"
    yield "cut gzip", gzip.compress(data)[:-2000], "cannot be read"
    yield "gzip in gzip", gzip.compress(gzip.compress(data)), "cannot be read"
    yield "empty", b"", "empty"
    yield "empty tar", bytes(10240), '"manifest.json": is missing'
    yield "no tar", b"hello\n" * 1000, "cannot be read"
    yield "an upload of JSON", json.dumps(manifest).encode(), "cannot be read"
    yield "many entries", packed((f"{db}/c{i}.bson", b"") for i in range(3000)), "more than 2000 entries"
    yield "many folders", packed(entry(f"{db}/", tarfile.DIRTYPE) for i in range(3000)), "more than 2000 entries"
    yield "a folder with content", folder_with_content(db, 1 << 20), ""  # which libarchive may take for the next header
    yield "a wrong number", data[:124] + b"99999999999\0" + data[136:], "cannot be read"


def folder_with_content(db, size):
    """What tarfile does not write."""
    m = entry(db + "/", tarfile.DIRTYPE)
    m.size = size
    return m.tobuf() + b"x" * size + bytes(1024)


def test_hostile_tars(source):
    service, api, _, files, manifest = source
    outside = {p for p in service.tmp.rglob("*") if "logs" not in p.parts}
    for name, data, words in hostile(files, manifest):
        answer = send_in(api, data, "hostile")
        problem = check_problem(answer, 422, "data_rejected")
        assert words in problem["detail"], (name, problem)
        assert str(service.data) not in problem["detail"], (name, "no path of the service's own")
        assert_nothing_left(service)
    assert {p for p in service.tmp.rglob("*") if "logs" not in p.parts} <= outside | {service.data / "jobs"}
    check_problem(api.get("/api/v1/projects/hostile/datasets"), 404, "not_found")
    assert "hostile" not in " ".join(service.databases())
    assert send_in(api, packed(files.items()), "hostile").status == 202, "its id is free"


def test_no_more_than_may_be(make_service, source):
    data, files, manifest = source[2:]
    limit = len(data) + 10000
    service = make_service(KONTOR_IMPORT_MAX_BYTES=limit).start()
    api = Client(service.port)
    db = manifest["database"]
    bomb = gzip.compress(packed([(f"{db}/kt_p_blobs.bson", bytes(40 << 20))]))
    assert len(bomb) < limit
    for name, body in (("inflated", bomb), ("announced", data + bytes(20000)), ("streamed", iter([data, bytes(20000)]))):
        problem = check_problem(send_in(api, body), 413, "body_too_large")
        assert "KONTOR_IMPORT_MAX_BYTES" in problem["detail"], name
        assert_nothing_left(service)
    # The same in a file that does not say how much is in it, and in one that says 16 GiB.
    large = tarfile.TarInfo(f"{db}/kt_p_blobs.bson")
    large.size = 16 << 30
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        check_problem(send_in(api, large.tobuf(form) + bytes(1 << 10)), 413, "body_too_large")
    assert send_in(api, data).status == 202


def test_a_sender_that_goes_away(source):
    service, api, data, _, _ = source
    for part in (0, 100, len(data) // 2, len(data) - 1):
        with socket.create_connection(("127.0.0.1", service.port), timeout=60) as s:
            s.sendall(f"POST {IMPORT}?project_id=gone HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-tar\r\n"
                      f"Content-Length: {len(data)}\r\n\r\n".encode() + data[:part])
            eventually(lambda: left_over(service), "it is received")
        assert_nothing_left(service)
    check_problem(api.get("/api/v1/projects/gone/datasets"), 404, "not_found")


def test_a_receiver_that_is_killed(make_service, source):
    data = source[2]
    service = make_service().start()
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as s:
        s.sendall(f"POST {IMPORT}?project_id=gone HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-tar\r\n"
                  f"Content-Length: {len(data)}\r\n\r\n".encode() + data[:-1])
        eventually(lambda: left_over(service), "it is received")
        os.kill(service.workers()[0], signal.SIGKILL)
        service.end_transactions()
        assert_nothing_left(service)


def test_who_may_import(make_service, source):
    data = source[2]
    service = make_service().start()
    root = Client(service.port, key=service.made(f"{MASTER}/api-keys", {"name": "root", "role": "admin", "projects": ["*"]})["api_key"])

    def key(role, project):
        made = root.ok("POST", f"{MASTER}/api-keys", {"name": "k", "role": role, "projects": [project]}, want=(201,))
        return Client(service.port, key=made["api_key"])

    check_problem(send_in(Client(service.port), data), 401, "unauthenticated")
    check_problem(send_in(key("author", "*"), data), 403, "forbidden")
    check_problem(send_in(key("admin", "default"), data), 403, "forbidden")
    check_problem(send_in(root, data, "No!"), 422, "validation_failed", project_id="pattern")
    check_problem(root.send("POST", IMPORT, raw=data, headers=TAR), 422, "validation_failed", project_id="required")
    check_problem(send_in(root, data, **{"Content-Type": "application/json"}), 415, "unsupported_media_type")
    check_problem(send_in(root, data, **{"Content-Encoding": "br"}), 415, "unsupported_media_type")
    check_problem(send_in(root, data, "default"), 409, "already_exists")
    # The same request again has the same answer, and another one is not taken for it.
    first = send_in(root, data, **{"Idempotency-Key": "one"})
    again = send_in(root, data, **{"Idempotency-Key": "one"})
    assert (first.status, again.json["job_id"], again.headers["idempotency-replayed"]) == (202, first.json["job_id"], "true")
    check_problem(send_in(root, data, "second", **{"Idempotency-Key": "one"}), 422, "idempotency_mismatch")
    assert_nothing_left(service)


def test_a_sender_that_does_not_wait(source):
    """All bytes are sent, the answer is not read: there is a project, or nothing at all."""
    service, api, data, _, _ = source
    for n in range(5):
        with socket.create_connection(("127.0.0.1", service.port), timeout=60) as s:
            s.sendall(f"POST {IMPORT}?project_id=fast-{n} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-tar\r\n"
                      f"Content-Length: {len(data)}\r\n\r\n".encode() + data[:-1])
            eventually(lambda: left_over(service), "it is received")
            s.sendall(data[-1:])
        assert_nothing_left(service)
        there = api.get(f"{MASTER}/projects/fast-{n}")
        assert there.status == 404 or there.json["status"] == "active", there
        assert (service.prefix + f"fast-{n}" in service.databases()) == (there.status == 200)


def test_a_worker_that_is_killed_while_it_loads(make_service, source):
    """The job goes on with what the request left."""
    data, files = source[2:4]
    service = make_service(KONTOR_FAULT="unit.loaded:1").start()
    job = send_in(Client(service.port), data).json["job_id"]
    eventually(lambda: any(e["msg"] == "signal 9" for e in service.events("worker.ended")), "the worker is killed")
    service.kill_supervisor()
    del service.env["KONTOR_FAULT"]
    service.start()
    service.ended_job(job)
    assert_nothing_left(service)
    again, _ = files_of(Client(service.port).get("/api/v1/projects/copy/export").body)
    assert plain(again) == renamed(plain(files), "acme", "copy")
