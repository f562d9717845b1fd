"""WebSocket on raw sockets and with a foreign client: handshake, frames, back-pressure, closing."""
import json
import os
import socket
import struct
import time

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from echo import ASAN, echo, start_echo  # noqa: F401  fixtures

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def head(path=b"/ws", version=b"Sec-WebSocket-Version: 13\r\n", key=b"Sec-WebSocket-Key: " + KEY + b"\r\n",
         upgrade=b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n", more=b""):
    return b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n" + upgrade + version + key + more + b"\r\n"


def frame(payload, opcode=1, fin=True, mask=b"abcd"):
    n = len(payload)
    first = bytes([(0x80 if fin else 0) | opcode])
    if n < 126:
        size = bytes([0x80 | n])
    elif n < 65536:
        size = bytes([0x80 | 126]) + struct.pack(">H", n)
    else:
        size = bytes([0x80 | 127]) + struct.pack(">Q", n)
    return first + size + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload))


class Raw:
    """One upgraded socket and what was read of it."""

    def __init__(self, echo, path=b"/ws", first=b""):
        self.socket = echo.connect()
        self.socket.sendall(head(path) + first)
        self.data = b""
        while b"\r\n\r\n" not in self.data:
            self.more()
        self.head, _, self.data = self.data.partition(b"\r\n\r\n")
        assert self.head.startswith(b"HTTP/1.1 101 "), self.head

    def more(self):
        part = self.socket.recv(65536)
        if not part:
            raise EOFError
        self.data += part

    def take(self, n):
        while len(self.data) < n:
            self.more()
        part, self.data = self.data[:n], self.data[n:]
        return part

    def frame(self):
        """(opcode, payload) of the next whole frame."""
        first, size = self.take(2)
        assert first & 0x70 == 0 and size & 0x80 == 0
        size &= 0x7F
        if size == 126:
            size, = struct.unpack(">H", self.take(2))
        elif size == 127:
            size, = struct.unpack(">Q", self.take(8))
        return first & 0x0F, self.take(size)

    def close_code(self):
        while True:
            opcode, payload = self.frame()
            if opcode == 8:
                return struct.unpack(">H", payload[:2])[0], payload[2:].decode()


def url(echo, path):
    return f"ws://127.0.0.1:{echo.port}{path}"


def test_handshake(echo):
    ws = Raw(echo)
    lines = ws.head.lower().split(b"\r\n")
    assert b"sec-websocket-accept: " + ACCEPT.lower() in lines
    assert [line for line in lines if line.startswith(b"x-request-id: ")]
    assert not [line for line in lines if line.startswith(b"sec-websocket-extensions")]
    assert ws.frame() == (1, b"hello")
    ws.socket.close()


@pytest.mark.parametrize("request_, status, code", [
    (head(version=b"Sec-WebSocket-Version: 99\r\n"), 426, b"upgrade_required"),
    (head(version=b"Sec-WebSocket-Version: 8\r\n"), 426, b"upgrade_required"),
    (head(version=b""), 426, b"upgrade_required"),
    (head(version=b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13\r\n"), 426, b"upgrade_required"),
    (head(upgrade=b"Connection: Upgrade\r\n"), 426, b"upgrade_required"),
    (head(upgrade=b"Connection: Upgrade\r\nUpgrade: h2c\r\n"), 426, b"upgrade_required"),
    (head(upgrade=b"Upgrade: websocket\r\n"), 426, b"upgrade_required"),
    (head(key=b""), 400, b"malformed_request"),
    (head(key=b"Sec-WebSocket-Key: short\r\n"), 400, b"malformed_request"),
    (head(key=b"Sec-WebSocket-Key: " + b"A" * 22 + b"=\r\n"), 400, b"malformed_request"),
    (head(key=b"Sec-WebSocket-Key: " + b"A" * 21 + b"B==\r\n"), 400, b"malformed_request"),
    (head(key=b"Sec-WebSocket-Key: " + KEY + b"\r\nSec-WebSocket-Key: " + KEY + b"\r\n"), 400, b"malformed_request"),
    (head().replace(b"GET", b"POST"), 400, b"malformed_request"),
    (head(more=b"Content-Length: 1\r\n") + b"x", 400, b"malformed_request"),
])
def test_refused_handshakes_are_plain_http(echo, request_, status, code):
    answer = echo.raw(request_.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
    top, _, body = answer.partition(b"\r\n\r\n")
    assert top.startswith(b"HTTP/1.1 %d " % status), answer
    assert body == code
    assert (b"\r\nsec-websocket-version: 13" in top.lower()) == (status == 426)


@pytest.mark.parametrize("more", [b"X-A: 1\r\nA: 2\r\nCon: 3\r\nX-Forwarded: 4\r\n",  # names that stall lws
                                  b"Sec-WebSocket-Protocol: unknown\r\n",
                                  b"Sec-WebSocket-Extensions: permessage-deflate\r\n",
                                  b"X-Large: " + b"y" * 8000 + b"\r\n"])
def test_headers_that_do_not_matter(echo, more):
    with echo.connect() as s:
        s.sendall(head(more=more))
        data = b""
        while b"hello" not in data:
            part = s.recv(4096)
            assert part, data
            data += part
        assert data.startswith(b"HTTP/1.1 101 ")
        assert b"extensions" not in data.lower() and b"protocol:" not in data.lower()


def test_a_foreign_client(echo):
    with connect(url(echo, "/ws"), compression=None) as ws:
        assert ws.recv() == "hello"
        ws.send("ignored")
        ws.ping().wait(10)
    assert wait_last(echo, b"nil cancelled")


def wait_last(echo, want):
    end = time.monotonic() + 20
    while (got := echo.get("/last")) != want:
        assert time.monotonic() < end, got
        time.sleep(0.02)
    return True


def test_many_messages_in_order(echo):
    with connect(url(echo, "/ws/count?1000"), compression=None, max_size=None) as ws:
        for i in range(1, 1001):
            assert ws.recv() == f"{i} " + "x" * (70000 if i % 10 == 0 else i % 50)
        with pytest.raises(ConnectionClosed) as end:
            ws.recv()
    assert (end.value.rcvd.code, end.value.rcvd.reason) == (1000, "that was all")


def test_a_frame_in_the_same_packet_as_the_request(echo):
    ws = Raw(echo, first=frame(b"early") + frame(struct.pack(">H", 1000), opcode=8))
    assert ws.close_code()[0] == 1000
    ws.socket.close()


def test_byte_by_byte(echo):
    s = echo.connect()
    for b in head():
        s.send(bytes([b]))
    data = b""
    while b"hello" not in data:
        data += s.recv(4096)
    for b in frame(struct.pack(">H", 1000), opcode=8):
        s.send(bytes([b]))
    data = b""
    while part := s.recv(4096):
        data += part
    assert data[:1] == b"\x88"
    s.close()


def test_client_frames_are_bounded(echo):
    ws = Raw(echo)
    ws.frame()
    for size in (0, 125, 126, 4096):
        ws.socket.sendall(frame(b"x" * size))
    ws.socket.sendall(frame(b"ping", opcode=9))
    assert ws.frame() == (10, b"ping")
    ws.socket.sendall(frame(b"x" * 4097))
    assert ws.close_code() == (1009, "the frame is too large")
    ws.socket.close()


def test_a_huge_announced_frame_is_not_waited_for(echo):
    ws = Raw(echo)
    ws.frame()
    ws.socket.sendall(b"\x81\xff" + struct.pack(">Q", 1 << 40) + b"abcd" + b"x" * 100)
    assert ws.close_code()[0] == 1009
    ws.socket.close()


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 1013])
def test_close_codes(echo, code):
    ws = Raw(echo, b"/ws/close?%d" % code)
    if code in (1000, 1001):  # these let out what is queued
        assert ws.frame() == (1, b"bye")
    assert ws.close_code() == (code, "on purpose")
    ws.socket.sendall(frame(struct.pack(">H", code), opcode=8))
    with pytest.raises((EOFError, ConnectionResetError)):
        while True:
            ws.more()
    ws.socket.close()


def test_a_client_that_vanishes(echo):
    ws = Raw(echo)
    ws.frame()
    ws.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    ws.socket.close()
    assert wait_last(echo, b"nil cancelled")


def test_a_client_that_does_not_read(echo):
    before = echo.rss()
    s = echo.connect()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.sendall(head(b"/ws/flood"))
    assert wait_last(echo, b"too_slow")
    assert ASAN or echo.rss() - before < 8 << 20
    s.close()


def test_a_slow_client_is_told_where_it_stopped(echo):
    ws = Raw(echo, b"/ws/flood")
    assert wait_last(echo, b"too_slow")
    got = 0
    while (part := ws.frame())[0] == 1:
        got += 1
    assert part[0] == 8
    code, reason = struct.unpack(">H", part[1][:2])[0], part[1][2:].decode()
    assert code == 1013 and reason.startswith("last_seq=")
    assert got <= int(reason.removeprefix("last_seq="))
    ws.socket.close()


def test_pings_and_missing_pongs(echo):
    ws = Raw(echo, b"/ws/ping")
    for _ in range(5):  # answered ones keep it open
        opcode, payload = ws.frame()
        assert opcode == 9
        ws.socket.sendall(frame(payload, opcode=10))
    assert echo.get("/last") == b"open"
    assert [ws.frame()[0] for _ in range(2)] == [9, 9]
    assert wait_last(echo, b"dead")
    ws.socket.close()


def test_forgotten_ones_are_closed(echo):
    ws = Raw(echo, b"/ws/forgotten")
    echo.get("/counts")  # collects
    echo.get("/counts")
    assert ws.close_code()[0] == 1000
    ws.socket.close()


def test_drain_closes_with_1001(start_echo):
    echo = start_echo()
    ws, other = Raw(echo), Raw(echo, b"/ws/ping")
    assert ws.frame() == (1, b"hello")
    echo.get("/quit")
    for one in (ws, other):
        assert one.close_code() == (1001, "the service drains")
        one.socket.sendall(frame(struct.pack(">H", 1001), opcode=8))
        one.socket.close()
    out, _ = echo.process.communicate(timeout=20)
    assert json.loads(out) == {"drained": True, "tasks": 0, "ops": 0, "handles": 0}
    echo.stop = lambda: None


def test_close_with_open_sockets(start_echo):
    """A client that ignores 1001 does not hold the process."""
    echo = start_echo()
    stubborn = [Raw(echo) for _ in range(20)]
    echo.get("/quit")
    out, _ = echo.process.communicate(timeout=60)
    assert echo.process.returncode == 0
    left = json.loads(out)
    assert (left["tasks"], left["ops"], left["handles"]) == (0, 0, 0)
    for one in stubborn:
        one.socket.close()
    echo.stop = lambda: None


def test_unix_socket(start_echo, tmp_path):
    echo = start_echo(unix=str(tmp_path / "s"))
    ws = Raw(echo)
    assert ws.frame() == (1, b"hello")
    ws.socket.close()
    assert wait_last(echo, b"nil cancelled")


def test_nothing_is_left(start_echo):
    """Descriptors, tasks, ops and handles come back to what they were before a round of sockets."""
    echo = start_echo()

    def state():
        counts = json.loads(echo.get("/counts"))
        return (*(counts[k] for k in ("tasks", "ops", "handles")), len(os.listdir(f"/proc/{echo.process.pid}/fd")))

    def settled(most):
        end = time.monotonic() + 30
        while any(now > limit for now, limit in zip(state(), most)):
            assert time.monotonic() < end, (state(), most)
            time.sleep(0.05)
    first = Raw(echo)  # makes what the first upgrade makes
    assert first.frame() == (1, b"hello")
    most = state()  # with one socket open
    for _ in range(30):
        ws = Raw(echo)
        ws.frame()
        ws.socket.close()
    settled(most)
    first.socket.close()
    settled(tuple(n - 1 for n in most))
