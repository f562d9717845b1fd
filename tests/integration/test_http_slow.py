"""Slow and vanishing clients, long handlers, back-pressure, bounds of connections, draining.

The limits are made short; what is asserted is what happens, not when."""
import json
import socket
import struct
import threading
import time

import pytest

from echo import ASAN, echo, read_all, start_echo  # noqa: F401  fixtures

H = b" HTTP/1.1\r\nHost: a\r\n"
CLOSE = b"Connection: close\r\n"
LAST = b"GET /hello" + H + CLOSE + b"\r\n"


def status(data):
    return int(data.split(b" ", 2)[1])


def problem(data):
    head, _, body = data.partition(b"\r\n\r\n")
    assert b"\r\nConnection: close" in head
    return json.loads(body)


def eventually(check, seconds=30):
    end = time.monotonic() + seconds
    while not (value := check()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return value


def trickle(s, data, pause=0.03):
    """One byte at a time until the server has enough; what it says then."""
    try:
        for i in range(len(data)):
            s.sendall(data[i:i + 1])
            time.sleep(pause)
    except (BrokenPipeError, ConnectionResetError):
        pass
    return read_all(s)


def test_slow_heads(start_echo):
    echo = start_echo(header_time=0.3, linger_time=0.5)
    with echo.connect() as s:
        assert read_all(s) == b""  # who says nothing gets nothing
    with echo.connect() as s:
        s.sendall(b"GET /hello HTTP/1.1\r\nHo")
        data = read_all(s)
        assert status(data) == 408 and problem(data)["code"] == "request_timeout" and problem(data)["retryable"] is True
    with echo.connect() as s:  # steady, but too slow
        assert status(trickle(s, b"GET /hello" + H + b"X: " + b"y" * 400)) == 408
    with echo.connect() as s:  # also behind another request
        s.sendall(b"GET /hello" + H + b"\r\nGET /he")
        data = read_all(s)
        assert data.startswith(b"HTTP/1.1 200 ") and b"HTTP/1.1 408 " in data
    with echo.connect() as s:  # empty lines are no sign of life
        assert trickle(s, b"\r\n\r\n\r\n\r\n") != b""


def test_slow_bodies(start_echo):
    echo = start_echo(body_time=0.3)
    for head in (b"Content-Length: 5\r\n\r\nab", b"Transfer-Encoding: chunked\r\n\r\n3\r\nab"):
        for path in (b"/echo", b"/count"):
            with echo.connect() as s:
                s.sendall(b"POST " + path + H + head)
                data = read_all(s)
                assert status(data) == 408 and json.loads(data.partition(b"\r\n\r\n")[2])["code"] == "request_timeout"
                assert b"Connection: close" in data
    with echo.connect() as s:  # slow but never idle is served
        s.sendall(b"POST /echo" + H + CLOSE + b"Content-Length: 20\r\n\r\n")
        assert status(trickle(s, b"x" * 20)) == 200


def test_idle_connections_end(start_echo):
    echo = start_echo(idle_time=0.3)
    with echo.connect() as s:
        s.sendall(b"GET /hello" + H + b"\r\n")
        data = read_all(s)
        assert data.endswith(b"hello") and b"Connection" not in data


def test_a_handler_may_take_its_time(start_echo):
    echo = start_echo(header_time=0.2, body_time=0.2, idle_time=0.2, write_time=0.2)
    with echo.connect() as s:
        s.sendall(b"GET /sleep?1.5" + H + b"\r\n" + LAST)
        data = read_all(s)
        assert data.count(b"HTTP/1.1 200 OK") == 2 and b"slept" in data


def test_slow_reader_of_a_large_answer(echo):
    """50 MB to a client that takes its time: all of it arrives, and the server holds little of it."""
    total = 50 << 20
    before = echo.rss()
    with echo.connect() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        s.sendall(b"GET /download?%d" % total + H + CLOSE + b"\r\n")
        time.sleep(0.5)
        held = echo.rss() - before
        data = b""
        while b"\r\n\r\n" not in data:
            data += s.recv(65536)
        got = len(data.partition(b"\r\n\r\n")[2])
        while part := s.recv(1 << 20):
            got += len(part)
    assert got == total
    assert ASAN or held < 4 << 20
    assert ASAN or echo.rss() - before < 8 << 20


def test_a_reader_that_stops_is_cut(start_echo):
    echo = start_echo(write_time=0.3)
    s = echo.connect()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.sendall(b"GET /download?100000000" + H + b"\r\n")
    eventually(lambda: json.loads(echo.get("/counts"))["tasks"] == 2)  # main and the one that counts
    s.close()


def test_upload_is_not_read_ahead(echo):
    """While the handler does not ask, the client's bytes stay with the client."""
    before = echo.rss()
    with echo.connect() as s:
        s.sendall(b"POST /sleep?1" + H + CLOSE + b"Content-Length: 100000000\r\n\r\n")
        s.settimeout(0.5)
        sent = 0
        try:
            while True:
                sent += s.send(b"x" * 65536)
        except TimeoutError:
            pass
        assert sent < 20_000_000
        assert ASAN or echo.rss() - before < 4 << 20


def test_abort_cancels_the_task(echo):
    def aborted():
        return int(echo.get("/aborted"))
    before = aborted()
    s = echo.connect()
    s.sendall(b"GET /sleep?60" + H + b"\r\n")
    time.sleep(0.1)
    s.close()
    eventually(lambda: aborted() == before + 1)
    s = echo.connect()  # with a reset, and with the next request already there
    s.sendall(b"GET /sleep?60" + H + b"\r\n" + LAST)
    time.sleep(0.1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()
    eventually(lambda: aborted() == before + 2)


def test_abort_in_the_middle_of_both_bodies(echo):
    for head in (b"POST /stream" + H + b"Content-Length: 1000000\r\n\r\nabc", b"POST /count" + H + b"Content-Length: 10\r\n\r\nabc",
                 b"POST /echo" + H + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab", b"GET /download?100000000" + H + b"\r\n"):
        s = echo.connect()
        s.sendall(head)
        time.sleep(0.05)
        s.close()
    eventually(lambda: json.loads(echo.get("/counts"))["tasks"] == 2)


def test_connections_beyond_the_bound_wait(start_echo):
    echo = start_echo(connections=4)
    held = [echo.connect() for _ in range(4)]
    for s in held:
        s.sendall(b"GET /hello" + H + b"\r\n")
        assert b"hello" in s.recv(1000)
    waiting = echo.connect()  # in the kernel's queue
    waiting.sendall(LAST)
    waiting.settimeout(0.3)
    with pytest.raises(TimeoutError):
        waiting.recv(1000)
    held[0].close()
    waiting.settimeout(30)
    assert read_all(waiting).endswith(b"hello")
    waiting.close()
    for s in held[1:]:
        s.close()


def test_connections_stay_below_the_descriptors(start_echo):
    """With few descriptors the rest of the clients wait; none is turned away."""
    echo = start_echo(descriptors=64)
    clients = [echo.connect() for _ in range(100)]
    for s in clients:
        s.sendall(LAST)
    for s in clients:
        assert read_all(s).endswith(b"hello")
        s.close()
    idle = [echo.connect() for _ in range(100)]  # these hold all that the server takes
    last = echo.connect()
    last.sendall(LAST)
    for s in idle:
        s.close()
    assert read_all(last).endswith(b"hello")
    last.close()


def test_dead_peers_are_looked_for(echo):
    """The kernel's keep-alive timer runs on accepted connections (inherited from the listening socket)."""
    with echo.connect() as s:
        s.sendall(b"GET /hello" + H + b"\r\n")
        assert s.recv(1000).endswith(b"hello")
        here, there = s.getsockname()[1], s.getpeername()[1]
        lines = [line.split() for line in open("/proc/net/tcp")][1:]
        timers = [f[5][:2] for f in lines if f[1].endswith(f":{there:04X}") and f[2].endswith(f":{here:04X}")]
        assert timers == ["02"]


def test_many_clients_at_once(echo):
    failed = []

    def client():
        try:
            with echo.connect() as s:
                for i in range(20):
                    s.sendall(b"POST /echo" + H + b"Content-Length: 3\r\n\r\nabc")
                    data = b""
                    while not data.endswith(b"}"):
                        data += s.recv(65536)
                    assert status(data) == 200
        except Exception as e:  # noqa: BLE001  told below
            failed.append(e)
    threads = [threading.Thread(target=client) for _ in range(50)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failed


def test_drain(start_echo):
    """What runs is finished, idle connections end, no new one is taken, an active one is told to close."""
    echo = start_echo()
    idle, busy, active = echo.connect(), echo.connect(), echo.connect()
    for s in (idle, active):
        s.sendall(b"GET /hello" + H + b"\r\n")
        assert s.recv(1000).endswith(b"hello")
    busy.sendall(b"GET /sleep?1" + H + b"\r\nGET /hello" + H + b"\r\n")
    time.sleep(0.1)
    echo.get("/quit")
    active.sendall(b"GET /hello" + H + b"\r\n")  # was on its way when the drain began
    data = read_all(active)
    assert data.endswith(b"hello") and b"Connection: close" in data
    assert read_all(idle) == b""
    with pytest.raises((ConnectionRefusedError, ConnectionResetError)):
        with echo.connect() as s:
            s.sendall(LAST)
            assert read_all(s)
            raise AssertionError("a new connection was served")
    data = read_all(busy)
    assert data.count(b"HTTP/1.1 200 OK") == 1 and data.endswith(b"slept") and b"Connection: close" in data
    for s in (idle, busy, active):
        s.close()
    out, _ = echo.process.communicate(timeout=30)
    assert echo.process.returncode == 0
    assert json.loads(out) == {"drained": True, "tasks": 0, "ops": 0, "handles": 0}
    echo.stop = lambda: None


def test_close_with_requests_running(start_echo):
    """The drain gives up after its time; then all is cut and still nothing is left."""
    echo = start_echo()
    clients = []
    for request in (b"GET /sleep?60" + H + b"\r\n", b"POST /echo" + H + b"Content-Length: 5\r\n\r\nab",
                    b"GET /download?100000000" + H + b"\r\n", b"GET /hel"):
        clients.append(echo.connect())
        clients[-1].sendall(request)
    time.sleep(0.2)
    echo.get("/quit")
    out, _ = echo.process.communicate(timeout=60)
    assert echo.process.returncode == 0
    left = json.loads(out)
    assert left["drained"] is False and left["ops"] == 0 and left["handles"] == 0
    for s in clients:
        s.close()
    echo.stop = lambda: None
