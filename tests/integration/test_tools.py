"""Tools of kind http against servers that misbehave, and a worker that is killed while it calls them."""
import gzip
import json
import os
import re
import signal
import socket
import struct
import subprocess
import threading
import time
import zlib

import pytest

from conftest import ROOT, Service, eventually
from engine_client import Engine

CALL = """
workflow { name = "call", run = function(run, input)
  local ok, answer = pcall(tool.call, input.tool, input.args or {})
  if input.sleep then time.sleep(input.sleep) end
  return { ok = ok, answer = answer }
end }
"""


class Peer:
    """A TCP server of one behaviour: behave(socket, head, nth request). It counts whole requests."""

    def __init__(self, behave):
        self.behave, self.heads, self.lock = behave, [], threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.connections = 0
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    def serve(self, s):
        data = b""
        with s:
            s.settimeout(60)
            try:
                while True:
                    while b"\r\n\r\n" not in data:
                        part = s.recv(65536)
                        if not part:
                            return
                        data += part
                    head, data = data.split(b"\r\n\r\n", 1)
                    size = re.search(rb"(?i)content-length: (\d+)", head)
                    size = int(size[1]) if size else 0
                    while len(data) < size:
                        data += s.recv(65536)
                    data = data[size:]
                    with self.lock:
                        self.heads.append(head.decode("latin-1"))
                        nth = len(self.heads)
                    if self.behave(s, head.decode("latin-1"), nth) == "close":
                        return
            except OSError:
                pass

    def close(self):
        self.listener.close()


def answer(body=b"ok", status="200 OK", headers=""):
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def says(data, close=False):
    def behave(s, head, nth):
        s.sendall(data)
        return "close" if close else None
    return behave


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """One service for what leaves it whole; a proxy of the environment must not be asked."""
    running = Service(tmp_path_factory.mktemp("tools"), KONTOR_EGRESS_ALLOW="127.0.0.1,localhost", KONTOR_TOOL_SECRET="Bearer sesame",
                      http_proxy="http://127.0.0.1:1", all_proxy="http://127.0.0.1:1").start()
    try:
        yield Engine(running.port)
        running.stop()
    finally:
        running.kill_all()


@pytest.fixture
def peer():
    made = []

    def make(behave):
        made.append(Peer(behave))
        return made[-1]

    yield make
    for one in made:
        one.close()


names = iter(range(1, 10**6))


def agent_with(engine, tool):
    return engine.make_agent(f"caller-{next(names)}", CALL, tools=[tool])


def call(engine, method, url, args=None, **more):
    """Run a workflow that calls one tool; what it got, and the execution."""
    tool = engine.make_tool(f"tool-{next(names)}", method, url, **more)
    run = engine.start(agent_with(engine, tool), input_data={"tool": tool, "args": args or {}})
    doc = engine.ended(run["execution_id"])
    assert doc["status"] == "completed", doc
    return engine.result(doc["execution_id"])["output"], doc


def test_connections_are_kept(engine, peer):
    there = peer(says(answer()))
    for _ in range(5):
        out, _ = call(engine, "GET", there.url)
        assert out["ok"] and out["answer"]["content"] == "ok"
    assert (len(there.heads), there.connections) == (5, 1)


def test_a_kept_connection_that_is_dead(engine, peer):
    """libcurl sends again over a new one. What is not idempotent must not be sent twice."""
    def behave(s, head, nth):
        if nth % 2 == 1:
            s.sendall(answer())  # and keep it
        else:
            return "close"  # the second request has come, and gets no word

    there = peer(behave)
    assert call(engine, "POST", there.url, writes=True, idempotent=True)[0]["ok"]
    out, _ = call(engine, "POST", there.url, writes=True)
    assert not out["ok"] and (out["answer"]["code"], out["answer"]["retryable"]) == ("tool_error", False)
    assert len(there.heads) == 2
    assert call(engine, "POST", there.url, writes=True, idempotent=True)[0]["ok"]
    out, doc = call(engine, "POST", there.url, writes=True, idempotent=True)
    assert out["ok"], out  # sent again, with the same key
    keys = [re.search(r"Idempotency-Key: (\S+)", h)[1] for h in there.heads]
    assert keys[-1] == keys[-2] == doc["execution_id"] + ":1"


@pytest.mark.parametrize("data", [
    b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nnot a chunk\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\n" + b"X-Long: " + b"y" * 200000 + b"\r\n\r\n",
], ids=["nothing", "no-http", "cut-off", "bad-chunk", "cut-chunk", "no-gzip", "long-header"])
def test_answers_that_are_none(engine, peer, data):
    there = peer(says(data, close=True))
    out, _ = call(engine, "POST", there.url, writes=True)
    assert not out["ok"] and out["answer"]["code"] == "tool_error", out
    assert len(there.heads) == 1


def test_a_reset(engine, peer):
    def behave(s, head, nth):
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return "close"

    there = peer(behave)
    out, _ = call(engine, "POST", there.url, writes=True)
    assert (out["answer"]["code"], len(there.heads)) == ("tool_error", 1)
    out, _ = call(engine, "GET", "http://127.0.0.1:1/")  # nobody listens
    assert (out["answer"]["code"], out["answer"]["retryable"]) == ("tool_error", True)


def test_slow_answers_end_at_the_deadline(engine, peer):
    def drip(s, head, nth):
        s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(1000):
            time.sleep(0.05)
            s.sendall(b"x")

    there = peer(drip)
    out, doc = call(engine, "GET", there.url, timeout_seconds=0.5)
    assert out["answer"]["code"] == "deadline_exceeded"
    events = [e for e in engine.events(doc["execution_id"]) if e["type"] == "tool.completed"]
    assert events[0]["data"]["error"]["code"] == "deadline_exceeded" and events[0]["data"]["ok"] is False


def test_a_body_without_end(engine, peer):
    """Read up to the bound, then the connection is closed."""
    sent = []

    def flood(s, head, nth):
        s.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            sent.append(s.send(b"x" * 65536))

    there = peer(flood)
    out, _ = call(engine, "GET", there.url)
    assert out["answer"]["code"] == "tool_error" and "larger than 16777216 bytes" in out["answer"]["message"]
    assert sum(sent) < 64 << 20


def test_a_bomb(engine, peer):
    """1 GiB of zeros in 1 MiB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join([*(packer.compress(b"\0" * (1 << 20)) for _ in range(256)), packer.flush()])
    assert len(bomb) < 1 << 20
    there = peer(says(answer(bomb, headers="Content-Encoding: gzip\r\n"), close=True))
    out, _ = call(engine, "GET", there.url)
    assert out["answer"]["code"] == "tool_error" and "larger than" in out["answer"]["message"]
    there = peer(says(answer(gzip.compress(b'{"packed": true}'), headers="Content-Encoding: gzip\r\nContent-Type: application/json\r\n")))
    assert call(engine, "GET", there.url)[0]["answer"]["value"] == {"packed": True}


def test_redirects_are_answers(engine, peer):
    there = peer(says(answer(b"", "302 Found", "Location: http://169.254.169.254/latest/meta-data/\r\n")))
    out, _ = call(engine, "GET", there.url)
    assert out["ok"] and (out["answer"]["ok"], out["answer"]["status"]) == (False, 302)


def test_headers_from_the_environment(engine, peer):
    there = peer(says(answer()))
    tool = engine.make_tool("with-secret", "GET", there.url, headers={"Authorization": "env:KONTOR_TOOL_SECRET"})
    run = engine.start(agent_with(engine, tool), input_data={"tool": tool})
    engine.ended(run["execution_id"])
    assert "Authorization: Bearer sesame" in there.heads[0]
    shown = [engine.get("/api/v1/master/tools/with-secret").body, engine.get("/api/v1/master/tools").body,
             json.dumps(engine.events(run["execution_id"])).encode(), json.dumps(engine.result(run["execution_id"])).encode()]
    assert all(b"sesame" not in text for text in shown)


# Where a tool must not go; all of it is reached without the list.
INSIDE = ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "localhost", "LocalHost", "[::1]", "0.0.0.0", "[::]",
          "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"]


def test_the_egress_policy(make_service, peer):
    """What counts is the address that is connected to, however the URL spells it."""
    there = peer(says(answer()))
    engine = Engine(make_service(KONTOR_EGRESS_ALLOW="elsewhere.example,10.9.9.9").start().port)
    for host in [*INSIDE, "169.254.169.254"]:
        out, _ = call(engine, "GET", f"http://{host}:{there.port}/", timeout_seconds=20)
        assert not out["ok"] and out["answer"]["code"] == "tool_denied", (host, out)
    assert there.connections == 0


def test_a_name_that_is_allowed_may_be_inside(make_service, peer):
    there = peer(says(answer()))
    engine = Engine(make_service(KONTOR_EGRESS_ALLOW=f"localhost:{there.port}").start().port)
    assert call(engine, "GET", f"http://localhost:{there.port}/")[0]["ok"]
    # The connection is kept, and is none of what is not allowed.
    for host in ("127.0.0.1", "[::1]", "127.1"):
        assert call(engine, "GET", f"http://{host}:{there.port}/")[0]["answer"]["code"] == "tool_denied", host
    other = peer(says(answer()))
    assert call(engine, "GET", f"http://localhost:{other.port}/")[0]["answer"]["code"] == "tool_denied"
    assert (there.connections, other.connections) == (1, 0)


def test_documents(engine):
    def post(**changes):
        body = {"tool_id": f"doc-{next(names)}", "name": "D", "description": "D", "kind": "http",
                "http": {"method": "GET", "url": "https://x.example/a/{id}?q={q}"}, **changes}
        return engine.post("/api/v1/master/tools", {k: v for k, v in body.items() if v is not ...})

    def fault(**changes):
        made = post(**changes)
        assert made.status == 422, made
        return [e["pointer"] for e in made.json["errors"]]

    assert post().status == 201
    assert fault(kind="mcp", http=None, mcp={"server_id": "x", "tool_name": "y"}) == ["/kind"]
    assert fault(http=None) == ["/http"]
    assert fault(kind="script", script="tools/nothing.lua", http=None) == ["/script"]
    assert fault(kind="script", script="agents/erp-exception-management/workflow.lua", http=None) == ["/script"]
    assert fault(script="tools/x.lua") == ["/script"]
    for url in ("ftp://x/", "file:///etc/passwd", "https://{host}/", "https://x.example{p}", "https://u:p@x.example/", "x.example/a",
                "https://x.example:port/", "https://x.example/#a", "https://x.example/{a b}", "https://x.example/a b",
                "https://x.example/?{q}=1", "https://x.example/é", "https://", "https:///a", "https://x.example/{a"):
        assert fault(http={"method": "GET", "url": url}) == ["/http/url"], url
    for name, value in (("Authorization", "Bearer abc"), ("x-api-key", "abc"), ("Host", "y"), ("Content-Length", "1"), ("a b", "c"),
                        ("X-A", "a\r\nb"), ("X-A", "env:HOME"), ("X-A", "env:KONTOR_MASTER_KEY"), ("X-A", "secret:"), ("X-A", "secret:a/b"), ("X-A", 1),
                        ("Idempotency-Key", "k"), ("Transfer-Encoding", "chunked")):
        assert fault(http={"method": "GET", "url": "https://x.example/", "headers": {name: value}}) == ["/http/headers/" + name], name
    for value in ("env:KONTOR_TOOL_X", "secret:tickets"):
        assert post(http={"method": "GET", "url": "https://x.example/", "headers": {"authorization": value}}).status == 201
    assert fault(input_schema={"type": "objekt"}) == ["/input_schema/type"]
    assert fault(input_schema={"properties": {"a": {"pattern": "x"}}}) == ["/input_schema/properties/a/pattern"]
    assert fault(output_schema={"$ref": "#/x", "items": {"minItems": -1}}) == ["/output_schema/$ref", "/output_schema/items/minItems"]
    assert fault(max_result_bytes=32769) == ["/max_result_bytes"]
    assert fault(tool_id="Upper") == ["/tool_id"]
    made = post(tool_id="versioned").json
    changed = engine.put("/api/v1/master/tools/versioned", {**{k: made[k] for k in ("name", "description", "kind", "http")}, "enabled": False},
                         headers={"If-Match": '"v1"'})
    assert (changed.status, changed.json["version"], changed.json["enabled"]) == (200, 2, False)
    assert engine.get("/api/v1/master/tools/versioned/versions/1").json["enabled"] is True
    answered = engine.post("/api/v1/master/agents", {"agent_id": "no-tool", "name": "N", "tools": ["versioned", "no-such-tool"]})
    assert answered.status == 422 and answered.json["errors"][0]["pointer"] == "/tools/1"
    body = {"agent_id": "erp-exception-management", "name": "N", "tools": ["no-such-tool"]}
    engine.ok("POST", "/api/v1/master/setup/erp-defaults", {}, want=(200,))
    answered = engine.post(f"{engine.base}/agent-instances", body)
    assert answered.status == 422 and answered.json["errors"][0]["pointer"] == "/tools/0"


@pytest.mark.parametrize("when", ["before the answer", "after the answer"])
def test_a_killed_worker_does_not_call_again(make_service, peer, when):
    service = make_service(KONTOR_EGRESS_ALLOW="127.0.0.1").start()

    def behave(s, head, nth):
        [worker] = service.workers()
        if when == "after the answer":
            s.sendall(answer())
        os.kill(worker, signal.SIGKILL)
        return "close"

    there = peer(behave)
    engine = Engine(service.port)
    tool = engine.make_tool("pay", "POST", there.url, writes=True)
    run = engine.start(agent_with(engine, tool), input_data={"tool": tool, "sleep": 600})
    doc = engine.ended(run["execution_id"])
    assert (doc["status"], doc["stop_reason"]) == ("failed", "worker_lost")
    events = engine.events(run["execution_id"])
    assert [e["type"] for e in events][:2] == ["execution.started", "tool.started"]  # the intent is there
    assert len(there.heads) == 1


def test_a_waiting_run_does_not_call_again(make_service, peer):
    """It gives up its coroutine, the service is killed, and it is rebuilt from its journal."""
    there = peer(says(answer(b"paid")))
    service = make_service(KONTOR_EGRESS_ALLOW="127.0.0.1").start()
    engine = Engine(service.port)
    tool = engine.make_tool("pay", "POST", there.url, writes=True)
    run = engine.start(agent_with(engine, tool), input_data={"tool": tool, "sleep": 11})
    eventually(lambda: engine.execution(run["execution_id"])["status"] == "waiting", "it waits")
    service.kill_supervisor()
    service.start()
    engine = Engine(service.port)
    doc = engine.ended(run["execution_id"])
    assert doc["status"] == "completed", doc
    result, _ = engine.check_ended(doc)
    assert result["output"]["answer"]["content"] == "paid" and len(there.heads) == 1


def test_the_page_about_tools(make_service):
    """Its lines do what it says."""
    page = (ROOT / "docs/tools.md").read_text()
    [lines] = re.findall(r"```sh\n(.*?)```", page, re.S)
    service = make_service(KONTOR_EGRESS_ALLOW="127.0.0.1").start()
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", lines.replace("127.0.0.1:8000", f"127.0.0.1:{service.port}")],
                          capture_output=True, text=True)
    assert done.returncode == 0, done
    shown = re.search(r"The last answer has `(.*?)`", page)[1]
    assert shown in done.stdout, done.stdout
