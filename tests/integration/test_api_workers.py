"""The API on several workers: what one promised the others keep."""
from concurrent.futures import ThreadPoolExecutor

import pytest
from client import Client, check_problem

MASTER = "/api/v1/master"
DATASETS = "/api/v1/projects/default/datasets"


@pytest.fixture
def api(make_service):
    service = make_service(KONTOR_WORKERS="3").start()
    return Client(service.port)


def at_once(fn, n=24):
    with ThreadPoolExecutor(12) as pool:
        return list(pool.map(fn, range(n)))


def test_one_key_does_it_once(api):
    answers = at_once(lambda _: api.post(DATASETS, {"name": "one"}, headers={"Idempotency-Key": "k"}))
    done = [a for a in answers if a.status == 201]
    assert done and len({a.body for a in done}) == 1
    for a in answers:
        if a.status != 201:
            check_problem(a, 409, "idempotency_in_progress")
    assert len(api.pages(DATASETS, 100)) == 1


def test_one_id_is_one_project_with_one_number(api):
    body = {"project_id": "race", "project_name": "R", "customer_name": "R"}
    answers = at_once(lambda _: api.post(f"{MASTER}/projects", body))
    assert sorted({a.status for a in answers}) == [201, 409] and sum(a.status == 201 for a in answers) == 1
    many = at_once(lambda i: api.ok("POST", f"{MASTER}/projects", {**body, "project_id": f"many-{i}"}, want=(201,)), 12)
    assert len({p["number"] for p in many}) == 12
    # Every worker sees each of them at once.
    for p in many:
        for _ in range(6):
            assert api.get(f"/api/v1/projects/{p['project_id']}/datasets").status == 200


def test_cursors_are_good_everywhere(api):
    made = {d["dataset_id"] for d in at_once(lambda i: api.ok("POST", DATASETS, {"name": str(i)}), 20)}
    for _ in range(5):
        assert {d["dataset_id"] for d in api.pages(DATASETS, 3)} == made


def test_versions_have_no_gap(api):
    api.ok("POST", f"{MASTER}/system-prompts", {"prompt_id": "p", "name": "P", "template": "0"})
    answers = at_once(lambda i: api.put(f"{MASTER}/system-prompts/p", {"name": "P", "template": str(i)}))
    assert {a.status for a in answers} <= {200, 409}
    done = sorted(a.json["version"] for a in answers if a.status == 200)
    assert done == list(range(2, len(done) + 2))
    assert [v["version"] for v in api.pages(f"{MASTER}/system-prompts/p/versions", 5)] == list(range(len(done) + 1, 0, -1))
