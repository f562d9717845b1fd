"""Load 1 on MongoDB: the same routes against FastAPI + motor over the same server, and how many commands each sends it.
Processor time is that of the services alone; the server (secantusd-py) runs on the load generator's processor and counts
for nobody."""
import os
import sys

import machine
from kontor_service import ROOT, Kontor
from loads_http import NAMES, lines, pairs
from peers import FastApiMotor
from row import missing, row

sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests/fault")]
from mongo_proxy import Proxy  # noqa: E402
from mongo_server import Server  # noqa: E402

COUNTED = 256
INSTANCES = 64  # one for each connection: asking for one alone would flatter who asks the server once for several
# What a driver sends without being asked: looking after the server, and a change stream that waits.
OWN = ("hello", "isMaster", "ismaster", "getMore", "killCursors", "endSessions")


def server():
    """A server on the load generator's processor; a context manager."""
    class Pinned(Server):
        def start(self):
            before = os.sched_getaffinity(0)
            os.sched_setaffinity(0, {machine.LOAD_CPU})  # which it inherits
            try:
                return super().start()
            finally:
                os.sched_setaffinity(0, before)
    return Pinned()


def counted(side, proxy, clients):
    """Commands to the server for one request of this side."""
    machine.load(side.url, 64, clients, side.body)  # warm
    proxy.clear()
    machine.load(side.url, COUNTED, clients, side.body)
    return sum(n for name, n in proxy.seen.items() if name not in OWN) / COUNTED


def commands():
    """Rows of the commands a request, as two counting proxies see them."""
    with server() as db, Proxy("127.0.0.1", db.port) as mine, Proxy("127.0.0.1", db.port) as theirs:
        with Kontor(MONGODB_URL=mine.url) as kontor, FastApiMotor(theirs.url) as peer:
            return [row(f"{name}: commands, {clients} client{'s' * (clients > 1)}", f"{a:.2f}", peer.name, f"{b:.2f}", b / a)
                    for name, ours, peers in pairs(kontor, peer, INSTANCES) for clients in (1, 64)
                    for a, b in [(counted(ours, mine, clients), counted(peers, theirs, clients))]]


def documents(options):
    """GET instance, POST instance, POST execution; and commands of each."""
    try:
        with server() as db, Kontor(MONGODB_URL=db.url) as kontor, FastApiMotor(db.url) as peer:
            found = [lines(name, a, b, 6, options.rounds, first=200) for name, a, b in pairs(kontor, peer, INSTANCES)]
        return found + commands()
    except machine.Missing as why:
        return [missing(name, FastApiMotor.name, why) for name in NAMES]
