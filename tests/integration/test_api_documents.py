"""Projects, templates, prompts and instances: life, versions, what cannot be changed, what is logged."""
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from client import Client, check_problem, without_request_id

MASTER = "/api/v1/master"
PROJECT = "docs-test"
TS = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")


@pytest.fixture(scope="module")
def api(service):
    client = Client(service.port)
    client.ok("POST", f"{MASTER}/setup/erp-defaults", {}, want=(200,))
    client.ok("POST", f"{MASTER}/projects", {"project_id": PROJECT, "project_name": "Docs", "customer_name": "Test"})
    return client


def test_a_project_is_made_once(api, service):
    body = {"project_id": "acme-1", "project_name": "Acme", "customer_name": "Acme Corp",
            "budgets": [{"scope": "project", "period": "month", "limit_usd": "12.500"}], "rule_params": {"PRO-009.pct": "5"}}
    answer = api.post(f"{MASTER}/projects", body)
    assert answer.status == 201, answer
    assert answer.headers["location"] == f"{MASTER}/projects/acme-1" and answer.headers["etag"] == '"v1"'
    doc = answer.json
    assert doc == {
        "project_id": "acme-1", "version": 1, "project_name": "Acme", "customer_name": "Acme Corp", "description": "",
        "created_by": "dev", "status": "active", "number": doc["number"],
        "settings": {"currency": None, "time_zone": "UTC", "log_level": None, "sync_wait_seconds": 60,
                     "trace_content": False, "langfuse": None},
        "quotas": {"running": 20, "queued": 1000, "datasets": 100, "storage_bytes": 10737418240, "requests_per_minute": 600},
        "budgets": [{"scope": "project", "agent_id": None, "period": "month", "limit_usd": "12.5", "action": "stop"}],
        "retention_days": {"events": 90, "datasets": 365, "findings": 365, "results": 0, "token_usage": 0, "audit": 0},
        "backup": None, "rule_params": {"PRO-009.pct": "5"}, "created_at": doc["created_at"], "updated_at": doc["created_at"]}
    assert TS.match(doc["created_at"]) and doc["number"] >= 1
    # Read from the store, without Lua: the same document.
    read = api.get(f"{MASTER}/projects/acme-1")
    assert read.json == doc and read.headers["etag"] == '"v1"'
    check_problem(api.post(f"{MASTER}/projects", body), 409, "already_exists")
    assert service.prefix + "acme-1" in service.databases()


def test_many_at_once_make_one(api):
    body = {"project_id": "race-1", "project_name": "Race", "customer_name": "Race"}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: api.post(f"{MASTER}/projects", body), range(8)))
    assert sorted(a.status for a in answers) == [201] + [409] * 7
    numbers = [p["number"] for p in api.pages(f"{MASTER}/projects", 2)]
    assert len(numbers) == len(set(numbers))


def test_a_project_is_replaced(api):
    path = f"{MASTER}/projects/put-1"
    doc = api.ok("POST", f"{MASTER}/projects", {"project_id": "put-1", "project_name": "A", "customer_name": "B", "description": "old"})
    # A reader's own copy, with every ro field, changed in one place.
    again = api.put(path, {**doc, "project_name": "C"}, headers={"If-Match": '"v1"'})
    assert again.status == 200 and again.headers["etag"] == '"v2"', again
    assert {**again.json, "updated_at": ""} == {**doc, "project_name": "C", "version": 2, "updated_at": ""}
    # The whole is replaced: what is left out is the default again.
    third = api.ok("PUT", path, {"project_name": "D", "customer_name": "B"})
    assert (third["description"], third["version"], third["created_by"]) == ("", 3, "dev")
    check_problem(api.put(path, {"project_name": "E", "customer_name": "B"}, headers={"If-Match": '"v1"'}), 412,
                  "version_mismatch", fields={"If-Match": "invalid"})
    check_problem(api.put(path, {"project_name": "E", "customer_name": "B"}, headers={"If-Match": "3"}), 422,
                  "validation_failed", fields={"If-Match": "format"})
    check_problem(api.put(path, {**third, "project_id": "other", "created_by": "me", "number": 99, "version": 1,
                                 "created_at": "2020-01-01T00:00:00.000Z", "status": "archived"}),
                  422, "validation_failed", fields={f: "immutable" for f in (
                      "/project_id", "/created_by", "/number", "/version", "/created_at", "/status")})
    check_problem(api.put(f"{MASTER}/projects/nobody", {"project_name": "E", "customer_name": "B"}), 404, "not_found")
    assert api.ok("GET", path) == third


def test_if_match_takes_lists_and_star(api):
    path = f"{MASTER}/projects/match-1"
    api.ok("POST", f"{MASTER}/projects", {"project_id": "match-1", "project_name": "A", "customer_name": "B"})
    for tag in ('*', '"v9", "v2"'):
        api.ok("PUT", path, {"project_name": "A", "customer_name": "B"}, headers={"If-Match": tag}, want=(200,))
    check_problem(api.put(path, {"project_name": "A", "customer_name": "B"}, headers={"If-Match": 'W/"v3"'}), 412, "version_mismatch")


def test_versions(api):
    doc = api.ok("POST", f"{MASTER}/system-prompts", {"prompt_id": "vers", "name": "V", "template": "one"}, want=(201,))
    assert (doc["version"], doc["labels"], doc["archived"], doc["undefined"]) == (1, {}, False, "strict")
    for text in ("two", "three"):
        doc = api.ok("PUT", f"{MASTER}/system-prompts/vers", {"name": "V", "template": text}, want=(200,))
    assert doc["version"] == 3
    listed = api.pages(f"{MASTER}/system-prompts/vers/versions", 2)
    assert [v["version"] for v in listed] == [3, 2, 1]
    assert all(re.match("^[0-9a-f]{64}$", v["sha256"]) for v in listed) and len({v["sha256"] for v in listed}) == 3
    second = api.get(f"{MASTER}/system-prompts/vers/versions/2")
    assert second.json["template"] == "two" and second.json["version"] == 2 and second.headers["etag"] == '"v2"'
    assert api.ok("GET", f"{MASTER}/system-prompts/vers/versions/3") == api.ok("GET", f"{MASTER}/system-prompts/vers")
    for n in ("0", "4", "02", "-1", "x", "99999999999"):
        check_problem(api.get(f"{MASTER}/system-prompts/vers/versions/{n}"), 404, "not_found")
    check_problem(api.get(f"{MASTER}/system-prompts/nobody/versions"), 404, "not_found")


@pytest.mark.parametrize("template, place", [
    ("Hi {{ name ", "1:4"), ("Hi\n  {{ name|nothing }}", "2:11"), ("{% for x in y %}\nb", "1:4"), ("{% endif %}", "1:4"),
])
def test_a_prompt_with_a_fault_is_refused(api, template, place):
    url, body = f"{MASTER}/system-prompts", {"prompt_id": "faulty", "name": "F", "template": template}
    answer = api.post(url, body)
    check_problem(answer, 422, "template_error", fields={"/template": "invalid"})
    assert answer.json["detail"].startswith(f"faulty:{place}: "), answer.json
    check_problem(api.get(f"{url}/faulty"), 404, "not_found")
    other = "sound-" + re.sub("[^a-z]", "", template)
    api.ok("POST", url, {**body, "prompt_id": other, "template": "{% include 'later' %}"}, want=(201,))
    check_problem(api.put(f"{url}/{other}", {"name": "F", "template": template}), 422, "template_error")
    assert api.ok("GET", f"{url}/{other}")["version"] == 1


def test_concurrent_puts_lose_nothing(api):
    api.ok("POST", f"{MASTER}/system-prompts", {"prompt_id": "busy", "name": "B", "template": "0"})
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda i: api.put(f"{MASTER}/system-prompts/busy", {"name": "B", "template": str(i)}), range(12)))
    done = [a.json["version"] for a in answers if a.status == 200]
    assert all(a.status in (200, 409) for a in answers), answers
    assert sorted(done) == list(range(2, len(done) + 2))
    # With If-Match only one of them may win.
    now = api.get(f"{MASTER}/system-prompts/busy").headers["etag"]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda i: api.put(f"{MASTER}/system-prompts/busy", {"name": "B", "template": f"m{i}"},
                                                  headers={"If-Match": now}), range(4)))
    assert sorted(a.status for a in answers) == [200, 412, 412, 412]


def test_templates_name_what_exists(api):
    check_problem(api.post(f"{MASTER}/agents", {
        "agent_id": "refs", "name": "R", "system_prompt_id": "nobody", "model_config_id": "none", "tools": ["t1"],
        "mcp_servers": ["m1"], "fallback_model_config_ids": ["f1"],
        "variables": [{"name": "n", "type": "number", "default": "x"}, {"name": "n"}]}), 422, "validation_failed",
        fields={"/variables/1": "duplicate"})
    check_problem(api.post(f"{MASTER}/agents", {
        "agent_id": "refs", "name": "R", "system_prompt_id": "nobody", "model_config_id": "none", "tools": ["t1"],
        "mcp_servers": ["m1"], "fallback_model_config_ids": ["f1"], "variables": [{"name": "n", "type": "number", "default": "x"}]}),
        422, "validation_failed", fields={
            "/system_prompt_id": "not_found", "/model_config_id": "not_found", "/tools/0": "not_found", "/mcp_servers/0": "not_found",
            "/fallback_model_config_ids/0": "not_found", "/variables/0/default": "type"})
    check_problem(api.post(f"{MASTER}/agents", {"agent_id": "schemas", "name": "B", "input_schema": {"type": "thing"},
                                                "output_schema": {"$ref": "#/x"}}), 422, "validation_failed",
                  fields={"/input_schema/type": "enum", "/output_schema/$ref": "unknown_field"})
    made = api.ok("POST", f"{MASTER}/agents", {"agent_id": "plain", "name": "P"}, want=(201,))
    assert made["workflow"] == "agents/plain/workflow.lua" and made["settings"] == {}


def test_instances(api):
    base = f"/api/v1/projects/{PROJECT}/agent-instances"
    answer = api.post(base, {"agent_id": "erp-exception-management", "name": "Mine", "custom_settings": {"rules": ["IMT-007"], "own": [1]}})
    assert answer.status == 201, answer
    doc = answer.json
    assert re.match("^inst_[0-9a-f]{32}$", doc["instance_id"]) and doc["project_id"] == PROJECT
    assert answer.headers["location"] == f"{base}/{doc['instance_id']}"
    assert api.ok("GET", answer.headers["location"]) == doc
    assert (doc["agent_ref"], doc["tools"], doc["custom_settings"]) == ("latest", None, {"rules": ["IMT-007"], "own": [1]})
    changed = api.ok("PUT", answer.headers["location"], {"name": "Yours"}, want=(200,))
    assert (changed["agent_id"], changed["version"], changed["custom_settings"]) == ("erp-exception-management", 2, {})
    assert api.ok("GET", f"{answer.headers['location']}/versions/1")["name"] == "Mine"
    check_problem(api.put(answer.headers["location"], {"name": "Y", "agent_id": "plain", "project_id": "x"}), 422, "validation_failed",
                  fields={"/agent_id": "immutable", "/project_id": "immutable"})
    check_problem(api.post(base, {"agent_id": "nobody", "name": "N"}), 422, "validation_failed", fields={"/agent_id": "not_found"})
    check_problem(api.post(base, {"agent_id": "erp-exception-management", "agent_ref": "99", "name": "N"}), 422, "validation_failed",
                  fields={"/agent_ref": "not_found"})
    api.ok("POST", f"{MASTER}/agents", {"agent_id": "typed", "name": "T", "variables": [{"name": "n", "type": "number"}]})
    check_problem(api.post(base, {"agent_id": "typed", "name": "N", "system_prompt_variables": {"n": "x", "free": 1}}), 422,
                  "validation_failed", fields={"/system_prompt_variables/n": "type"})


def test_things_of_another_project_are_not_there(api):
    other = api.ok("POST", f"{MASTER}/projects", {"project_id": "other-docs", "project_name": "O", "customer_name": "O"})["project_id"]
    mine = api.ok("POST", f"/api/v1/projects/{PROJECT}/agent-instances", {"agent_id": "erp-exception-management", "name": "M"})
    foreign = api.get(f"/api/v1/projects/{other}/agent-instances/{mine['instance_id']}")
    unknown = api.get(f"/api/v1/projects/{other}/agent-instances/inst_{'0' * 32}")
    nowhere = api.get(f"/api/v1/projects/ghost/agent-instances/{mine['instance_id']}")
    check_problem(foreign, 404, "not_found")
    assert without_request_id(foreign) == without_request_id(unknown) == without_request_id(nowhere)
    check_problem(api.put(f"/api/v1/projects/{other}/agent-instances/{mine['instance_id']}", {"name": "x"}), 404, "not_found")
    assert api.ok("GET", f"/api/v1/projects/{other}/agent-instances")["data"] == []


def test_setup_is_idempotent(api):
    again = api.ok("POST", f"{MASTER}/setup/erp-defaults", {}, want=(200,))
    assert again["created"] == [] and again["updated"] == [] and again["unchanged"] >= 3
    head = api.ok("GET", f"{MASTER}/agents/erp-exception-management")
    api.ok("PUT", f"{MASTER}/agents/erp-exception-management", {"name": "Changed"}, want=(200,))
    brought = api.ok("POST", f"{MASTER}/setup/erp-defaults", {}, want=(200,))
    assert brought["updated"] == [{"type": "agent", "id": "erp-exception-management"}] and brought["created"] == []
    back = api.ok("GET", f"{MASTER}/agents/erp-exception-management")
    assert {k: v for k, v in back.items() if k not in ("version", "updated_at")} == {
        k: v for k, v in head.items() if k not in ("version", "updated_at")}


def test_lists_and_cursors(api):
    base = f"/api/v1/projects/{PROJECT}/agent-instances"
    for i in range(7):
        api.ok("POST", base, {"agent_id": "erp-exception-management", "name": f"page {i}"})
    one = api.pages(base, 500)
    times = [(d["created_at"], d["instance_id"]) for d in one]
    assert times == sorted(times, reverse=True) and len(one) >= 7
    for limit in (1, 2, 3, len(one)):
        assert api.pages(base, limit) == one
    cursor = api.ok("GET", f"{base}?limit=2")["page"]["next_cursor"]
    bad = [cursor[:-2] + ("AA" if cursor[-2:] != "AA" else "BB"), cursor[1:], "x", "A" * 200, "%20", "a" * 4096]
    for forged in bad:
        check_problem(api.get(f"{base}?limit=2&cursor={forged}"), 422, "invalid_cursor", fields={"cursor": "invalid"})
    # Made for these filters, this list, this project: nowhere else.
    check_problem(api.get(f"{base}?limit=2&archived=true&cursor={cursor}"), 422, "invalid_cursor")
    check_problem(api.get(f"{base}?limit=2&agent_id=plain&cursor={cursor}"), 422, "invalid_cursor")
    check_problem(api.get(f"/api/v1/projects/default/agent-instances?limit=2&cursor={cursor}"), 422, "invalid_cursor")
    check_problem(api.get(f"/api/v1/projects/{PROJECT}/datasets?limit=2&cursor={cursor}"), 422, "invalid_cursor")
    # The limit is not a filter.
    assert api.ok("GET", f"{base}?limit=3&cursor={cursor}")["data"] == one[2:5]


def test_master_lists_are_by_id(api):
    for path, key in (("projects", "project_id"), ("agents", "agent_id"), ("system-prompts", "prompt_id")):
        ids = [d[key] for d in api.pages(f"{MASTER}/{path}", 2)]
        assert ids == sorted(ids) and len(ids) == len(set(ids)) and ids


def test_health(api):
    doc = api.ok("GET", f"{MASTER}/health", want=(200,))
    assert doc["status"] == "ok" and doc["store"]["ok"] and doc["counts"]["projects"] >= 2 and doc["workers"]
    assert api.ok("GET", "/ready", want=(200,))["status"] == "ready"
    assert api.ok("GET", "/health", want=(200,))["status"] == "ok"
    text = api.get("/metrics").body.decode()
    for name in ("connections", "open_projects"):
        assert re.search(rf"^kontor_store_{name} [1-9]", text, re.M), name
    assert re.search(r'^kontor_http_requests_total\{.*route="/api/v1/master/projects".*\} [1-9]', text, re.M)
