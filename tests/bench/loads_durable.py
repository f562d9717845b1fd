"""Load 3: a durable run of three http calls on loopback (W1), against the plain FastAPI reference and Restate.
The POST answers with the result; the service that is called (nginx) runs on the load generator's processor and counts
for nobody."""
import json

import machine
from kontor_service import BASE, Kontor
from loads_http import INSTANCE, lines
from machine import Side
from peers import FastApi, Restate, Step
from row import missing

NAME = "three durable http calls"
WORKFLOW = """workflow { name = "durable", run = function(run, input)
  local out = {}
  for n = 1, 3 do out[n] = tool.call("step", { n = n }).value.id end
  return { out = out }
end }
"""


def step_tool(url):
    return {"tool_id": "step", "name": "Step", "description": "A step.", "kind": "http", "idempotent": True,
            "http": {"method": "POST", "url": url}}


def runs(options):
    try:
        with Step() as step, Kontor(KONTOR_EGRESS_ALLOW=f"127.0.0.1:{step.port}") as kontor:
            kontor.setup()
            kontor.call("POST", "/api/v1/master/tools", step_tool(step.url("/step")))
            instance = kontor.agent("durable", WORKFLOW, tools=["step"])
            body = kontor.folder / "run.json"
            body.write_text(json.dumps({"instance_id": instance, "async_execution": False}))
            ended = kontor.call("POST", f"{BASE}/executions", json.loads(body.read_text()))
            if ended["result"]["output"] != {"out": ["step-0001"] * 3}:
                raise RuntimeError(f"the run ended with {ended['result']}")
            ours = Side("Kontor", kontor.url(f"{BASE}/executions"), [kontor.process.pid], body)
            return [against(peer, goal, ours, step, options) for peer, goal in ((plain, 6), (restate, 18))]
    except machine.Missing as why:
        return [missing(NAME, "nginx", why)]


def against(peer, goal, ours, step, options):
    try:
        return peer(goal, ours, step, options)
    except machine.Missing as why:
        return missing(NAME, peer.__doc__, why)


def plain(goal, ours, step, options):
    """FastAPI + SQLite"""
    with FastApi(step.url("/step")) as peer:
        instance = peer.call("POST", f"{BASE}/agent-instances", {**INSTANCE, "agent_id": "plain"})["instance_id"]
        body = peer.folder / "run.json"
        body.write_text(json.dumps({"instance_id": instance, "async_execution": False}))
        theirs = Side(peer.name, peer.url("/durable/bench/executions"), peer.pids, body)
        return lines(NAME, fresh(ours), theirs, goal, options.rounds, "five commits each", seconds=5)


def restate(goal, ours, step, options):
    """Restate"""
    with Restate(step.url("/step")) as peer:
        body = peer.folder / "run.json"
        body.write_text("{}")
        theirs = Side(peer.name, peer.url("/bench/run"), peer.pids, body)
        return lines(NAME, fresh(ours), theirs, goal, options.rounds, "Restate: server and its Node worker", seconds=5)


def fresh(side):
    return Side(side.name, side.url, side.roots, side.body)
