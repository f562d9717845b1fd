"""Executions over the API: start, list, look, follow as SSE, JSON and WebSocket, cancel."""
import asyncio
import http.client
import json

import pytest
import websockets

from client import Client, check_problem

PROJECT = "default"
BASE = f"/api/v1/projects/{PROJECT}/executions"
INSTANCE = "inst_legacy_erp-exception-management"
NOBODY = "exec_1_" + "0" * 32


@pytest.fixture(scope="module")
def api(service):
    client = Client(service.port)
    client.ok("POST", "/api/v1/master/setup/erp-defaults", {}, want=(200,))
    return client


@pytest.fixture(scope="module")
def ended(api):
    """A run without data: it completes and says so."""
    run = api.ok("POST", BASE, {"instance_id": INSTANCE}, want=(202,))
    return api.wait_ended(PROJECT, run["execution_id"])


def test_accepted(api):
    answer = api.post(BASE, {"instance_id": INSTANCE, "input_data": {"prompt": "?", "own": {"x": [1]}}, "metadata": {"links": "x"}})
    assert answer.status == 202 and answer.headers["retry-after"], answer
    doc = answer.json
    at = f"{BASE}/{doc['execution_id']}"
    assert answer.headers["location"] == at
    assert doc["links"] == {"self": at, "result": f"{at}/result", "events": f"{at}/events", "ws": f"/ws/execution/{doc['execution_id']}"}
    assert doc["input_data"] == {"prompt": "?", "own": {"x": [1]}} and doc["metadata"] == {"links": "x"}
    end = api.wait_ended(PROJECT, doc["execution_id"])
    assert end["links"] == doc["links"] and set(end) == set(doc)


def test_without_data(api, ended):
    assert (ended["status"], ended["stop_reason"], ended["error"]) == ("completed", "done", None)
    result = api.ok("GET", f"{BASE}/{ended['execution_id']}/result", want=(200,))
    assert result["execution_id"] == ended["execution_id"] and result["status"] == "completed" and result["metrics"]["findings"] == 0


def test_synchronous(api):
    answer = api.post(BASE, {"instance_id": INSTANCE, "async_execution": False})
    assert answer.status == 200, answer
    doc = answer.json
    assert doc["status"] == "completed"
    assert doc["result"] == api.ok("GET", f"{BASE}/{doc['execution_id']}/result")
    assert api.ok("GET", f"{BASE}/{doc['execution_id']}")["result"] is None


def test_what_is_named_must_exist(api):
    check_problem(api.post(BASE, {}), 422, "validation_failed", fields={"/instance_id": "required"})
    check_problem(api.post(BASE, {"instance_id": "inst_" + "0" * 32}), 422, "validation_failed", fields={"/instance_id": "not_found"})
    check_problem(api.post(BASE, {"instance_id": INSTANCE, "input_data": {"dataset_id": "ds_" + "0" * 32}}), 422,
                  "validation_failed", fields={"/input_data/dataset_id": "not_found"})
    dataset = api.ok("POST", f"/api/v1/projects/{PROJECT}/datasets", {})["dataset_id"]
    check_problem(api.post(BASE, {"instance_id": INSTANCE, "input_data": {"dataset_id": dataset}}), 409, "dataset_open")
    check_problem(api.post(BASE, {"instance_id": INSTANCE, "priority": 10, "run_at": "soon", "budget_usd": 1, "timeout_seconds": 0,
                                  "input_data": {"rules": "IMT-007", "as_of": "today"}, "variables": []}), 422, "validation_failed",
                  fields={"/priority": "max", "/run_at": "format", "/budget_usd": "type", "/timeout_seconds": "min",
                          "/input_data/rules": "type", "/input_data/as_of": "format", "/variables": "type"})


@pytest.mark.parametrize("tail", ["", "/result", "/report", "/findings", "/events"])
def test_unknown(api, tail):
    check_problem(api.get(f"{BASE}/{NOBODY}{tail}"), 404, "not_found")


def test_foreign(api, ended):
    api.ok("POST", "/api/v1/master/projects", {"project_id": "foreign-1", "project_name": "F", "customer_name": "T"})
    for tail in ("", "/result", "/report", "/findings", "/events"):
        check_problem(api.get(f"/api/v1/projects/foreign-1/executions/{ended['execution_id']}{tail}"), 404, "not_found")
    check_problem(api.post(f"/api/v1/projects/foreign-1/executions/{ended['execution_id']}/cancel", {}), 404, "not_found")


def test_lists(api, ended):
    every = api.pages(BASE, 2)
    assert ended in every
    assert api.pages(BASE, 100, status="completed", instance_id=INSTANCE, agent_id="erp-exception-management")
    day = ended["created_at"][:10]
    assert ended in api.pages(BASE, 100, start_date=day, end_date=day)
    assert api.pages(BASE, 100, end_date="2000-01-01") == []


def sse(api, path, headers=None):
    conn = http.client.HTTPConnection("127.0.0.1", api.port, timeout=30)
    conn.request("GET", path, headers=headers or {})
    response = conn.getresponse()
    text = response.read().decode()
    conn.close()
    return response, text


def parse(text):
    events = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line and not line.startswith(":"))
        if "data" in fields:
            events.append((fields.get("id"), fields["event"], json.loads(fields["data"])))
    return events


def test_sse_of_an_ended_run(api, ended):
    at = f"{BASE}/{ended['execution_id']}/events"
    response, text = sse(api, at)
    assert response.status == 200 and response.getheader("Content-Type") == "text/event-stream"
    assert text.startswith("retry: 2000\n\n")
    numbered = [e for e in parse(text) if e[0]]
    assert [int(e[0]) for e in numbered] == list(range(1, ended["last_seq"] + 1))
    assert numbered[0][1] == "execution.started" and numbered[-1][1] == "execution.completed"
    for number, name, data in numbered:
        assert (data["seq"], data["type"], data["v"], data["execution_id"]) == (int(number), name, 1, ended["execution_id"])
    _, rest = sse(api, f"{at}?since=2")
    assert [e for e in parse(rest) if e[0]] == numbered[2:]
    # Last-Event-ID wins over since.
    _, last = sse(api, f"{at}?since=1", {"Last-Event-ID": str(ended["last_seq"] - 1)})
    assert [e for e in parse(last) if e[0]] == numbered[-1:]
    done, nothing = sse(api, at, {"Last-Event-ID": str(ended["last_seq"])})
    assert (done.status, nothing) == (204, "")
    check_problem(api.get(at, headers={"Last-Event-ID": "x"}), 422, "validation_failed", fields={"Last-Event-ID": "format"})


def test_events_as_json(api, ended):
    at = f"{BASE}/{ended['execution_id']}/events"
    doc = api.ok("GET", f"{at}?limit=500", headers={"Accept": "application/json"}, want=(200,))
    _, text = sse(api, at)
    assert doc["data"] == [e[2] for e in parse(text) if e[0]]
    two = api.ok("GET", f"{at}?since=1&limit=2", headers={"Accept": "application/json"})
    assert [e["seq"] for e in two["data"]] == [2, 3]
    check_problem(api.get(f"{at}?since=-1"), 422, "validation_failed", fields={"since": "min"})


def test_websocket(api, ended):
    async def follow(since):
        frames = []
        url = f"ws://127.0.0.1:{api.port}/ws/execution/{ended['execution_id']}?since={since}"
        async with websockets.connect(url) as ws:
            try:
                while True:
                    frames.append(json.loads(await ws.recv()))
            except websockets.ConnectionClosed as closed:
                assert closed.rcvd.code == 1000
        return frames
    frames = asyncio.run(follow(0))
    assert frames[0] == {"v": 1, "type": "hello", "execution_id": ended["execution_id"], "status": "completed",
                         "last_seq": ended["last_seq"], "since": 0}
    numbered = [f for f in frames if "seq" in f]
    assert [f["seq"] for f in numbered] == list(range(1, ended["last_seq"] + 1))
    _, text = sse(api, f"{BASE}/{ended['execution_id']}/events")
    assert numbered == [e[2] for e in parse(text) if e[0]]
    assert [f for f in asyncio.run(follow(3)) if "seq" in f] == numbered[3:]


def test_websocket_refusals(api, ended):
    at = f"/ws/execution/{ended['execution_id']}"
    answer = api.get(at)
    check_problem(answer, 426, "upgrade_required")
    assert answer.headers["upgrade"] == "websocket" and answer.headers["sec-websocket-version"] == "13"
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    check_problem(api.get(at, headers={**upgrade, "Sec-WebSocket-Version": "99"}), 426, "upgrade_required")
    for unknown in (NOBODY, f"exec_99999_{'0' * 32}"):
        check_problem(api.get(f"/ws/execution/{unknown}", headers={**upgrade, "Sec-WebSocket-Version": "13"}), 404, "not_found")
    check_problem(api.get(f"{at}?since=x", headers={**upgrade, "Sec-WebSocket-Version": "13"}), 422, "validation_failed",
                  fields={"since": "type"})


def test_cancel(api, ended):
    check_problem(api.post(f"{BASE}/{ended['execution_id']}/cancel", {}), 409, "invalid_state")
    check_problem(api.post(f"{BASE}/{NOBODY}/cancel", {}), 404, "not_found")
    # A run of the far future waits until it is cancelled.
    run = api.ok("POST", BASE, {"instance_id": INSTANCE, "run_at": "2099-01-01T00:00:00Z"}, want=(202,))
    assert run["status"] == "delayed"
    later = api.get(f"{BASE}/{run['execution_id']}/result")
    assert later.status == 202 and later.headers["retry-after"] and later.json["status"] == "delayed"
    first = api.send("POST", f"{BASE}/{run['execution_id']}/cancel", {"reason": "not needed"})
    assert first.status in (200, 202), first
    end = api.wait_ended(PROJECT, run["execution_id"])
    assert (end["status"], end["stop_reason"]) == ("cancelled", "cancelled")
    assert api.send("POST", f"{BASE}/{run['execution_id']}/cancel", {}).status == 200
    result = api.ok("GET", f"{BASE}/{run['execution_id']}/result", want=(200,))
    # Cancelled before its time, it waited in no queue.
    assert result["status"] == "cancelled" and result["metrics"]["queued_ms"] == 0


SLEEPER = """workflow {
  name = "sleeper",
  run = function(run, input)
    progress(1, 2, "asleep soon")
    time.sleep(input.seconds)
    return { slept = input.seconds }
  end,
}
"""


@pytest.fixture(scope="module")
def sleeper(api):
    """An instance of an agent that sleeps, in a project that waits one second for synchronous runs."""
    api.ok("PUT", "/api/v1/master/scripts/agents%2Fsleeper%2Fworkflow.lua", {"source": SLEEPER}, want=(200,))
    api.ok("POST", "/api/v1/master/agents", {"agent_id": "sleeper", "name": "Sleeper"}, want=(201,))
    api.ok("POST", "/api/v1/master/projects", {"project_id": "sleepy", "project_name": "S", "customer_name": "S",
                                               "settings": {"sync_wait_seconds": 1}}, want=(201,))
    return api.ok("POST", "/api/v1/projects/sleepy/agent-instances", {"agent_id": "sleeper", "name": "S"})["instance_id"]


def test_synchronous_but_too_long(api, sleeper):
    base = "/api/v1/projects/sleepy/executions"
    answer = api.post(base, {"instance_id": sleeper, "input_data": {"seconds": 3600}, "async_execution": False})
    assert answer.status == 202 and answer.json["result"] is None, answer
    run = answer.json["execution_id"]
    assert api.get(f"{base}/{run}/result").status == 202
    assert api.get(f"{base}/{run}/findings").status == 202
    cancelled = api.send("POST", f"{base}/{run}/cancel", {"reason": "enough"})
    assert cancelled.status in (200, 202), cancelled
    end = api.wait_ended("sleepy", run)
    assert (end["status"], end["stop_reason"]) == ("cancelled", "cancelled")


def test_followed_live(api, sleeper):
    """A follower that is there from the beginning gets every numbered event while the run goes on."""
    base = "/api/v1/projects/sleepy/executions"
    run = api.ok("POST", base, {"instance_id": sleeper, "input_data": {"seconds": 1}}, want=(202,))["execution_id"]
    response, text = sse(api, f"{base}/{run}/events")
    assert response.status == 200
    numbered = [e for e in parse(text) if e[0]]
    end = api.wait_ended("sleepy", run)
    assert [int(e[0]) for e in numbered] == list(range(1, end["last_seq"] + 1))
    names = [e[1] for e in numbered]
    assert names[0] == "execution.started" and names[-1] == "execution.completed"
    assert api.ok("GET", f"{base}/{run}/result")["output"] == {"slept": 1}
