"""The server's own faults: configureFailPoint (failCommand) on each command of the store, and a load of requests beneath
failpoints and replSetStepDown. Nothing is made twice or lost, and what was acknowledged is there."""
import collections
import itertools
import json
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pymongo
import pytest
from mongo_proxy import Proxy
from mongo_server import Server

from conftest import eventually
from engine_client import FINAL, Engine
from store_calls import finish, store_calls

CLOSED, NOT_PRIMARY = {"closeConnection": True}, {"errorCode": 10107}
# A real primary that is none any more says so at once; a failpoint does not, so the driver asks again after its heartbeat.
OFTEN = "&heartbeatFrequencyMS=500"

# (call, command that fails, how, how often, code that comes or "", times that the command is sent): a command is sent once
# more, a statement of a transaction with its transaction, a commit until it is answered.
CALLS = [("insert", "insert"), ("increment", "update"), ("take", "findAndModify"), ("find", "find"), ("group", "aggregate")]
CASES = [
    *[(*call, how, 1, "", 2) for call in (*CALLS, ("commit", "insert"), ("commit", "commitTransaction")) for how in (CLOSED, NOT_PRIMARY)],
    *[(*call, CLOSED, 2, "store_unavailable" if call[0] in ("find", "group") else "outcome_unknown", 2) for call in CALLS],
    *[(*call, NOT_PRIMARY, 2, "store_unavailable", 2) for call in CALLS],
    *[("commit", "commitTransaction", how, 4, "", 5) for how in (CLOSED, NOT_PRIMARY)],
]


def fail(client, command, how, times):
    """The next `times` of these commands fail; "alwaysOn"; 0: no more."""
    client.admin.command({"configureFailPoint": "failCommand", "mode": {"times": times} if isinstance(times, int) and times else times or "off",
                          "data": {"failCommands": [command], **how}})


def run_cases(cases, folder):
    """In one process of the store that waits before each until its failpoint is set: per case the answer, what the document
    is then, and how often the command was sent."""
    calls = [c for i, case in enumerate(cases) for c in ({"op": "wait", "id": str(folder / f"go-{i}")}, {"op": case[0], "id": f"case-{i}"})]
    calls.append({"op": "wait", "id": str(folder / f"go-{len(cases)}")})
    sent = []
    with Server() as server, Proxy("127.0.0.1", server.port) as proxy, pymongo.MongoClient(server.url) as client:
        process = store_calls(proxy.url + OFTEN, "failpoints", calls, folder / "answers")
        for i in range(len(cases) + 1):
            eventually((folder / f"go-{i}.here").exists, "the call before is made")
            if i > 0:
                command = cases[i - 1][1]
                # The store was asked with a find whether it answers again.
                sent.append(sum(next(iter(c)) == command and (command != "find" or f"case-{i - 1}" in str(c)) for c in list(proxy.commands)))
            proxy.clear()
            fail(client, *(cases[i][1:4] if i < len(cases) else ("find", {}, 0)))
            (folder / f"go-{i}").touch()
        finish(process)
        answers = [a for a in json.loads((folder / "answers").read_text()) if a["id"].startswith("case-")]
        documents = {d["_id"]: d["n"] for d in client["ktm-failpoints"].c.find()}
    return [(answer, documents.get(f"case-{i}"), sent[i]) for i, answer in enumerate(answers)]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """The driver waits half a second after each error: two servers, each with every second case."""
    folders = [tmp_path_factory.mktemp("calls") for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        halves = list(pool.map(lambda n: run_cases(CASES[n::2], folders[n]), range(2)))
    return [outcome for pair in itertools.zip_longest(*halves) for outcome in pair if outcome]


@pytest.mark.parametrize("number", range(len(CASES)), ids=[f"{c[0]}-{c[1]}-{next(iter(c[2]))}-{c[3]}" for c in CASES])
def test_a_failpoint(outcomes, number):
    call, _, _, _, code, times = CASES[number]
    answer, n, sent = outcomes[number]
    assert (answer["code"], answer["ok"]) == (code, code == ""), answer
    made = {"insert": 1, "commit": 1, "increment": 1, "take": 1}.get(call, 0)
    not_made = {"insert": None, "commit": None}.get(call, 0)
    assert n == (not_made if code else made), (answer, n)
    assert sent == times


# ---- requests ----

QUICK = """
workflow { name = "quick", run = function(run, input)
  for i = 1, 4 do
    time.sleep(0.05)
    progress(i, 4, "step")
  end
  return { n = input.n }
end }
"""
MADE, UNAVAILABLE, UNKNOWN = "made", "store_unavailable", "outcome_unknown"


class Load:
    """Clients that make agents of known ids, change one instance each and start runs, until they are stopped."""

    def __init__(self, service, instance, clients=4):
        self.service, self.instance, self.ends, self.faults = service, instance, threading.Event(), []
        self.agents, self.runs = {}, {}  # id -> what was said
        self.changes, self.refused = collections.defaultdict(collections.Counter), collections.Counter()
        engine = Engine(service.port)
        self.instances = [engine.make_instance("quick") for _ in range(clients)]
        self.threads = [threading.Thread(target=self.run, args=(n,)) for n in range(clients)]
        for thread in self.threads:
            thread.start()

    def done(self):
        return sum(said == MADE for said in self.agents.values())

    def said(self, answer, want):
        if answer.status == want:
            return MADE
        code = answer.json["code"]
        if answer.status != 503 or code not in (UNAVAILABLE, UNKNOWN) or "retry-after" not in answer.headers or not answer.json["retryable"]:
            self.faults.append(answer)
        self.refused[code] += 1
        return code

    def run(self, n):
        engine = Engine(self.service.port)
        for i in itertools.count():
            if self.ends.is_set():
                return
            agent = f"known-{n}-{i}"
            self.agents[agent] = self.said(engine.post("/api/v1/master/agents", {"agent_id": agent, "name": agent}), 201)
            changed = engine.put(f"{engine.base}/agent-instances/{self.instances[n]}", {"name": f"{i}"})
            self.changes[self.instances[n]][self.said(changed, 200)] += 1
            started = engine.post(f"{engine.base}/executions", {"instance_id": self.instance, "input_data": {"n": i}})
            if self.said(started, 202) == MADE:
                self.runs[started.json["execution_id"]] = i
            self.said(engine.get(f"{engine.base}/agent-instances"), 200)
            time.sleep(0.05)  # what is left to check shall not grow without end

    def stop(self):
        self.ends.set()
        for thread in self.threads:
            thread.join()

    def check(self):
        """Every acknowledged change was made once, of the others only those that were said to be in doubt may have been."""
        assert not self.faults, self.faults[:3]
        engine = Engine(self.service.port)
        there = {a["agent_id"] for a in engine.pages("/api/v1/master/agents", 500) if a["agent_id"].startswith("known-")}
        assert {a for a, said in self.agents.items() if said == MADE} <= there, "an acknowledged document is lost"
        assert there <= {a for a, said in self.agents.items() if said != UNAVAILABLE}, "one is there that was said not to be"
        with self.service.mongo() as client:
            db = client[self.service.master]
            for coll, key, path in (("kt_m_audit_log", "$target_id", "agent.create"), ("kt_m_versions", "$id", None)):
                match = {"action": path} if path else {"kind": "agent"}
                times = {d["_id"]: d["n"] for d in db[coll].aggregate([{"$match": match}, {"$group": {"_id": key, "n": {"$sum": 1}}}])}
                assert {a: times.get(a) for a in there} == dict.fromkeys(there, 1), coll
        for instance, said in self.changes.items():
            changes = engine.ok("GET", f"{engine.base}/agent-instances/{instance}")["version"] - 1
            assert said[MADE] <= changes <= said[MADE] + said[UNKNOWN], (instance, changes, said)
        eventually(lambda: not [d for d in engine.all_executions() if d["status"] not in FINAL], "all runs end")
        runs = {d["execution_id"]: d for d in engine.all_executions()}  # also those in doubt that are there
        assert self.runs.keys() <= runs.keys(), "an accepted run is lost"
        assert {(d["status"], d["stop_reason"]) for d in runs.values()} == {("completed", "done")}
        with self.service.mongo() as client:
            results = [(d["execution_id"], d["output"]["n"]) for d in client[self.service.prefix + "default"].kt_p_results.find()]
        assert len(results) == len(runs) == len(dict(results)), "each has one result"
        assert self.runs.items() <= dict(results).items()
        for execution in list(runs)[-10:]:
            engine.check_ended(runs[execution])
        print(f"{len(there)} agents, {sum(c[MADE] for c in self.changes.values())} changes, {len(runs)} runs; refused: {dict(self.refused)}")


@pytest.fixture
def loaded(make_service):
    """(server, load) of a service that works."""
    with Server() as server:
        service = make_service(MONGODB_URL=server.url + OFTEN).start()
        load = Load(service, Engine(service.port).unlimited().make_agent("quick", QUICK))
        try:
            yield server, load
        finally:
            load.stop()
        service.stop()


def goes_on(load, service):
    """It is ready, and works for a while."""
    eventually(lambda: service.get("/ready").status == 200, "it is ready")
    done = load.done()
    eventually(lambda: load.done() >= done + 20, "requests succeed again")
    load.stop()
    load.check()


def test_failpoints_under_load(loaded):
    server, load = loaded
    rng = random.Random(time.time_ns())
    with pymongo.MongoClient(server.url) as client:
        for how in (CLOSED, NOT_PRIMARY):
            for command in ("insert", "update", "findAndModify", "commitTransaction", "find", "aggregate"):
                fail(client, command, how, rng.randint(1, 4))
                done = load.done()
                eventually(lambda done=done: load.done() >= done + 3, "requests succeed")
        fail(client, "insert", CLOSED, "alwaysOn")
        eventually(lambda: load.refused, "a request is refused")
        fail(client, "insert", {}, 0)
    goes_on(load, load.service)


def test_a_primary_that_steps_down_under_load(loaded):
    server, load = loaded
    seen = []

    def ask():
        seen.append(load.service.get("/ready"))

    def stands_down():
        return next((a for a in list(seen) if a.status == 503), None)
    # One that waits for no primary.
    with pymongo.MongoClient(server.address, directConnection=True) as client, ThreadPoolExecutor(32) as pool:
        eventually(lambda: load.done() >= 20, "requests succeed")
        give_up = time.monotonic() + 60
        while not (stands_down() and load.refused):
            assert time.monotonic() < give_up, ("nobody notices", load.refused)
            if client.admin.command("hello")["isWritablePrimary"]:
                client.admin.command({"replSetStepDown": 3, "force": True, "secondaryCatchUpPeriodSecs": 0})
            pool.submit(ask)  # one that asks early is answered when there is a primary again
            time.sleep(0.2)
    store = stands_down().json()["checks"]["store"]
    assert (store["ok"], store["error"]) == (False, "store_unavailable")
    goes_on(load, load.service)
