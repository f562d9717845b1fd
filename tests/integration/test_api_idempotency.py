"""Idempotency-Key: once done, the first answer again."""
from concurrent.futures import ThreadPoolExecutor

import pytest

from client import Client, check_problem

MASTER = "/api/v1/master"
PROJECT = "idem-test"


@pytest.fixture(scope="module")
def api(service):
    client = Client(service.port)
    client.ok("POST", f"{MASTER}/setup/erp-defaults", {}, want=(200,))
    client.ok("POST", f"{MASTER}/projects", {"project_id": PROJECT, "project_name": "I", "customer_name": "T"})
    return client


def key(name):
    return {"Idempotency-Key": name}


def test_the_first_answer_again(api):
    base = f"/api/v1/projects/{PROJECT}/datasets"
    first = api.post(base, {"name": "once"}, headers=key("ds-1"))
    assert first.status == 201 and "idempotency-replayed" not in first.headers
    again = api.post(base, {"name": "once"}, headers=key("ds-1"))
    assert (again.status, again.body, again.headers["location"]) == (201, first.body, first.headers["location"])
    assert again.headers["idempotency-replayed"] == "true"
    assert len(api.ok("GET", base)["data"]) == 1
    check_problem(api.post(base, {"name": "twice"}, headers=key("ds-1")), 422, "idempotency_mismatch", fields={"Idempotency-Key": "duplicate"})


def test_a_key_belongs_to_method_and_path(api):
    made = api.post(f"/api/v1/projects/{PROJECT}/datasets", {"name": "x"}, headers=key("shared"))
    seal = api.post(f"/api/v1/projects/{PROJECT}/datasets/{made.json['dataset_id']}/seal", {}, headers=key("shared"))
    other = api.post("/api/v1/projects/default/datasets", {"name": "x"}, headers=key("shared"))
    assert (made.status, seal.status, other.status) == (201, 200, 201)
    assert "idempotency-replayed" not in seal.headers and "idempotency-replayed" not in other.headers


def test_refusals_are_kept_too(api):
    body = {"project_id": PROJECT, "project_name": "I", "customer_name": "T"}
    first = api.post(f"{MASTER}/projects", body, headers=key("taken"))
    check_problem(first, 409, "already_exists")
    again = api.post(f"{MASTER}/projects", body, headers=key("taken"))
    assert (again.status, again.body) == (409, first.body) and again.headers["idempotency-replayed"] == "true"


def test_faults_of_the_request_are_not(api):
    base = f"/api/v1/projects/{PROJECT}/datasets"
    check_problem(api.post(base, {"name": 7}, headers=key("fixed")), 422, "validation_failed", fields={"/name": "type"})
    assert api.post(base, {"name": "7"}, headers=key("fixed")).status == 201


@pytest.mark.parametrize("bad", ["a" * 201, "a b", "ä"])
def test_the_key_has_a_form(api, bad):
    headers = {"Idempotency-Key": bad.encode("utf-8").decode("latin-1")}
    check_problem(api.post(f"/api/v1/projects/{PROJECT}/datasets", {}, headers=headers), 422, "validation_failed",
                  fields={"Idempotency-Key": "format"})


def test_many_at_once_do_it_once(api):
    base = f"/api/v1/projects/{PROJECT}/agent-instances"
    body = {"agent_id": "erp-exception-management", "name": "one"}
    before = len(api.pages(base, 100))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: api.post(base, body, headers=key("storm")), range(16)))
    done = [a for a in answers if a.status == 201]
    waiting = [a for a in answers if a.status == 409]
    assert len(done) + len(waiting) == 16 and done
    assert len({a.body for a in done}) == 1
    for a in waiting:
        check_problem(a, 409, "idempotency_in_progress")
        assert "retry-after" in a.headers
    assert len(api.pages(base, 100)) == before + 1


def test_projects_too(api):
    body = {"project_id": "idem-made", "project_name": "I", "customer_name": "T"}
    first = api.post(f"{MASTER}/projects", body, headers=key("p"))
    again = api.post(f"{MASTER}/projects", body, headers=key("p"))
    assert (first.status, again.status, first.body) == (201, 201, again.body)


def test_executions_too(api):
    base = "/api/v1/projects/default/executions"
    body = {"instance_id": "inst_legacy_erp-exception-management"}
    first = api.post(base, body, headers=key("run"))
    again = api.post(base, body, headers=key("run"))
    assert first.status == 202 and again.status == 202 and first.json["execution_id"] == again.json["execution_id"]
    done = api.post(base, {**body, "async_execution": False}, headers=key("sync"))
    replay = api.post(base, {**body, "async_execution": False}, headers=key("sync"))
    assert (done.status, replay.status) == (200, 200) and done.body == replay.body


def test_a_put_has_none(api):
    path = f"{MASTER}/projects/{PROJECT}"
    body = {"project_name": "I", "customer_name": "T"}
    one = api.ok("PUT", path, body, headers=key("put"))
    two = api.ok("PUT", path, body, headers=key("put"))
    assert two["version"] == one["version"] + 1


def test_it_lasts_over_a_restart(make_service):
    service = make_service().start()
    body = {"project_id": "kept", "project_name": "I", "customer_name": "T"}
    first = Client(service.port).post(f"{MASTER}/projects", body, headers=key("k"))
    service.stop()
    service = make_service(KONTOR_DATA_DIR=service.data).start()
    again = Client(service.port).post(f"{MASTER}/projects", body, headers=key("k"))
    assert (again.status, again.body) == (201, first.body)
    service.stop()


def test_it_ends_after_24_hours(make_service):
    service = make_service(KONTOR_TEST_CLOCK="2026-01-01T00:00:00Z").start()
    body = {"name": "x"}
    first = Client(service.port).post("/api/v1/projects/default/datasets", body, headers=key("k"))
    service.stop()
    service = make_service(KONTOR_DATA_DIR=service.data, KONTOR_TEST_CLOCK="2026-01-01T23:59:00Z").start()
    assert Client(service.port).post("/api/v1/projects/default/datasets", body, headers=key("k")).body == first.body
    service.stop()
    service = make_service(KONTOR_DATA_DIR=service.data, KONTOR_TEST_CLOCK="2026-01-02T00:01:00Z").start()
    later = Client(service.port).post("/api/v1/projects/default/datasets", body, headers=key("k"))
    assert later.status == 201 and later.json["dataset_id"] != first.json["dataset_id"]
    service.stop()
