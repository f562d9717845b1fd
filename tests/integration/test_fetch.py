"""kt.fetch against the echo service and against servers that misbehave."""
import json
import os
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from echo import KONTOR, ROOT, SLOW, bare_environment, echo, start_echo  # noqa: F401  fixtures


def start_fetch(*requests, **env):
    return subprocess.Popen([KONTOR, "fetch", *(r if r == "then" else json.dumps(r) for r in requests)], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env={**bare_environment(), "KONTOR_HOME": str(ROOT / "tests/integration/home"), **env})


def results(process):
    """The results in the order of the requests; nothing may be left of them."""
    out, err = process.communicate(timeout=60 * SLOW)
    assert process.returncode == 0, err
    *answers, left = [json.loads(line) for line in out.splitlines()]
    assert left == {"tasks": 0, "ops": 0, "handles": 0}
    return answers


def fetch(*requests, **env):
    return results(start_fetch(*requests, **env))


class Upstream:
    """A server that reads a request's head and then does what `behave(socket)` says."""

    def __init__(self, behave, unix=None):
        self.listener = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
        self.listener.bind(unix or ("127.0.0.1", 0))
        self.listener.listen(16)
        self.url = "http://localhost/" if unix else f"http://127.0.0.1:{self.listener.getsockname()[1]}/"
        self.behave, self.seen = behave, []
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    def serve(self, s):
        data = b""
        with s:
            s.settimeout(60)
            try:
                while b"\r\n\r\n" not in data:
                    part = s.recv(65536)
                    if not part:
                        return
                    data += part
                self.seen.append(data)
                self.behave(s)
            except OSError:
                pass


@pytest.fixture
def upstream():
    made = []

    def make(behave, **more):
        made.append(Upstream(behave, **more))
        return made[-1]

    yield make
    for one in made:
        one.listener.shutdown(socket.SHUT_RDWR) if one.listener.family == socket.AF_UNIX else None
        one.listener.close()


def closed_by_peer(s):
    s.settimeout(30)
    try:
        return s.recv(1) == b""
    except ConnectionResetError:
        return True


def test_methods_headers_bodies(echo):
    url = f"http://127.0.0.1:{echo.port}/echo?q=1"
    get, post, put, empty = fetch(
        {"url": url, "headers": {"X-One": "1", "X-Empty": ""}},
        {"url": url, "method": "POST", "body": "hällo\0x", "headers": {"Content-Type": "text/plain"}},
        {"url": url, "method": "PUT", "body": "x" * 100000},
        {"url": url, "method": "DELETE"})
    seen = json.loads(get["body"])
    assert get["status"] == 200 and get["headers"]["content-type"] == "application/json"
    assert (seen["method"], seen["target"], seen["headers"]["x-one"], seen["headers"]["x-empty"]) == ("GET", "/echo?q=1", "1", "")
    assert "expect" not in seen["headers"]
    seen = json.loads(post["body"])
    assert (seen["method"], seen["body"], seen["headers"]["content-type"]) == ("POST", "hällo\0x", "text/plain")
    assert len(json.loads(put["body"])["body"]) == 100000
    assert json.loads(empty["body"])["method"] == "DELETE"


def test_head_and_error_status(echo):
    head, missing, cookies = fetch({"url": f"http://127.0.0.1:{echo.port}/hello", "method": "HEAD"},
                                   {"url": f"http://127.0.0.1:{echo.port}/missing"},
                                   {"url": f"http://127.0.0.1:{echo.port}/cookies"})
    assert (head["status"], head["body"], head["headers"]["content-length"]) == (200, "", "5")
    assert (missing["status"], missing["body"]) == (404, "nothing at /missing")
    assert cookies["headers"]["set-cookie"] == "a=1, b=2"


def test_a_hundred_at_once(echo):
    answers = fetch(*[{"url": f"http://127.0.0.1:{echo.port}/echo?{i}"} for i in range(100)])
    assert [json.loads(a["body"])["query"] for a in answers] == [str(i) for i in range(100)]


def test_unix_socket_ignores_proxies(start_echo, tmp_path):
    echo = start_echo(unix=str(tmp_path / "s"))
    answer, = fetch({"url": "http://localhost/echo", "unix": echo.unix}, http_proxy="http://127.0.0.1:9")
    assert json.loads(answer["body"])["via"] == "unix"


@pytest.mark.parametrize("request_, raised", [
    ({"url": "file:///etc/passwd"}, "invalid_argument"),
    ({"url": "gopher://127.0.0.1/"}, "invalid_argument"),
    ({"url": "no url"}, "invalid_argument"),
    ({"url": ""}, "invalid_argument"),
    ({"url": "http://127.0.0.1/", "headers": {"A": "b\r\nC: d"}}, "invalid_argument"),
    ({}, "url is missing"),
    ({"url": "http://127.0.0.1/", "body": 7}, "body: a string"),
    ({"url": "http://127.0.0.1/", "timeout": "x"}, "bad option 'timeout'"),
])
def test_bad_arguments_raise(request_, raised):
    answer, = fetch(request_)
    assert raised in answer["raised"]


def test_nobody_listens():
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    refused, unix = fetch({"url": f"http://127.0.0.1:{s.getsockname()[1]}/"}, {"url": "http://localhost/", "unix": "/nowhere/s"})
    s.close()
    assert refused["code"] == unix["code"] == "upstream_failed"


def test_redirects_are_not_followed(upstream):
    up = upstream(lambda s: s.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"))
    answer, = fetch({"url": up.url})
    assert answer["status"] == 302 and len(up.seen) == 1


def test_a_status_before_the_answer(upstream):
    up = upstream(lambda s: s.sendall(b"HTTP/1.1 103 Early Hints\r\nX-A: 1\r\n\r\nHTTP/1.1 200 OK\r\nX-B: 2\r\nContent-Length: 2\r\n\r\nok"))
    answer, = fetch({"url": up.url})
    assert answer["body"] == "ok" and answer["headers"]["x-b"] == "2" and "x-a" not in answer["headers"]


@pytest.mark.parametrize("bytes_, why", [
    (b"", "upstream_failed"),
    (b"garbage\r\n\r\n", "upstream_failed"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "upstream_failed"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "upstream_failed"),
    (b"HTTP/1.1 200 OK\r\nX-Large: " + b"x" * 90000 + b"\r\n\r\n", "upstream_failed"),
])
def test_answers_that_are_none(upstream, bytes_, why):
    answer, = fetch({"url": upstream(lambda s: s.sendall(bytes_)).url})
    assert answer["code"] == why, answer


def test_answers_are_bounded(upstream):
    def endless(s):
        s.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            s.sendall(b"x" * 65536)
    small, large = fetch({"url": upstream(lambda s: s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12345")).url, "max": 5},
                         {"url": upstream(endless).url, "max": 1000000})
    assert small["body"] == "12345"
    assert large["code"] == "upstream_failed" and "1000000 bytes" in large["message"]


def test_time_limits(upstream):
    gone = threading.Semaphore(0)

    def silent(s):
        if closed_by_peer(s):
            gone.release()

    def trickle(s):
        s.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                s.sendall(b"x")
                time.sleep(0.05)
        except OSError:
            gone.release()
    up = upstream(silent)
    answers = fetch({"url": up.url, "timeout": 0.2}, {"url": upstream(trickle).url, "timeout": 0.3},
                    {"url": up.url, "deadline": 0.2}, {"url": up.url, "cancel": 0.2})
    assert [a["code"] for a in answers] == ["deadline_exceeded"] * 3 + ["cancelled"]
    for _ in range(4):
        assert gone.acquire(timeout=30)


def test_connections_outlive_a_lull(upstream):
    """Eight at once, eight one after the other, eight at once: over the first eight connections."""
    together = threading.Barrier(8)

    def keep(s):
        head = b"GET /together"
        while head:
            if head.startswith(b"GET /together"):
                together.wait(60)
            s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            head = s.recv(65536)

    server = upstream(keep)
    wave = [{"url": server.url + "together"}] * 8
    lull = ["then", {"url": server.url + "alone"}] * 8
    answers = fetch(*wave, *lull, "then", *wave)
    assert [a["status"] for a in answers] == [200] * 24
    assert len(server.seen) == 8


def test_sockets_are_close_on_exec(upstream):
    release = threading.Event()

    def wait(s):
        release.wait(60)
        s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    up = upstream(wait)
    process = start_fetch({"url": up.url})
    end = time.monotonic() + 30
    while not up.seen:
        assert time.monotonic() < end
        time.sleep(0.01)
    proc = Path(f"/proc/{process.pid}")
    # Those of TCP: curl's own wake-up pair is of no use to a child, and spawning closes all anyway.
    tcp = {f"socket:[{line.split()[9]}]" for line in (proc / "net" / "tcp").read_text().splitlines()[1:]}
    sockets = [fd for fd in os.listdir(proc / "fd") if os.readlink(proc / "fd" / fd) in tcp]
    assert sockets
    for fd in sockets:
        flags = int((proc / "fdinfo" / fd).read_text().split("flags:")[1].split()[0], 8)
        assert flags & os.O_CLOEXEC, fd
    release.set()
    assert results(process)[0]["status"] == 200
