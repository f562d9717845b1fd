"""Load 6: memory of an idle worker and of a waiting run, time from start to ready, a thousand followers."""
import base64
import json
import os
import re
import selectors
import socket
import time

import machine
from kontor_service import BASE, Kontor
from row import limit, row

WAIT = 'workflow { name = "wait", run = function(run, input) time.sleep(3600) return 1 end }\n'
FOLLOWED = """workflow { name = "followed", run = function(run, input)
  time.sleep(input.wait)
  for i = 1, 20 do
    progress(i, 20)
    time.sleep(0.05)
  end
  return 1
end }
"""


def used(kontor):
    """KiB that belong to the worker alone, once it is idle."""
    time.sleep(1.5)
    return machine.memory(kontor.worker, "Private_Dirty")


def start(options):
    """From exec to ready: a first start makes databases and seeds them, a later one only opens them."""
    with Kontor(cpu=None) as kontor:
        kontor.stop()
        again = []
        for _ in range(5):
            again.append(kontor.start() * 1000)
            kontor.stop()
    return [limit("start to ready", machine.median(again), "ms", 100, f"of five: {min(again):.0f} to {max(again):.0f}", 0)]


def idle(options):
    with Kontor() as kontor:
        time.sleep(2)
        rss, pss = (machine.memory(kontor.worker, key) / 1024 for key in ("Rss", "Pss"))
        supervisor = machine.memory(kontor.process.pid, "Pss") / 1024
    return [limit("idle worker, RSS", rss, "MiB", 20, f"PSS {pss:.1f}; the supervisor beside it {supervisor:.1f} MiB PSS")]


def waiting(options, n=10000):
    """Runs that wait in time.sleep and have given up their coroutine."""
    with Kontor() as kontor:
        kontor.setup()
        instance = kontor.agent("wait", WAIT, timeout=86400)
        body = kontor.folder / "body.json"
        body.write_text(json.dumps({"instance_id": instance}))
        url = kontor.url(f"{BASE}/executions")
        machine.load(url, 500, body=body)
        parked(kontor, 500)
        before = used(kontor)
        machine.load(url, n, body=body)
        parked(kontor, n + 500)
        after = used(kontor)
    each = (after - before) / n
    return [limit("a waiting run", max(each, 0.001), "KiB", 1, f"{n:,} of them: {before / 1024:.1f} to {after / 1024:.1f} MiB of the worker's own", 2)]


def parked(kontor, n):
    end = time.monotonic() + 120
    while time.monotonic() < end:
        text = (kontor.folder / "logs/executions.log").read_text("utf-8", "replace")
        if len(re.findall(r"status=waiting", text)) >= n:
            return
        time.sleep(0.5)
    raise RuntimeError(f"not all of {n} runs wait")


def follow(kontor, path):
    """A WebSocket that follows; its socket."""
    s = socket.create_connection(("127.0.0.1", kontor.port))
    key = base64.b64encode(os.urandom(16)).decode()
    s.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{kontor.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
              f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode())
    return s


def followers(options, n=1000):
    """All follow one run; what it tells goes to each of them."""
    with Kontor() as kontor:
        kontor.setup()
        instance = kontor.agent("followed", FOLLOWED)
        run = kontor.call("POST", f"{BASE}/executions", {"instance_id": instance, "input_data": {"wait": 9}})["execution_id"]
        before = used(kontor)
        sockets = [follow(kontor, f"/ws/execution/{run}") for _ in range(n)]
        between = used(kontor)
        cpu = machine.cpu_seconds([kontor.process.pid])
        frames, ended = drain(sockets)
        cpu = machine.cpu_seconds([kontor.process.pid]) - cpu
        for s in sockets:
            s.close()
    if ended != n:
        raise RuntimeError(f"{ended} of {n} followers saw the end")
    return [row(f"{n:,} WebSocket followers, memory of one", f"{(between - before) / n:.1f} KiB"),
            row(f"{n:,} WebSocket followers, a message to one", f"{cpu / frames * 1e6:.1f} µs", note=f"{frames:,} messages")]


def drain(sockets, seconds=60):
    """Read until every follower has seen the run's end: (messages, how many saw it)."""
    selector, frames, ended, texts = selectors.DefaultSelector(), 0, 0, {}
    for s in sockets:
        s.setblocking(False)
        selector.register(s, selectors.EVENT_READ)
        texts[s] = b""
    end = time.monotonic() + seconds
    while ended < len(sockets) and time.monotonic() < end:
        for key, _ in selector.select(1):
            s = key.fileobj
            data = s.recv(1 << 16)
            frames += data.count(b'"type":')
            texts[s] = (texts[s] + data)[-4096:]
            if b"execution.completed" in texts[s]:
                ended += 1
                selector.unregister(s)
            elif not data:
                selector.unregister(s)
    return frames, ended
