"""Processes against each other on one MongoDB server, and a primary that steps down under load."""
import json
import time
from concurrent.futures import ThreadPoolExecutor

import pymongo
import pytest
from engine_client import Engine
from mongo_server import Server
from store_calls import finish, store_calls

QUICK = 'workflow { name = "quick", run = function(run, input) time.sleep(0.01) return { n = input.n } end }'


@pytest.fixture(scope="module")
def server():
    with Server() as made:
        yield made


def race(server, tag, folder, clients, each, meanwhile=lambda: None):
    """`clients` processes increment one document `each` times; (what it is then, the codes of all answers)."""
    files = [folder / str(n) for n in range(clients)]
    started = [store_calls(server.url, tag, [{"op": "add", "id": "sum"}] * each, file) for file in files]
    meanwhile()
    for process in started:
        finish(process)
    with pymongo.MongoClient(server.url) as client:
        n = client[f"ktm-{tag}"].c.find_one({"_id": "sum"})["n"]
    return n, [answer["code"] for file in files for answer in json.loads(file.read_text())]


def test_5000_increments_of_8_clients_are_5000(server, tmp_path):
    n, codes = race(server, "sum", tmp_path, 8, 625)
    assert set(codes) == {""} and len(codes) == 5000 and n == 5000


def test_a_primary_that_steps_down_under_load(server, tmp_path):
    """Each increment that was said to be made was made once; of the others only those said to be in doubt may have been."""
    def step_down():
        with pymongo.MongoClient(server.url) as client:
            for _ in range(2):
                time.sleep(1)
                client.admin.command({"replSetStepDown": 1, "force": True, "secondaryCatchUpPeriodSecs": 0})
    n, codes = race(server, "down", tmp_path, 3, 400, step_down)
    made, doubt = codes.count(""), codes.count("outcome_unknown")
    assert set(codes) <= {"", "outcome_unknown", "store_unavailable"} and made > 0
    assert made <= n <= made + doubt


def test_8_workers_claim_200_runs_exactly_once(make_service, server):
    service = make_service(MONGODB_URL=server.url, KONTOR_WORKERS=8).start()
    engine = Engine(service.port).unlimited()
    instance = engine.make_agent("quick", QUICK)
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda n: engine.start(instance, input_data={"n": n})["execution_id"], range(200)))
    for n, execution in enumerate(runs):
        doc = engine.ended(execution)
        assert doc["status"] == "completed" and engine.check_ended(doc)[0]["output"] == {"n": n}
    with service.mongo() as client:
        db = client[service.prefix + "default"]
        for execution in runs:
            assert db.kt_p_results.count_documents({"_id": {"$gt": f"{execution}:", "$lt": f"{execution};"}}) == 1
        assert {d["attempt"] for d in db.kt_p_executions.find({"_id": {"$in": runs}})} == {1}
    service.stop()


def test_two_replicas_make_one_project(make_service, server):
    names = {"MASTER_DATABASE_NAME": "ktm-two", "PROJECT_DATABASE_PREFIX": "kt-two-", "MONGODB_URL": server.url}
    replicas = [make_service(**names).start() for _ in range(2)]
    for service in replicas:
        Engine(service.port).unlimited()
    with ThreadPoolExecutor(2) as pool:
        for n in range(15):
            body = {"project_id": f"p-{n}", "project_name": "P", "customer_name": "C"}
            answers = list(pool.map(lambda s, body=body: s.post("/api/v1/master/projects", body), replicas))
            assert sorted(a.status for a in answers) == [201, 409], [a.body for a in answers]
            assert {s.get(f"/api/v1/master/projects/p-{n}").json()["number"] for s in replicas} == {
                a.json()["number"] for a in answers if a.status == 201}
    for service in replicas:
        service.stop()
