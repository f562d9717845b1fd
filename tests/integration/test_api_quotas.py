"""Quotas of a project: visible, enforced with the right answer, and its own affair alone."""
from concurrent.futures import ThreadPoolExecutor

import pytest
import websockets.exceptions
from websockets.sync.client import connect

from client import Client, check_problem
from conftest import ON_MONGODB, eventually
from engine_client import Engine

MASTER = "/api/v1/master/projects"
SPIN = """
workflow { name = "spin", run = function(run, input)
  local x = 0
  for i = 1, input.turns do x = (x * 31 + i) % 1000003 end
  return { x = x }
end }
"""
SLEEP = """
workflow { name = "nap", run = function(run, input) time.sleep(600) return {} end }
"""


@pytest.fixture(scope="module")
def api(service):
    return Client(service.port)


def set_quotas(api, project, **quotas):
    body = {"project_id": project, "project_name": "Q", "customer_name": "Q", "quotas": quotas}
    answer = api.post(MASTER, body)
    if answer.status == 409:
        answer = api.put(f"{MASTER}/{project}", body)
    assert answer.status in (200, 201), answer
    return f"/api/v1/projects/{project}"


def quotas(api, base):
    doc = api.ok("GET", f"{base}/quotas", want=(200,))
    assert [q["name"] for q in doc["quotas"]] == ["running", "queued", "datasets", "storage_bytes", "requests_per_minute"]
    return {q["name"]: (q["used"], q["limit"]) for q in doc["quotas"]}


def refused(answer, status, code, name, used, limit):
    doc = check_problem(answer, status, code)
    assert doc["quota"] == {"name": name, "used": used, "limit": limit}, doc
    return doc


def test_what_is_used_is_shown(api):
    base = set_quotas(api, "shown", running=0, queued=7, datasets=3)
    engine = Engine(api.port, "shown")
    instance = engine.make_agent("nap", SLEEP)
    for _ in range(3):
        engine.start(instance)
    engine.start(instance, run_at="2999-01-01T00:00:00Z")
    dataset = api.ok("POST", f"{base}/datasets", {})["dataset_id"]
    assert api.upload("shown", dataset, "a.csv", b"a\n1\n").status == 200
    used = quotas(api, base)
    assert used["running"] == (0, 0) and used["queued"] == (4, 7), used
    assert used["datasets"] == (1, 3) and used["storage_bytes"] == (4, 10737418240)
    assert 6 <= used["requests_per_minute"][0] <= 20 and used["requests_per_minute"][1] == 600, used


def test_the_quota_of_datasets(api):
    base = set_quotas(api, "sets", datasets=2)
    assert [api.post(f"{base}/datasets", {}).status for _ in range(4)] == [201, 201, 403, 403]
    refused(api.post(f"{base}/datasets", {}), 403, "quota_exceeded", "datasets", 2, 2)
    set_quotas(api, "sets", datasets=3)
    assert api.post(f"{base}/datasets", {}).status == 201


def test_the_queue_is_bounded_also_for_many_at_once(api):
    set_quotas(api, "lined", running=0, queued=10)
    engine = Engine(api.port, "lined")
    instance = engine.make_instance("nap") if api.get("/api/v1/master/agents/nap").status == 200 else engine.make_agent("nap", SLEEP)

    def start(_):
        return engine.post(f"{engine.base}/executions", {"instance_id": instance})
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(start, range(48)))
    assert {a.status for a in answers} == {202, 429}
    while (answer := start(0)).status == 202:
        pass
    doc = refused(answer, 429, "queue_full", "queued", 10, 10)
    assert doc["retryable"] and int(answer.headers["retry-after"]) >= 1
    assert quotas(api, engine.base)["queued"] == (10, 10)


def test_requests_a_minute(api):
    base = set_quotas(api, "flood", requests_per_minute=6)
    other = set_quotas(api, "calm")
    for i in range(6):
        # Faults of the request count too.
        assert api.get(f"{base}/datasets?limit={0 if i % 2 else 5}").status in (200, 422)
    answer = api.get(f"{base}/datasets")
    refused(answer, 429, "rate_limited", "requests_per_minute", 6, 6)
    assert 1 <= int(answer.headers["retry-after"]) <= 10
    assert answer.headers["ratelimit-policy"] == '"requests_per_minute";q=6;w=60'
    assert answer.headers["ratelimit"].startswith('"requests_per_minute";r=0;t=')
    # Nothing of it is done: not even an upload's bytes are read.
    refused(api.post(f"{base}/datasets", {}), 429, "rate_limited", "requests_per_minute", 6, 6)
    # Its document, the service and other projects are not concerned.
    assert api.get(f"{MASTER}/flood").status == 200 and api.get("/health").status == 200
    assert quotas(api, other)["requests_per_minute"][0] == 1
    set_quotas(api, "flood", requests_per_minute=100)
    assert [api.get(f"{base}/datasets").status for _ in range(5)] == [200] * 5
    set_quotas(api, "flood", requests_per_minute=0)
    answer = api.get(f"{base}/datasets")
    refused(answer, 429, "rate_limited", "requests_per_minute", 0, 0)
    assert answer.headers["retry-after"] == "60"


def test_a_websocket_counts_as_one_request(api):
    set_quotas(api, "socket", requests_per_minute=600)
    engine = Engine(api.port, "socket")
    instance = engine.make_instance("nap") if api.get("/api/v1/master/agents/nap").status == 200 else engine.make_agent("nap", SLEEP)
    execution = engine.start(instance)["execution_id"]
    url = f"ws://127.0.0.1:{api.port}/ws/execution/{execution}"
    before = quotas(api, engine.base)["requests_per_minute"][0]
    with connect(url) as ws:
        assert '"hello"' in ws.recv(timeout=30)
        assert quotas(api, engine.base)["requests_per_minute"][0] - before in (1, 2)
    set_quotas(api, "socket", requests_per_minute=0)
    with pytest.raises(websockets.exceptions.InvalidStatus) as caught:
        connect(url)
    assert caught.value.response.status_code == 429


def test_a_new_limit_holds_at_once_on_all_workers(make_service):
    api = Client(make_service(KONTOR_WORKERS="3").start().port)
    base = set_quotas(api, "many", requests_per_minute=0)

    def answers(status):
        found = {api.get(f"{base}/datasets").status for _ in range(30)}
        if ON_MONGODB and found != {status}:  # the other workers know when the change stream has told them
            return eventually(lambda: {api.get(f"{base}/datasets").status for _ in range(30)} == {status}, status)
        return found == {status}
    for _ in range(3):
        assert answers(429)
        set_quotas(api, "many", requests_per_minute=1000)
        assert answers(200)
        set_quotas(api, "many", requests_per_minute=0)


def test_a_greedy_project_keeps_nobody_waiting(make_service):
    """A hundred queued runs that burn CPU and a flood of requests: another project's first run ends long
    before they do."""
    service = make_service().start()
    set_quotas(Client(service.port), "greedy", requests_per_minute=100000)
    greedy, modest = Engine(service.port, "greedy"), Engine(service.port, "modest").make_project()
    burning = greedy.make_agent("spin", SPIN)
    mine = modest.make_instance("spin")
    for _ in range(100):
        greedy.start(burning, input_data={"turns": 25000000})
    stop = []

    def flood(_):
        while not stop:
            greedy.get(f"{greedy.base}/executions?limit=100")
    with ThreadPoolExecutor(4) as pool:
        floods = [pool.submit(flood, i) for i in range(4)]
        try:
            doc = modest.ended(modest.start(mine, input_data={"turns": 1000})["execution_id"])
            assert doc["status"] == "completed", doc
            used = quotas(modest, greedy.base)
            assert used["queued"][0] >= 50 and used["running"] == (20, 20), used
        finally:
            stop.append(True)
        for f in floods:
            f.result()
    # And those of the greedy one go on.
    eventually(lambda: quotas(modest, greedy.base)["queued"][0] < used["queued"][0], "the queue moves")
    for doc in greedy.pages(f"{greedy.base}/executions", 500, status="queued"):
        greedy.post(f"{greedy.base}/executions/{doc['execution_id']}/cancel", {})
