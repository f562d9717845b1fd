"""Resumable uploads: any break, any offset; whole or not at all; in constant memory."""
import base64
import gzip
import hashlib
import os
import random
import re
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from client import Client, check_problem
from conftest import KONTOR, ROOT, eventually

DATASETS = "/api/v1/projects/default/datasets"
CSV = {"Content-Type": "text/csv"}


def rows(n, width=40):
    """A table of n rows that compresses badly enough."""
    rng = random.Random(n)
    return b"id,text\n" + b"".join(b"%d,%s\n" % (i, rng.randbytes(width // 2).hex().encode()) for i in range(n))


def digest(data):
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


class Uploads(Client):
    def __init__(self, port, project="default"):
        super().__init__(port)
        self.project = project
        self.datasets = f"/api/v1/projects/{project}/datasets"

    def new(self):
        self.dataset = self.ok("POST", self.datasets, {}, want=(201,))["dataset_id"]
        return self

    def path(self, name="t.csv"):
        return f"{self.datasets}/{self.dataset}/tables/{name}"

    def part(self, data, offset=None, complete=False, name="t.csv", **headers):
        sent = {**CSV, "Upload-Complete": "?1" if complete else "?0"}
        if offset is not None:
            sent["Upload-Offset"] = str(offset)
        sent.update({k.replace("_", "-"): str(v) for k, v in headers.items()})
        return self.put(self.path(name), raw=data, headers=sent)

    def state(self, name="t.csv"):
        """(offset, complete) of HEAD."""
        answer = self.send("HEAD", self.path(name))
        assert answer.status in (200, 204), answer
        return int(answer.headers["upload-offset"]), answer.headers["upload-complete"] == "?1"

    def tables(self):
        return self.ok("GET", f"{self.datasets}/{self.dataset}", want=(200,))["tables"]

    def broken(self, data, offset, n, name="t.csv", **headers):
        """Promise all of data, send n bytes, cut the connection."""
        lines = {**CSV, "Upload-Complete": "?1", "Upload-Offset": offset, **{k.replace("_", "-"): v for k, v in headers.items()}}
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as s:
            s.sendall((f"PUT {self.path(name)} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n"
                       + "".join(f"{k}: {v}\r\n" for k, v in lines.items()) + "\r\n").encode())
            s.sendall(data[:n])
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    def used(self):
        answer = self.ok("GET", f"/api/v1/projects/{self.project}/quotas", want=(200,))
        return {q["name"]: q["used"] for q in answer["quotas"]}["storage_bytes"]


def check(service):
    """`kontor db check`: the account of storage among the rest."""
    done = subprocess.run([KONTOR, "db", "check"], env=service.env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def left_files(service, api):
    """Files of uploads to the dataset, or of tables that are being entered."""
    folder = Path(service.env["KONTOR_DATA_DIR"]) / "uploads" / api.project
    return [f.name for f in folder.glob("*") if f.name.startswith((api.dataset, "put-"))]


@pytest.fixture
def api(service):
    made = Uploads(service.port)
    made.put("/api/v1/master/projects/default", {"project_name": "D", "customer_name": "D", "quotas": {"requests_per_minute": 100000}})
    yield made.new()
    check(service)


def test_in_three_parts(api, service):
    data = rows(1000)
    before = api.used()
    check_problem(api.get(api.path()), 404, "not_found")
    answer = api.part(data[:10000])
    assert (answer.status, answer.headers["upload-offset"], answer.headers["upload-complete"]) == (204, "10000", "?0"), answer
    assert api.state() == (10000, False) and api.tables() == [] and api.used() - before == 10000
    assert api.get(api.path()).status == 204
    assert api.part(data[10000:20000], 10000).headers["upload-offset"] == "20000"
    answer = api.part(data[20000:], 20000, True, Upload_Length=len(data), Repr_Digest=digest(data))
    assert answer.status == 200 and answer.headers["upload-complete"] == "?1", answer
    assert (answer.json["rows"], answer.json["bytes"], answer.json["sha256"]) == (1000, len(data), hashlib.sha256(data).hexdigest())
    assert api.tables() == [answer.json] == [api.get(api.path()).json] and api.state() == (len(data), True)
    assert api.used() - before == len(data) and not left_files(service, api)


def test_offsets_that_are_not_its_own(api):
    check_problem(api.part(b"x", 7), 409, "conflict")
    data = rows(100)
    api.part(data[:1000])
    for wrong in (0, 999, 1001, 10**15 - 1):
        answer = api.part(data[1000:], wrong, True)
        assert check_problem(answer, 409, "conflict")["detail"] and answer.headers["upload-offset"] == "1000"
    assert api.state() == (1000, False)
    for bad in ("-1", "x", "1.0", "9" * 16, ""):
        check_problem(api.part(b"x", bad), 422, "validation_failed", fields={"Upload-Offset": "format"})
    check_problem(api.put(api.path(), raw=b"x", headers={**CSV, "Upload-Offset": "1000"}), 422, "validation_failed",
                  fields={"Upload-Complete": "required"})
    check_problem(api.put(api.path(), raw=b"x", headers={**CSV, "Upload-Complete": "yes"}), 422, "validation_failed",
                  fields={"Upload-Complete": "format"})
    check_problem(api.part(b"x", 1000, Content_Type="application/x-ndjson"), 422, "validation_failed", fields={"Content-Type": "immutable"})
    check_problem(api.part(b"x", 1000, Content_Encoding="gzip"), 422, "validation_failed", fields={"Content-Encoding": "immutable"})
    check_problem(api.part(data[1000:], 1000, True, Upload_Length=1), 422, "validation_failed", fields={"Upload-Length": "invalid"})
    # It is all there now; the length was wrong. To have it entered, no more bytes are needed.
    assert api.state() == (len(data), False)
    assert api.part(b"", len(data), True).json["rows"] == 100


def test_without_an_offset_it_begins_anew(api):
    api.part(b"junk" * 1000)
    data = rows(10)
    assert api.part(data[:50]).headers["upload-offset"] == "50"
    assert api.part(data[50:], 50, True).json["sha256"] == hashlib.sha256(data).hexdigest()
    # The table that is there stays until the next one is whole.
    api.part(b"a,b\n", 0)
    assert [t["sha256"] for t in api.tables()] == [hashlib.sha256(data).hexdigest()] and api.state() == (4, False)
    assert api.send("DELETE", api.path()).status == 204 and api.state() == (len(data), True)
    check_problem(api.send("DELETE", api.path()), 404, "not_found")


def test_digests(api, service):
    data = rows(100)
    check_problem(api.part(data[:100], Content_Digest=digest(data[:99])), 422, "validation_failed", fields={"Content-Digest": "invalid"})
    assert api.state() == (0, False)
    check_problem(api.part(data[:100], 0, Content_Digest="sha-256=:AAAA:"), 422, "validation_failed", fields={"Content-Digest": "format"})
    check_problem(api.part(b"x", "-1"), 422, "validation_failed", fields={"Upload-Offset": "format"})
    assert api.part(data[:100], 0, Content_Digest=f"{digest(data[:100])}, sha-512=:AAAA:").status == 204
    assert api.part(data[100:200], 100, Content_Digest=digest(data[100:200])).status == 204
    check_problem(api.part(data[200:], 200, True, Repr_Digest=digest(data[200:])), 422, "validation_failed",
                  fields={"Repr-Digest": "invalid"})
    check_problem(api.get(api.path()), 404, "not_found")
    # In one request too.
    for header in ("Content-Digest", "Repr-Digest"):
        check_problem(api.put(api.path(), raw=data, headers={**CSV, header: digest(b"")}), 422, "validation_failed", fields={header: "invalid"})
        assert api.put(api.path(), raw=data, headers={**CSV, header: digest(data)}).status == 200
    eventually(lambda: not left_files(service, api), "nothing is left")


@pytest.mark.parametrize("zipped", [False, True])
def test_connections_that_break_anywhere(api, service, zipped):
    data = rows(60000)
    sent = gzip.compress(data, 1) if zipped else data
    more = {"Content_Encoding": "gzip"} if zipped else {}
    rng = random.Random(7)
    offset, breaks = 0, 0
    assert api.part(b"", **more).status == 204
    while breaks < 12:
        api.broken(sent[offset:], offset, rng.randrange(len(sent) // 10), **more)
        breaks += 1
        now, whole = api.state()
        assert offset <= now <= len(sent) and not whole
        offset = now
    answer = api.part(sent[offset:], offset, True, Repr_Digest=digest(sent), **more)
    assert answer.status == 200, answer
    assert (answer.json["rows"], answer.json["sha256"]) == (60000, hashlib.sha256(data).hexdigest())
    assert not left_files(service, api)


def test_the_newest_request_goes_on(api):
    """One whose client is gone, as far as the network tells, does not hold up the next."""
    data, before = rows(1001), api.used()
    with socket.create_connection(("127.0.0.1", api.port), timeout=60) as s:
        s.sendall((f"PUT {api.path()} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\nUpload-Complete: ?1\r\n"
                   f"Content-Length: {len(data)}\r\n\r\n").encode() + data[:5000])
        eventually(lambda: api.used() > before, "the first bytes are there")
        answer = api.part(data, 0, True)
        assert answer.status == 409 and 0 < int(answer.headers["upload-offset"]) <= 5000, answer
        offset = int(answer.headers["upload-offset"])
        answer = api.part(data[offset:], offset, True)
        assert answer.status == 200 and answer.json["sha256"] == hashlib.sha256(data).hexdigest(), answer
        assert b" 409 " in s.recv(1000).split(b"\r\n")[0]


def test_many_at_once(api, service):
    """Of one table: one after the other, whole; of many tables: all of them."""
    data = [rows(200 + i) for i in range(8)]
    answers = [None] * 8

    def same(i):
        answers[i] = api.put(api.path(), raw=data[i], headers=CSV)

    def own(i):
        api.part(data[i][:1000], name=f"own{i}.csv")
        answers[i] = api.part(data[i][1000:], 1000, True, name=f"own{i}.csv")
    for work in (same, own):
        threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        assert [a.status for a in answers] == [200] * 8, answers
    entered = {t["name"]: t["sha256"] for t in api.tables()}
    assert entered.pop("t.csv") in {hashlib.sha256(d).hexdigest() for d in data}
    assert entered == {f"own{i}.csv": hashlib.sha256(d).hexdigest() for i, d in enumerate(data)}
    eventually(lambda: not left_files(service, api), "nothing is left")


def test_many_at_once_with_several_workers(make_service):
    """All of them change one account; whose transaction meets another's waits and is made."""
    service = make_service(KONTOR_WORKERS=4).start()
    api = Uploads(service.port).new()
    data, answers = [rows(100 + n) for n in range(36)], []

    def own(i):
        for n in range(i, 36, 12):
            answers.append(api.part(data[n], complete=True, name=f"own{n}.csv"))
    threads = [threading.Thread(target=own, args=(i,)) for i in range(12)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert [a.status for a in answers] == [200] * 36, [a for a in answers if a.status != 200][:3]
    assert len(api.tables()) == 36 and api.used() == sum(map(len, data))
    check(service)


def test_what_is_no_table_leaves_nothing(api, service):
    before = api.used()
    check_problem(api.part(b'"open', complete=True), 422, "data_rejected")
    api.part(gzip.compress(rows(100))[:500], Content_Encoding="gzip")
    check_problem(api.part(b"junk" * 100, 500, True, Content_Encoding="gzip"), 422, "data_rejected")
    check_problem(api.get(api.path()), 404, "not_found")
    assert api.tables() == [] and api.used() == before and not left_files(service, api)


def test_sealing_forgets_what_is_on_its_way(api, service):
    before = api.used()
    api.part(rows(123), complete=True)
    api.part(rows(123)[:1000], name="late.csv")
    api.ok("POST", f"{DATASETS}/{api.dataset}/seal", {}, want=(200,))
    check_problem(api.part(b"x", 1000, True, name="late.csv"), 409, "dataset_sealed")
    eventually(lambda: not left_files(service, api), "the upload is gone")
    eventually(lambda: api.used() - before == len(rows(123)), "its reservation is gone")
    check_problem(api.get(api.path("late.csv")), 404, "not_found")


def test_bytes_are_freed_when_nothing_has_them(api):
    a, b = rows(300), rows(400)
    before = api.used()
    first = api.dataset
    api.part(a, complete=True)
    api.part(b, complete=True)
    eventually(lambda: api.used() - before == len(b), "what was replaced is freed")
    api.ok("POST", f"{DATASETS}/{first}/seal", {}, want=(200,))
    child = api.ok("POST", DATASETS, {"parent_id": first}, want=(201,))["dataset_id"]
    api.new().part(b, complete=True)
    assert api.used() - before == len(b)
    for dataset in (first, child):
        assert api.ok("POST", f"{DATASETS}/{dataset}/archive", {}, want=(200,))["status"] == "archived"
    assert api.ok("POST", f"{DATASETS}/{child}/archive", {}, want=(200,))["tables"][0]["bytes"] == len(b)
    assert api.tables()[0]["bytes"] == len(b) and api.used() - before == len(b)
    check_problem(api.post(DATASETS, {"parent_id": first}), 409, "archived")
    api.ok("POST", f"{DATASETS}/{api.dataset}/archive", {}, want=(200,))
    eventually(lambda: api.used() == before, "all is freed")
    check_problem(api.upload("default", api.dataset, "t.csv", a), 409, "dataset_sealed")


def test_the_quota_in_the_midst(api, service):
    api.post("/api/v1/master/projects", {"project_id": "full", "project_name": "F", "customer_name": "F", "quotas": {"storage_bytes": 300000}})
    full = Uploads(api.port, "full").new()
    data = rows(20000)

    def stopped(answer):
        doc = check_problem(answer, 403, "quota_exceeded")
        assert doc["quota"]["name"] == "storage_bytes" and doc["quota"]["limit"] == 300000 and not doc["retryable"]
    stopped(full.upload("full", full.dataset, "t.csv", data))
    stopped(full.upload("full", full.dataset, "t.csv", data, zipped=True))
    stopped(full.part(data, complete=True))
    stopped(full.part(gzip.compress(data, 9)[:200000], Upload_Length=len(data)))
    assert full.part(data[:200000]).status == 204 and full.used() == 200000
    stopped(full.part(data[200000:], 200000, True))
    check_problem(full.get(full.path()), 404, "not_found")
    eventually(lambda: full.used() == 0, "nothing is reserved")
    # Two that fit alone, not together: never more than the quota.
    small = [rows(4000), rows(4001)]
    answers = []
    threads = [threading.Thread(target=lambda i=i: answers.append(full.part(small[i], complete=True, name=f"{i}.csv").status)) for i in range(2)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert sorted(answers) in ([200, 403], [403, 403]), answers
    eventually(lambda: full.used() == sum(t["bytes"] for t in full.tables()), "only what is entered counts")
    assert not left_files(service, full)


def test_kill_9_in_the_midst(make_service):
    service = make_service().start()
    api = Uploads(service.port).new()
    data = rows(200000)
    with socket.create_connection(("127.0.0.1", api.port), timeout=30) as s:
        s.sendall((f"PUT {api.path()} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\nUpload-Complete: ?1\r\n"
                   f"Content-Length: {len(data)}\r\n\r\n").encode())
        s.sendall(data[:3000000])
        eventually(lambda: api.used() > 0, "bytes are on their way")
        [pid] = service.workers()
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: [p for p in service.workers() if p != pid], "the worker is replaced")
    eventually(lambda: service.get("/ready").status == 200, "it is ready")
    offset, whole = api.state()
    assert 0 < offset <= 3000000 and not whole and api.tables() == []
    check(service)
    # And over a restart of all.
    service.stop()
    service.start()
    api.port = service.port
    assert api.state() == (offset, False)
    answer = api.part(data[offset:], offset, True, Repr_Digest=digest(data))
    assert answer.status == 200 and answer.json["rows"] == 200000, answer
    assert api.used() == len(data) and not left_files(service, api)
    check(service)


def test_after_a_day_it_is_forgotten(make_service):
    service = make_service().start()
    api = Uploads(service.port).new()
    api.part(rows(100)[:1000])
    assert api.used() == 1000 and len(left_files(service, api)) == 1
    service.stop()
    service.env["KONTOR_TEST_CLOCK"] = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() + 25 * 3600))
    service.start()
    api.port = service.port
    eventually(lambda: not left_files(service, api), "the file is gone")
    eventually(lambda: api.used() == 0, "the reservation is gone")
    check(service)


def test_a_sealing_that_ends_in_a_crash_leaves_nothing(make_service):
    service = make_service().start()
    api = Uploads(service.port).new()
    api.part(rows(123), complete=True)
    for i in range(50):
        assert api.part(rows(50), name=f"late-{i}.csv").status == 204
    [pid] = service.workers()
    api.ok("POST", f"{DATASETS}/{api.dataset}/seal", {}, want=(200,))
    os.kill(pid, signal.SIGKILL)  # before all of them are gone
    eventually(lambda: [p for p in service.workers() if p != pid], "the worker is replaced")
    eventually(lambda: service.get("/ready").status == 200, "it is ready")
    eventually(lambda: not left_files(service, api), "the uploads are gone")
    eventually(lambda: api.used() == len(rows(123)), "their reservations are gone")
    check(service)


def test_a_full_disk(tmp_path, make_service):
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder]).returncode != 0:
        pytest.skip("a tmpfs cannot be mounted here")
    try:
        service = make_service(KONTOR_DATA_DIR=folder / "data").start()
        api = Uploads(service.port).new()
        data = rows(600000)
        assert api.part(data[:2000000]).status == 204
        check_problem(api.part(data[2000000:], 2000000, True), 507, "storage_full")
        check_problem(api.get(api.path()), 404, "not_found")
        eventually(lambda: not left_files(service, api) and api.used() == 0, "nothing is left")
        assert api.part(data[:100000].rpartition(b"\n")[0], complete=True).status == 200
        check(service)
        service.stop()
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def rss(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text()).group(1)) * 1024


@pytest.mark.skipif("asan" in KONTOR, reason="a sanitizer keeps what is freed")
def test_memory_does_not_grow_with_the_table(make_service):
    service = make_service().start()
    api = Uploads(service.port).new()
    size = int(os.environ.get("KONTOR_UPLOAD_MIB", "64")) << 20
    block = rows(25000)[8:]

    def pieces(n):
        yield b"id,text\n"
        for _ in range(n // len(block)):
            yield block
    assert api.part(b"".join(pieces(32 << 20)), complete=True).status == 200  # what is made once
    [pid] = service.workers()
    before = rss(pid)
    answer = api.part(pieces(size), complete=True, name="big.csv")
    assert answer.status == 200 and answer.json["bytes"] > size - len(block), answer
    plain = api.put(api.path("plain.csv"), raw=pieces(size), headers=CSV)
    assert plain.status == 200 and plain.json["sha256"] == answer.json["sha256"]
    grown = rss(pid) - before
    print(f"{size >> 20} MiB: {before >> 10} KiB before, {grown >> 10} KiB more after")
    assert grown < size * 3 // 4  # of two tables; what the allocator keeps is a few tens of MiB, whatever the size


def test_the_page_says_what_happens(service, tmp_path):
    script = "\n".join(re.findall(r"```sh\n(.*?)```", (ROOT / "docs/datasets.md").read_text(), re.S))
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120,
                          env={**os.environ, "API": f"http://127.0.0.1:{service.port}/api/v1"})
    assert done.returncode == 0, done.stdout + done.stderr
