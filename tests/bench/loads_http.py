"""Loads 1 and 2: routes over documents against FastAPI + SQLite, the smallest route against nginx + Lua.
What counts is the processor time of a request; both sides are asked in turns."""
import json

import machine
from kontor_service import BASE, Kontor
from machine import Side, compare
from peers import FastApi, NginxLua
from row import missing, row

INSTANCE = {"agent_id": "erp-exception-management", "name": "Exceptions of Acme",
            "custom_settings": {"rule_params": {"INV-001.horizon_days": "14"}}}
PLAIN = 'workflow { name = "plain", run = function(run, input) return { done = true } end }\n'


def micros(value):
    return f"{value:.0f} µs"


def lines(name, ours, peer, goal, rounds, note=None, seconds=3.0, first=500):
    a, b = compare([ours, peer], seconds, rounds, first)
    per_second = f"{machine.median(ours.rates):,.0f}/s against {machine.median(peer.rates):,.0f}/s"
    spread = f"{min(y / x for x, y in zip(ours.micros, peer.micros)):.2f} to {max(y / x for x, y in zip(ours.micros, peer.micros)):.2f}"
    return row(name, micros(a), peer.name, micros(b), b / a, goal, "; ".join(filter(None, [per_second, f"rounds {spread}", note])))


def bodies(folder, instance):
    """Files that the load generator posts."""
    paths = {"instance": folder / "instance.json", "execution": folder / "execution.json"}
    paths["instance"].write_text(json.dumps(INSTANCE))
    paths["execution"].write_text(json.dumps({"instance_id": instance, "async_execution": False, "input_data": {"prompt": "go"}}))
    return paths


NAMES = ("GET instance", "POST instance", "POST execution, accept to end")


def made(side, instances):
    """Addresses of new instances."""
    return [side.url(f"{BASE}/agent-instances/" + side.call("POST", f"{BASE}/agent-instances", INSTANCE)["instance_id"])
            for _ in range(instances)]


def pairs(kontor, peer, instances=1):
    """[(name, Kontor's side, the peer's)] of the three loads. Both have just started. So many instances are read."""
    kontor.setup()
    instance, theirs = made(kontor, instances), made(peer, instances)
    mine = bodies(kontor.folder, kontor.agent("plain", PLAIN))
    others = bodies(peer.folder, peer.call("POST", f"{BASE}/agent-instances", {**INSTANCE, "agent_id": "plain"})["instance_id"])

    def post(path, kind):
        return (Side("Kontor", kontor.url(BASE + path), [kontor.process.pid], mine[kind]),
                Side(peer.name, peer.url(BASE + path), peer.pids, others[kind]))
    return [(NAMES[0], Side("Kontor", instance, [kontor.process.pid]), Side(peer.name, theirs, peer.pids)),
            (NAMES[1], *post("/agent-instances", "instance")), (NAMES[2], *post("/executions", "execution"))]


def documents(options):
    """GET instance, POST instance, POST execution."""
    try:
        with Kontor() as kontor, FastApi() as peer:
            return [lines(name, a, b, 6, options.rounds) for name, a, b in pairs(kontor, peer)]
    except machine.Missing as why:
        return [missing(name, FastApi.name, why) for name in NAMES]


def hello(options):
    """The smallest route."""
    with Kontor() as kontor:
        try:
            with NginxLua() as peer:
                return [lines("GET /health", Side("Kontor", kontor.url("/health"), [kontor.process.pid]),
                              Side(peer.name, peer.url("/health"), peer.pids), 1, options.rounds)]
        except machine.Missing as why:
            return [missing("GET /health", NginxLua.name, why)]
