"""Executions over restarts, crashes and reloads of the service, with workflows of their own."""
import os
import re
import signal
import threading

import pytest

from conftest import eventually
from engine_client import Engine

SLEEPY = """
workflow { name = "sleepy", run = function(run, input)
  local first, began = random(), time.now()
  time.sleep(0.05)
  local parts = parallel {
    function() time.sleep(11) return random() end,
    function() time.sleep(0.1) return uuid() end,
  }
  return { first = first, parts = parts, slept_ms = time.now() - began }
end }
"""
SLOW = """
workflow { name = "slow", run = function(run, input)
  for i = 1, input.steps or 40 do
    time.sleep(0.1)
    progress(i, input.steps or 40, "step")
  end
  return { done = true }
end }
"""

CATCHING = """
workflow { name = "catching", run = function(run, input)
  local ok, err = pcall(time.sleep, 600)
  result.partial { caught = err.code }
  error(err, 0)
end }
"""


def waiting(engine, execution):
    return engine.execution(execution)["status"] == "waiting"


def test_a_run_that_was_given_up_ends_at_its_timeout(make_service):
    engine = Engine(make_service().start().port)
    instance = engine.make_agent("catching", CATCHING)
    execution = engine.start(instance, timeout_seconds=2)["execution_id"]
    eventually(lambda: waiting(engine, execution), "the run gives up its coroutine")
    doc = engine.ended(execution)
    assert (doc["status"], doc["stop_reason"]) == ("timed_out", "deadline"), doc
    # Its sleep failed, it was not shot when the time for that had passed too.
    result, _ = engine.check_ended(doc)
    assert result["partial"] and result["output"] == {"caught": "deadline_exceeded"}, result


def test_a_sleeping_run_survives_its_service(make_service):
    service = make_service().start()
    engine = Engine(service.port)
    instance = engine.make_agent("sleepy", SLEEPY)
    execution = engine.start(instance)["execution_id"]
    eventually(lambda: waiting(engine, execution), "the run gives up its coroutine")
    service.kill_supervisor()
    service.start()
    engine = Engine(service.port)
    assert engine.execution(execution)["status"] in ("waiting", "running")
    doc = engine.ended(execution)
    assert (doc["status"], doc["stop_reason"]) == ("completed", "done"), doc
    result, events = engine.check_ended(doc)
    output = result["output"]
    assert output["slept_ms"] >= 11000 and len(output["parts"]) == 2 and 0 <= output["first"] < 1
    kinds = [e["type"] for e in events]
    assert kinds == ["execution.started", "execution.waiting", "execution.resumed", "execution.completed"]
    assert events[1]["data"]["reason"] == "sleep" and events[2]["data"]["reason"] == "wake"
    assert events[2]["at"] >= events[1]["data"]["until"]


def test_a_dead_worker_ends_its_runs_as_lost(make_service):
    service = make_service().start()
    engine = Engine(service.port)
    instance = engine.make_agent("slow", SLOW)
    lost = [engine.start(instance)["execution_id"] for _ in range(5)]
    eventually(lambda: engine.execution(lost[0])["last_seq"] > 0, "it has begun")
    [worker] = service.workers()
    os.kill(worker, signal.SIGKILL)
    service.end_transactions()
    eventually(lambda: service.workers() and service.workers() != [worker], "a new worker")
    for execution in lost:
        doc = engine.ended(execution)
        assert (doc["status"], doc["stop_reason"]) == ("failed", "worker_lost")
        assert doc["error"]["code"] == "worker_lost" and doc["error"]["retryable"] is True
        engine.check_ended(doc)
    after = engine.start(instance, input_data={"steps": 1})["execution_id"]
    assert engine.ended(after)["status"] == "completed"


def test_a_drained_run_goes_on_in_the_next_service(make_service):
    service = make_service(KONTOR_DRAIN_SECONDS=1).start()
    engine = Engine(service.port)
    instance = engine.make_agent("slow", SLOW)
    execution = engine.start(instance)["execution_id"]
    eventually(lambda: engine.execution(execution)["last_seq"] > 0, "it has begun")
    service.stop()
    service.start()
    engine = Engine(service.port)
    doc = engine.ended(execution)
    assert doc["status"] == "completed"
    _, events = engine.check_ended(doc)
    assert "execution.resumed" in [e["type"] for e in events]


def test_a_reload_loses_nothing(make_service):
    service = make_service(KONTOR_DRAIN_SECONDS=2).start()
    engine = Engine(service.port)
    instance = engine.make_agent("slow", SLOW)
    accepted, faults, stop = [], [], threading.Event()

    def client():
        mine = Engine(service.port)
        while not stop.is_set():
            try:
                accepted.append(mine.start(instance, input_data={"steps": 8})["execution_id"])
            except Exception as fault:  # noqa: BLE001 - any failed request fails the test
                faults.append(repr(fault))
            stop.wait(0.05)

    threads = [threading.Thread(target=client) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        before = service.workers()
        stop.wait(0.5)
        service.signal(signal.SIGHUP)
        eventually(lambda: not set(before) & set(service.workers()), "the old set is gone")
    stop.set()
    for thread in threads:
        thread.join()
    assert not faults and len(accepted) > 10
    for execution in accepted:
        doc = engine.ended(execution)
        assert doc["status"] == "completed", doc
        engine.check_ended(doc)


def test_the_queue_is_served_in_order_and_bounded(make_service):
    service = make_service().start()
    engine = Engine(service.port, "narrow").make_project(running=1, queued=4)
    instance = engine.make_agent("slow", SLOW)
    order = [engine.start(instance, input_data={"steps": steps}) for steps in (20, 2, 2)]  # the first lasts until all are in
    order.append(engine.start(instance, input_data={"steps": 2}, priority=9))
    last = engine.start(instance, run_at="2999-01-01T00:00:00Z")
    assert [d["status"] for d in order] == ["running", "queued", "queued", "queued"] and last["status"] == "delayed"
    full = engine.post(f"{engine.base}/executions", {"instance_id": instance})
    assert full.status == 429 and full.json["code"] == "queue_full" and full.headers["retry-after"]
    ended = [engine.ended(d["execution_id"]) for d in order]
    assert all(d["status"] == "completed" for d in ended)
    starts = [d["started_at"] for d in ended]
    assert starts[0] < starts[3] < starts[1] < starts[2]
    metrics = service.get("/metrics").body.decode()
    assert re.search(r'kontor_executions_total\{project="narrow",status="completed"\} 4\b', metrics)


def test_every_change_of_status_is_a_line(make_service):
    service = make_service().start()
    engine = Engine(service.port)
    instance = engine.make_agent("slow", SLOW)
    execution = engine.start(instance, input_data={"steps": 1})["execution_id"]
    engine.ended(execution)
    log = (service.tmp / "logs" / "executions.log").read_text()
    lines = [line for line in log.splitlines() if f"execution_id={execution} " in line]
    assert [re.search(r" status=(\w+)", line).group(1) for line in lines] == ["running", "completed"]
    assert re.match(r"ts=\S+Z project_id=default execution_id=\S+ instance_id=inst_\w+ status=completed "
                    r"stop_reason=done duration_ms=\d+ .*findings=0$", lines[-1]), lines[-1]


@pytest.mark.parametrize("steps", [1, 30])
def test_a_client_that_goes_away_leaves_its_run(make_service, steps):
    """The connection of a synchronous request is cut; what was accepted goes on to its end."""
    import socket
    service = make_service().start()
    engine = Engine(service.port)
    instance = engine.make_agent("slow", SLOW)
    body = ('{"instance_id":"%s","async_execution":false,"input_data":{"steps":%d}}' % (instance, steps)).encode()
    with socket.create_connection(("127.0.0.1", service.port)) as s:
        s.sendall(b"POST %s/executions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                  b"Content-Length: %d\r\n\r\n%s" % (engine.base.encode(), len(body), body))
        eventually(lambda: engine.all_executions(), "it is accepted")
    [doc] = engine.all_executions()
    assert engine.ended(doc["execution_id"])["status"] == "completed"


def test_two_workers_act_as_one(make_service):
    """Any worker answers for any run: looks, follows, cancels; a killed one takes only its own with it."""
    service = make_service(KONTOR_WORKERS=2).start()
    engine = Engine(service.port)
    eventually(lambda: len(service.workers()) == 2, "two workers")
    instance = engine.make_agent("slow", SLOW)
    runs = [engine.start(instance, input_data={"steps": 20})["execution_id"] for _ in range(12)]
    for execution in runs[:4]:
        engine.ok("POST", f"{engine.base}/executions/{execution}/cancel", {}, want=(200, 202))
    for execution in runs[:4]:
        doc = engine.ended(execution)
        assert doc["status"] == "cancelled"
        engine.check_ended(doc)
    for execution in runs[4:]:
        doc = engine.ended(execution)
        assert doc["status"] == "completed"
        engine.check_ended(doc)
    runs = [engine.start(instance, input_data={"steps": 100})["execution_id"] for _ in range(12)]  # none has ended when one is killed
    os.kill(service.workers()[0], signal.SIGKILL)
    ends = [engine.ended(execution) for execution in runs]
    reasons = {doc["stop_reason"] for doc in ends}
    assert reasons == {"done", "worker_lost"}, reasons
    for doc in ends:
        engine.check_ended(doc)
