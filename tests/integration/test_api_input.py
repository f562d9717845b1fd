"""Bad input of every kind gets an answer that names it, and the same one however it is bad."""
import json

import pytest

from client import Client, check_problem, without_request_id

MASTER = "/api/v1/master"
PROJECT = "input-test"


@pytest.fixture(scope="module")
def api(service):
    client = Client(service.port)
    client.ok("POST", f"{MASTER}/setup/erp-defaults", {}, want=(200,))
    client.ok("POST", f"{MASTER}/projects", {"project_id": PROJECT, "project_name": "Input", "customer_name": "Test"})
    return client


@pytest.mark.parametrize("text", ["", " ", "{", '{"a":1', '{"a":1,}', '{"a":NaN}', "{'a':1}", '{"a":1}x', '{"a":1,"a":2}',
                                  '{"a":"\\ud800"}', '{"a":01}', "\ufeff{}", "[" * 100 + "]" * 100])
def test_malformed_json(api, text):
    if text == "":  # an empty body counts as {}
        check_problem(api.post(f"{MASTER}/projects", raw=b"", headers={"Content-Type": "application/json"}), 422,
                      "validation_failed", fields={"/project_id": "required", "/project_name": "required",
                                                   "/customer_name": "required"})
        return
    check_problem(api.post(f"{MASTER}/projects", raw=text.encode(), headers={"Content-Type": "application/json"}),
                  400, "invalid_json")


def test_json_that_is_not_utf8(api):
    check_problem(api.post(f"{MASTER}/projects", raw=b'{"project_id":"\xff"}', headers={"Content-Type": "application/json"}),
                  400, "invalid_json")


@pytest.mark.parametrize("body", [[], "text", 7, None, True])
def test_bodies_that_are_no_object(api, body):
    check_problem(api.post(f"{MASTER}/projects", raw=json.dumps(body).encode(), headers={"Content-Type": "application/json"}),
                  422, "validation_failed")


def test_all_faults_of_a_body_at_once(api):
    answer = api.post(f"{MASTER}/projects?what=1", {
        "project_id": "../etc", "project_name": 7, "description": "x" * 2001, "customer_name": None, "created_by": {},
        "status": "active", "settings": {"sync_wait_seconds": 0, "log_level": "loud", "extra": 1},
        "quotas": {"running": 1.5, "storage_bytes": 2**53 + 2},
        "budgets": [{"scope": "project", "period": "day", "limit_usd": "1.0000000001"}, {"scope": "all"},
                    {"scope": "project", "period": "day", "limit_usd": "-1"}],
        "retention_days": [], "backup": {"at": "24:00"}, "rule_params": "x", "nope/~": 1})
    check_problem(answer, 422, "validation_failed", fields={
        "what": "unknown_field", "/project_id": "pattern", "/project_name": "type", "/description": "length",
        "/customer_name": "type", "/created_by": "type", "/status": "immutable", "/settings/sync_wait_seconds": "min",
        "/settings/log_level": "enum", "/settings/extra": "unknown_field", "/quotas/running": "type",
        "/quotas/storage_bytes": "max", "/budgets/0/limit_usd": "format", "/budgets/1/scope": "enum",
        "/budgets/1/period": "required", "/budgets/1/limit_usd": "required", "/budgets/2/limit_usd": "min", "/retention_days": "type",
        "/backup/at": "pattern", "/rule_params": "type", "/nope~1~0": "unknown_field"})


def test_maps_are_open_but_bounded(api):
    body = {"agent_id": "maps", "name": "Maps", "metadata": {"any.thing": {"$ref": ["goes", None, 1.5]}}}
    made = api.ok("POST", f"{MASTER}/agents", body, want=(201,))
    assert made["metadata"] == body["metadata"]
    assert api.ok("GET", f"{MASTER}/agents/maps")["metadata"] == body["metadata"]
    deep = 1
    for _ in range(17):
        deep = {"a": deep}
    check_problem(api.post(f"{MASTER}/agents", {**body, "metadata": deep}), 422, "validation_failed", fields={"/metadata": "max"})
    check_problem(api.post(f"{MASTER}/agents", {**body, "metadata": {"a": "x" * 65536}}), 422, "validation_failed",
                  fields={"/metadata": "length"})
    check_problem(api.post(f"{MASTER}/agents", {**body, "settings": {"timeout": "soon", "own": 1, "as_of": "2026-02-30"}}),
                  422, "validation_failed", fields={"/settings/timeout": "type", "/settings/as_of": "format"})


STRANGE = ["..", "%2e%2e", "%2E%2e%2fetc", "a%00b", "ACME", "acme%2Fcorp", "a" * 49, "-a", "a-", "a_b", "%", "%zz", "%ff",
           "a%20b", "%c3%a4", "nobody-home"]


@pytest.mark.parametrize("tail", ["/master/projects/{}", "/projects/{}/agent-instances", "/projects/{}/executions",
                                  "/master/agents/{}", f"/projects/{PROJECT}/agent-instances/{{}}",
                                  f"/projects/{PROJECT}/executions/{{}}", f"/projects/{PROJECT}/executions/{{}}/result",
                                  f"/projects/{PROJECT}/datasets/{{}}", "/master/agents/{}/versions"])
def test_strange_ids_get_the_same_404(api, tail):
    same = None
    for strange in STRANGE:
        answer = api.raw(b"GET /api/v1" + tail.format(strange).encode() + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        check_problem(answer, 404, "not_found")
        same = same or without_request_id(answer)
        assert without_request_id(answer) == same, strange
    huge = api.raw(b"GET /api/v1" + tail.format("a" * 7000).encode() + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert without_request_id(huge) == same


def test_a_target_of_10_kb(api):
    check_problem(api.raw(b"GET /api/v1/master/projects/" + b"a" * 10240 + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
                  414, "uri_too_long")


def test_unknown_project_creates_nothing(api, service):
    check_problem(api.get("/api/v1/projects/ghost/executions"), 404, "not_found")
    check_problem(api.post("/api/v1/projects/ghost/datasets", {}), 404, "not_found")
    assert not [p for p in service.data.rglob("*ghost*")] and not [n for n in service.databases() if "ghost" in n]


def test_the_schema_is_checked_before_existence(api):
    check_problem(api.post("/api/v1/projects/ghost/datasets", {"mapping": 7}), 422, "validation_failed", fields={"/mapping": "type"})


def test_methods(api):
    answer = api.send("DELETE", f"{MASTER}/projects")
    check_problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, HEAD, POST"
    assert check_problem(api.send("PATCH", f"{MASTER}/projects/{PROJECT}", {}), 405, "method_not_allowed")
    check_problem(api.get("/nowhere"), 404, "not_found")
    check_problem(api.get(f"{MASTER}/projects/"), 404, "not_found")


def test_representations(api):
    check_problem(api.get(f"{MASTER}/projects", headers={"Accept": "text/html"}), 406, "not_acceptable")
    assert api.get(f"{MASTER}/projects", headers={"Accept": "text/html, application/*;q=0.1"}).status == 200
    check_problem(api.post(f"{MASTER}/projects", raw=b"{}", headers={"Content-Type": "text/plain"}), 415, "unsupported_media_type")
    check_problem(api.post(f"{MASTER}/projects", raw=b"{}"), 415, "unsupported_media_type")
    check_problem(api.post(f"{MASTER}/projects", raw=b"{}", headers={"Content-Type": "application/json", "Content-Encoding": "gzip"}),
                  415, "unsupported_media_type")
    dataset = api.ok("POST", f"/api/v1/projects/{PROJECT}/datasets", {})["dataset_id"]
    check_problem(api.put(f"/api/v1/projects/{PROJECT}/datasets/{dataset}/tables/x.csv", raw=b"a\n", headers={"Content-Type": "text/html"}),
                  415, "unsupported_media_type")


def test_a_body_of_more_than_1_mib(api):
    check_problem(api.post(f"{MASTER}/projects", {"description": "x" * 1048576}), 413, "body_too_large")


def test_query_parameters(api):
    path = f"/api/v1/projects/{PROJECT}/executions"
    answer = api.get(f"{path}?limit=0&status=gone&start_date=2026-02-30&instance_id=x&more=1&agent_id=a&agent_id=b")
    check_problem(answer, 422, "validation_failed", fields={"limit": "min", "status": "enum", "start_date": "format",
                                                            "instance_id": "pattern", "more": "unknown_field", "agent_id": "duplicate"})
    check_problem(api.get(f"{path}?limit=501"), 422, "validation_failed", fields={"limit": "max"})
    check_problem(api.get(f"{path}?limit=ten"), 422, "validation_failed", fields={"limit": "type"})
    check_problem(api.get(f"{path}?status=%ff"), 400, "malformed_request")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example"])
def test_a_rebinding_host(api, host):
    for target in ("/health", "/openapi.json", f"{MASTER}/projects", "/nowhere"):
        check_problem(api.get(target, headers={"Host": host}), 403, "origin_refused")


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:1", "http://127.0.0.1.evil.example"])
def test_a_cross_site_post(api, origin):
    before = api.ok("GET", f"{MASTER}/projects")["data"]
    body = {"project_id": "driven", "project_name": "x", "customer_name": "x"}
    check_problem(api.post(f"{MASTER}/projects", body, headers={"Origin": origin}), 403, "origin_refused")
    check_problem(api.put(f"{MASTER}/projects/{PROJECT}", body, headers={"Origin": origin}), 403, "origin_refused")
    # An upgrade is a GET, but a page can drive it all the same.
    check_problem(api.get("/ws/execution/exec_1_" + "0" * 32, headers={
        "Origin": origin, "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}), 403, "origin_refused")
    assert api.ok("GET", f"{MASTER}/projects")["data"] == before


def test_our_own_origin(api, service):
    body = {"name": "from a page"}
    assert api.post(f"/api/v1/projects/{PROJECT}/datasets", body, headers={"Origin": f"http://127.0.0.1:{service.port}"}).status == 201


def test_request_ids(api):
    assert api.get("/health", headers={"X-Request-Id": "a.B-1_2"}).headers["x-request-id"] == "a.B-1_2"
    made = api.get("/health", headers={"X-Request-Id": "no spaces"}).headers["x-request-id"]
    assert made != "no spaces" and 1 <= len(made) <= 64


@pytest.mark.parametrize("charset", ["latin1", "utf-16", '"windows-1252"'])
def test_text_that_is_said_not_to_be_utf8(api, charset):
    headers = {"Content-Type": f"application/json; charset={charset}"}
    check_problem(api.post(f"{MASTER}/projects", raw=b"{}", headers=headers), 415, "unsupported_media_type")
    assert api.post(f"{MASTER}/projects", raw=b"{}", headers={"Content-Type": "application/json; charset=UTF-8"}).status == 422


def test_a_window_that_ends_before_it_begins(api):
    answer = api.get(f"/api/v1/projects/{PROJECT}/executions?start_date=2026-01-02&end_date=2026-01-01")
    check_problem(answer, 422, "validation_failed", fields={"start_date": "invalid"})
