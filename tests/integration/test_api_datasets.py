"""Datasets: streamed uploads of CSV and NDJSON, plain and gzip; sealed for ever."""
import hashlib
import re

import pytest

from client import Client, check_problem

PROJECT = "data-test"
BASE = f"/api/v1/projects/{PROJECT}/datasets"
CSV = b"order_id,amount\n1,12.50\n2,7\n"


@pytest.fixture(scope="module")
def api(service):
    client = Client(service.port)
    client.ok("POST", "/api/v1/master/projects", {"project_id": PROJECT, "project_name": "D", "customer_name": "T"})
    return client


@pytest.fixture
def dataset(api):
    return api.ok("POST", BASE, {"name": "d"}, want=(201,))["dataset_id"]


def test_a_dataset_begins_open(api):
    answer = api.post(BASE, {"name": "June", "as_of": "2014-06-30", "metadata": {"a": 1}})
    doc = answer.json
    assert answer.status == 201 and answer.headers["location"] == f"{BASE}/{doc['dataset_id']}"
    assert doc == {"dataset_id": doc["dataset_id"], "name": "June", "mapping": "identity", "as_of": "2014-06-30", "parent_id": None,
                   "metadata": {"a": 1}, "source": "upload", "status": "open", "tables": [], "bytes": 0, "warnings": [],
                   "created_by": "dev", "created_at": doc["created_at"], "sealed_at": None}
    assert re.match("^ds_[0-9a-f]{32}$", doc["dataset_id"])
    assert api.ok("GET", answer.headers["location"]) == doc


@pytest.mark.parametrize("zipped", [False, True])
def test_csv(api, dataset, zipped):
    answer = api.upload(PROJECT, dataset, "invoice.csv", CSV, zipped=zipped)
    assert answer.status == 200, answer
    assert answer.json == {"name": "invoice.csv", "format": "csv", "rows": 2, "bytes": len(CSV),
                           "sha256": hashlib.sha256(CSV).hexdigest(), "columns": ["order_id", "amount"],
                           "duplicates": answer.json["duplicates"], "rejected": answer.json["rejected"], "errors": []}
    doc = api.ok("GET", f"{BASE}/{dataset}")
    assert doc["tables"] == [answer.json] and doc["bytes"] == len(CSV)


def test_ndjson(api, dataset):
    data = b'{"order_id":"1","amount":"12.50"}\n{"order_id":"2","amount":"7"}\n'
    answer = api.upload(PROJECT, dataset, "invoice.ndjson", data, media="application/x-ndjson")
    assert answer.status == 200, answer
    assert (answer.json["format"], answer.json["rows"], answer.json["sha256"]) == ("ndjson", 2, hashlib.sha256(data).hexdigest())


def test_put_again_replaces(api, dataset):
    api.upload(PROJECT, dataset, "a.csv", CSV)
    api.upload(PROJECT, dataset, "b.csv", CSV)
    answer = api.upload(PROJECT, dataset, "a", b"x\n1\n")
    doc = api.ok("GET", f"{BASE}/{dataset}")
    assert answer.status == 200 and [t["name"] for t in doc["tables"]] == ["a", "b.csv"]
    assert doc["bytes"] == 4 + len(CSV)


def test_10_mb_in_chunks(api, dataset):
    lines = b"".join(b"%d,some text of a line\n" % i for i in range(400000))
    data = b"id,text\n" + lines

    def pieces():
        for i in range(0, len(data), 65536):
            yield data[i:i + 65536]
    answer = api.send("PUT", f"{BASE}/{dataset}/tables/big.csv", raw=pieces(), headers={"Content-Type": "text/csv"})
    assert answer.status == 200, answer
    assert (answer.json["rows"], answer.json["bytes"], answer.json["sha256"]) == (400000, len(data), hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("data", [b"", b"\n\n", b'"unclosed', b"\xff\xfe\x00a"])
def test_no_readable_header(api, dataset, data):
    answer = api.upload(PROJECT, dataset, "bad.csv", data)
    assert answer.status == 422 and answer.json["code"] in ("data_rejected", "validation_failed"), answer
    assert api.ok("GET", f"{BASE}/{dataset}")["tables"] == []


def test_broken_gzip(api, dataset):
    answer = api.send("PUT", f"{BASE}/{dataset}/tables/x.csv", raw=b"\x1f\x8b\x08junkjunkjunk",
                      headers={"Content-Type": "text/csv", "Content-Encoding": "gzip"})
    assert answer.status in (400, 422), answer
    check_problem(api.send("PUT", f"{BASE}/{dataset}/tables/x.csv", raw=CSV, headers={"Content-Type": "text/csv", "Content-Encoding": "br"}),
                  415, "unsupported_media_type")
    assert api.ok("GET", f"{BASE}/{dataset}")["tables"] == []


@pytest.mark.parametrize("name", ["..", "%2e%2e", "..%2Fx", ".hidden", "a%00", "a%0A", "a" * 121, "a..b", "%2Fetc"])
def test_names_that_are_no_names(api, dataset, name):
    check_problem(api.raw(f"PUT {BASE}/{dataset}/tables/{name} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                          f"Content-Type: text/csv\r\nContent-Length: 4\r\n\r\na\n1\n".encode()), 404, "not_found")


def test_sealed_for_ever(api, dataset):
    api.upload(PROJECT, dataset, "a.csv", CSV)
    sealed = api.ok("POST", f"{BASE}/{dataset}/seal", {}, want=(200,))
    assert sealed["status"] == "sealed" and sealed["sealed_at"]
    check_problem(api.upload(PROJECT, dataset, "b.csv", CSV), 409, "dataset_sealed")
    assert api.ok("POST", f"{BASE}/{dataset}/seal", {}, want=(200,)) == sealed == api.ok("GET", f"{BASE}/{dataset}")


def test_sealing_tells_what_is_wrong_with_the_data(api, dataset):
    """As an analysis would read it: bad cells by line and column, duplicate rows, tables nobody reads."""
    api.upload(PROJECT, dataset, "invoice.csv", b"invoice_id,vendor_id,doc_date,gross\n"
               b"1,V1,2026-01-10,10.00\n1,V1,2026-01-10,10.00\n2,V1,2026-02-30,5\n3,V1,2026-01-10,12o\n")
    api.upload(PROJECT, dataset, "other.csv", CSV)
    sealed = api.ok("POST", f"{BASE}/{dataset}/seal", {}, want=(200,))
    invoice, other = sealed["tables"]
    assert (invoice["rows"], invoice["duplicates"], invoice["rejected"]) == (4, 1, 2)
    assert [(e["line"], e["column"], e["code"]) for e in invoice["errors"]] == [(4, "doc_date", "bad_date"), (5, "gross", "bad_number")]
    assert (other["duplicates"], other["errors"]) == (None, [])
    assert {w["code"] for w in sealed["warnings"]} == {"data_rejected", "dup_row", "not_mapped", "no_key_date"}


def test_the_mapping_must_exist(api):
    check_problem(api.post(BASE, {"mapping": "nobody-wrote-it"}), 422, "validation_failed", fields={"/mapping": "not_found"})


def test_append(api, dataset):
    api.upload(PROJECT, dataset, "a.csv", CSV)
    check_problem(api.post(BASE, {"parent_id": dataset}), 409, "dataset_open")
    api.ok("POST", f"{BASE}/{dataset}/seal", {})
    child = api.ok("POST", BASE, {"parent_id": dataset}, want=(201,))
    assert [t["name"] for t in child["tables"]] == ["a.csv"] and child["bytes"] == len(CSV)
    check_problem(api.post(BASE, {"parent_id": "ds_" + "0" * 32}), 422, "validation_failed", fields={"/parent_id": "not_found"})


def test_unknown_and_foreign(api, dataset):
    check_problem(api.upload(PROJECT, "ds_" + "0" * 32, "a.csv", CSV), 404, "not_found")
    check_problem(api.upload("default", dataset, "a.csv", CSV), 404, "not_found")
    check_problem(api.post(f"{BASE}/ds_{'0' * 32}/seal", {}), 404, "not_found")


def test_a_client_that_goes_away_leaves_nothing(api, dataset, service):
    import socket
    import time
    with socket.create_connection(("127.0.0.1", service.port)) as s:
        s.sendall(f"PUT {BASE}/{dataset}/tables/half.csv HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\n"
                  f"Content-Length: 1000000\r\n\r\na,b\n1,2\n".encode())
        time.sleep(0.3)
    tmp = service.data / "uploads" / PROJECT
    for _ in range(100):
        if not tmp.exists() or not list(tmp.glob("put-*")):
            break
        time.sleep(0.1)
    assert not list(tmp.glob("put-*"))
    assert api.ok("GET", f"{BASE}/{dataset}")["tables"] == []


def test_the_quota_of_datasets(api):
    project = api.ok("POST", "/api/v1/master/projects", {"project_id": "quota-1", "project_name": "Q", "customer_name": "T",
                                                         "quotas": {"datasets": 1}})["project_id"]
    api.ok("POST", f"/api/v1/projects/{project}/datasets", {}, want=(201,))
    check_problem(api.post(f"/api/v1/projects/{project}/datasets", {}), 403, "quota_exceeded")


def test_lists(api):
    for _ in range(3):
        api.ok("POST", BASE, {})
    every = api.pages(BASE, 2)
    assert len(every) >= 3
    assert {d["status"] for d in api.pages(BASE, 100, status="sealed")} <= {"sealed"}
