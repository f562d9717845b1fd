"""HTTP/1.1 on raw sockets: where a request ends, what is refused, and that one bad client is all that suffers.

Every case is sent whole, in two pieces at each of some places, and byte by byte; the answers must be the same."""
import http.client
import json
import re
import threading
import time

import pytest

from echo import echo, read_all, start_echo  # noqa: F401  fixtures

H = b" HTTP/1.1\r\nHost: a\r\n"
CLOSE = b"Connection: close\r\n"
G = b"GET /hello" + H + b"\r\n"
P = b"POST /echo" + H + b"Content-Length: 3\r\n\r\nabc"
LAST = b"GET /hello" + H + CLOSE + b"\r\n"
CHUNKED = b"POST /echo" + H + b"Transfer-Encoding: chunked\r\n\r\n"


def answers(data):
    """[(status, headers, body)] of a stream of answers; nothing may be left over."""
    found = []
    while data:
        head, end, rest = data.partition(b"\r\n\r\n")
        assert end, data
        lines = head.decode().split("\r\n")
        status = int(re.fullmatch(r"HTTP/1\.1 (\d{3}) .*", lines[0]).group(1))
        headers = dict((k.lower(), v) for k, v in (line.split(": ", 1) for line in lines[1:]))
        if status == 100:
            data = rest
            continue
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while True:
                size, _, rest = rest.partition(b"\r\n")
                n = int(size, 16)
                body, mark, rest = body + rest[:n], rest[n:n + 2], rest[n + 2:]
                assert mark == b"\r\n"
                if n == 0:
                    break
        else:
            n = int(headers["content-length"])
            body, rest = rest[:n], rest[n:]
            assert len(body) == n
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", headers["x-request-id"])
        found.append((status, headers, body))
        data = rest
    return found


def pieces(request):
    """Ways to cut it."""
    yield [request]
    places = range(1, len(request), max(1, len(request) // 12))
    for at in places:
        yield [request[:at], request[at:]]
    if len(request) <= 2000:
        yield [request[i:i + 1] for i in range(len(request))]


def send(echo, parts):
    with echo.connect() as s:
        for i, part in enumerate(parts):
            if i > 0:
                time.sleep(0.0002)
            try:
                s.sendall(part)
            except (BrokenPipeError, ConnectionResetError):
                break  # refused before the end
        return read_all(s)


@pytest.mark.parametrize("name, request_, statuses", [
    ("P", P + LAST, [200, 200]),
    ("PG", P + G + LAST, [200] * 3),
    ("PP", P + P + LAST, [200] * 3),
    ("PPP", P + P + P + LAST, [200] * 4),
    ("GP", G + P + LAST, [200] * 3),
    ("GPG", G + P + G + LAST, [200] * 4),
    ("P+junk", P + b"junk\r\n\r\n", [200, 400]),
    ("P+200G", P + G * 200 + LAST, [200] * 202),
    ("nothing after close", LAST + G + P, [200]),
    ("blank line first", b"\r\n" + LAST, [200]),
    ("chunked", CHUNKED + b"3\r\nabc\r\n0\r\n\r\n" + LAST, [200, 200]),
    ("chunks", CHUNKED + b"1\r\na\r\n00002;x=y\r\nbc\r\n0\r\nTrailer: v\r\n\r\n" + LAST, [200, 200]),
    ("HEAD", b"POST /hello" + H + b"Content-Length: 0\r\n\r\n" + LAST, [200, 200]),
    ("empty POST", b"POST /echo" + H + b"\r\n" + LAST, [200, 200]),
    ("DELETE with body", b"DELETE /echo" + H + b"Content-Length: 3\r\n\r\nabc" + LAST, [200, 200]),
    ("unread small body", b"POST /hello" + H + b"Content-Length: 3\r\n\r\nabc" + LAST, [200, 200]),
    ("unread chunked body", b"POST /hello" + H + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" + LAST, [200, 200]),
    ("prefixes of header names", b"GET /hello" + H + b"X-A: 1\r\nCon: 2\r\nA: 3\r\nX-Forwarded: 4\r\n" + CLOSE + b"\r\n", [200]),
    ("5 KB header", b"GET /hello" + H + b"X: " + b"v" * 5000 + b"\r\n" + CLOSE + b"\r\n", [200]),
    ("absolute form", b"GET http://b/hello" + H + CLOSE + b"\r\n", [200]),
    ("streamed", b"POST /stream" + H + b"Content-Length: 3\r\n\r\nabc" + LAST, [200, 200]),
    ("HTTP/1.0", b"GET /hello HTTP/1.0\r\n\r\n", [200]),
    ("HTTP/1.0 keep-alive", b"GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + LAST, [200, 200]),
    ("404 and on", b"GET /x" + H + b"\r\n" + LAST, [404, 200]),
], ids=lambda v: v if isinstance(v, str) else "")
def test_accepted(echo, name, request_, statuses):
    for parts in pieces(request_):
        got = answers(send(echo, parts))
        assert [status for status, _, _ in got] == statuses, (name, len(parts))
        for (status, headers, body) in got:
            if headers.get("content-type") == "application/json":
                assert json.loads(body)["body"] in ("abc", "")
    assert echo.get("/hello") == b"hello"


@pytest.mark.parametrize("name, request_, status, code", [
    ("CL and TE", b"POST /echo" + H + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + G, 400, "malformed_request"),
    ("TE and CL", b"POST /echo" + H + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n" + G, 400, "malformed_request"),
    ("two CL", b"POST /echo" + H + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc" + G, 400, "malformed_request"),
    ("two different CL", b"POST /echo" + H + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd" + G, 400, "malformed_request"),
    ("CL list", b"POST /echo" + H + b"Content-Length: 3, 3\r\n\r\nabc" + G, 400, "malformed_request"),
    ("negative CL", b"POST /echo" + H + b"Content-Length: -3\r\n\r\nabc" + G, 400, "malformed_request"),
    ("signed CL", b"POST /echo" + H + b"Content-Length: +3\r\n\r\nabc" + G, 400, "malformed_request"),
    ("huge CL", b"POST /echo" + H + b"Content-Length: 99999999999999999999999\r\n\r\nabc" + G, 400, "malformed_request"),
    ("TE other", b"POST /echo" + H + b"Transfer-Encoding: gzip\r\n\r\nabc" + G, 400, "malformed_request"),
    ("TE hidden", b"POST /echo" + H + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + G, 400, "malformed_request"),
    ("two TE", b"POST /echo" + H + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + G, 400, "malformed_request"),
    ("TE in HTTP/1.0", b"POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + G, 400, "malformed_request"),
    ("no length in HTTP/1.0", b"POST /echo HTTP/1.0\r\n\r\n", 411, "length_required"),
    ("no Host", b"GET /hello HTTP/1.1\r\n\r\n" + G, 400, "malformed_request"),
    ("two Hosts", b"GET /hello" + H + b"Host: b\r\n\r\n" + G, 400, "malformed_request"),
    ("Host with path", b"GET /hello HTTP/1.1\r\nHost: a/b\r\n\r\n" + G, 400, "malformed_request"),
    ("bare LF", b"GET /hello HTTP/1.1\nHost: a\n\n" + G, 400, "malformed_request"),
    ("bare LF in a header", b"GET /hello" + H + b"A: b\nC: d\r\n\r\n" + G, 400, "malformed_request"),
    ("bare CR", b"GET /hello" + H + b"A: b\rC: d\r\n\r\n" + G, 400, "malformed_request"),
    ("folded header", b"GET /hello" + H + b"A: b\r\n c\r\n\r\n" + G, 400, "malformed_request"),
    ("NUL in a header", b"GET /hello" + H + b"A: b\0c\r\n\r\n" + G, 400, "malformed_request"),
    ("NUL in the target", b"GET /hel\0lo" + H + b"\r\n" + G, 400, "malformed_request"),
    ("space before colon", b"GET /hello" + H + b"A : b\r\n\r\n" + G, 400, "malformed_request"),
    ("header without a name", b"GET /hello" + H + b": b\r\n\r\n" + G, 400, "malformed_request"),
    ("header without a colon", b"GET /hello" + H + b"A\r\n\r\n" + G, 400, "malformed_request"),
    ("two spaces", b"GET  /hello" + H + b"\r\n" + G, 400, "malformed_request"),
    ("no version", b"GET /hello\r\n\r\n" + G, 400, "malformed_request"),
    ("version 2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "malformed_request"),
    ("unknown method", b"BREW /hello" + H + b"\r\n" + G, 400, "malformed_request"),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "malformed_request"),
    ("CONNECT", b"CONNECT a:80" + H + b"\r\n" + G, 400, "malformed_request"),
    ("8-bit target", b"GET /\xe4" + H + b"\r\n" + G, 400, "malformed_request"),
    ("20 KB header", b"GET /hello" + H + b"X: " + b"v" * 20000 + b"\r\n\r\n" + G, 431, "headers_too_large"),
    ("many headers", b"GET /hello" + H + b"".join(b"X-%d: v\r\n" % i for i in range(120)) + b"\r\n" + G, 431, "headers_too_large"),
    ("endless header", b"GET /hello" + H + b"X" * 70000, 431, "headers_too_large"),
    ("long target", b"GET /" + b"a" * 9000 + H + b"\r\n" + G, 414, "uri_too_long"),
    ("endless target", b"GET /" + b"a" * 70000, 414, "uri_too_long"),
], ids=lambda v: v if isinstance(v, str) and " " in v else "")
def test_refused(echo, name, request_, status, code):
    """One problem, then the connection is closed: what follows is never taken for a request."""
    for parts in pieces(request_):
        (got, headers, body), = answers(send(echo, parts))
        problem = json.loads(body)
        assert got == status, (name, problem)
        assert headers["connection"] == "close" and headers["content-type"] == "application/problem+json"
        assert problem["code"] == code and problem["type"] == f"urn:kontor:error:{code}" and problem["status"] == status
        assert problem["request_id"] == headers["x-request-id"] and problem["detail"] and problem["title"]
    assert echo.get("/hello") == b"hello"


@pytest.mark.parametrize("body", [b"zz\r\nabc\r\n0\r\n\r\n", b"3\nabc\r\n0\r\n\r\n", b"3\rXabc\r\n0\r\n\r\n", b"3\r\nabcX\r\n0\r\n\r\n",
                                  b"3\r\nabc\n0\r\n\r\n", b"-1\r\n", b"0x3\r\nabc\r\n0\r\n\r\n", b" 3\r\nabc\r\n0\r\n\r\n",
                                  b"fffffffffffffffff\r\n", b"0\r\nA: b\n\r\n", b"0\r\n A: b\r\n\r\n", b"0\r\nA : b\r\n\r\n",
                                  b"0\n\n", b"3;a\rb\r\nabc\r\n0\r\n\r\n"])
def test_malformed_chunks(echo, body):
    for parts in pieces(CHUNKED + body + G):
        (status, headers, text), = answers(send(echo, parts))
        assert (status, json.loads(text)["code"], headers["connection"]) == (400, "malformed_request", "close")


def test_endless_chunk_extensions_and_trailers(echo):
    for more in (b"3;" + b"x" * 200000, b"0\r\n" + b"A: b\r\n" * 40000):
        (status, _, _), = answers(send(echo, [CHUNKED + more]))
        assert status == 400


def test_head_has_no_body(echo):
    data = echo.raw(b"HEAD /hello" + H + b"\r\n" + b"HEAD /missing" + H + CLOSE + b"\r\n")
    first, second, rest = data.split(b"\r\n\r\n")
    assert b"200 OK" in first and b"Content-Length: 5" in first and b"404" in second and rest == b""


def test_expect_continue(echo):
    with echo.connect() as s:
        s.sendall(b"POST /echo" + H + b"Content-Length: 3\r\nExpect: 100-continue\r\n" + CLOSE + b"\r\n")
        assert s.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        s.sendall(b"abc")
        (status, _, body), = answers(read_all(s))
        assert status == 200 and json.loads(body)["body"] == "abc"
    # Too large: refused instead of invited, and the connection ends.
    data = echo.raw(b"POST /echo" + H + b"Content-Length: 2000000\r\nExpect: 100-continue\r\n\r\n")
    (status, headers, _), = answers(data)
    assert status == 413 and headers["connection"] == "close" and b"100 Continue" not in data


def test_a_body_that_is_too_large(echo):
    """The answer comes before the body, and the client that goes on sending still gets it."""
    block = b"x" * (1 << 20)
    for head, blocks in ((b"POST /echo" + H + b"Content-Length: 52428800\r\n\r\n", [block] * 50),
                         (CHUNKED, [b"100000\r\n" + block + b"\r\n"] * 20)):
        with echo.connect() as s:
            s.sendall(head)
            try:
                for part in blocks:
                    s.sendall(part)
            except (BrokenPipeError, ConnectionResetError):
                pass  # it stops listening after a while; the answer is there by then
            data = b""
            try:
                data = read_all(s)
            except ConnectionResetError:
                assert not data or b"413" in data
            if data:
                (status, headers, _), = answers(data)
                assert status == 413 and headers["connection"] == "close"
    # A client that waits for the answer before it goes on always sees it.
    (status, _, _), = answers(echo.raw(b"POST /echo" + H + b"Content-Length: 52428800\r\n\r\n" + b"x" * 300000))
    assert status == 413


def test_a_bound_for_the_whole_server(start_echo):
    echo = start_echo(body=1000)
    (status, headers, body), = answers(echo.raw(b"POST /hello" + H + b"Content-Length: 1001\r\n\r\n"))
    assert (status, json.loads(body)["code"], headers["connection"]) == (413, "body_too_large", "close")
    (status, _, _), = answers(echo.raw(b"POST /hello" + H + b"Content-Length: 1000\r\n" + CLOSE + b"\r\n" + b"x" * 1000))
    assert status == 200


def test_large_bodies_pass_through(echo):
    """10 MB up and down at the same time, by length and by chunks, without a copy of the whole in the server."""
    data = bytes(range(256)) * 40960
    conn = http.client.HTTPConnection("127.0.0.1", echo.port, timeout=60)
    got = {}

    def stream(s):
        got["answer"] = answers(read_all(s))
    for head, tail in ((b"Content-Length: %d\r\n" % len(data), lambda d: d),
                       (b"Transfer-Encoding: chunked\r\n", lambda d: b"".join(b"%x\r\n%b\r\n" % (len(d[i:i + 99999]), d[i:i + 99999])
                                                                               for i in range(0, len(d), 99999)) + b"0\r\n\r\n")):
        with echo.connect() as s:
            reader = threading.Thread(target=stream, args=(s,))
            reader.start()
            s.sendall(b"POST /stream" + H + CLOSE + head + b"\r\n" + tail(data))
            reader.join(60)
        (status, _, body), = got.pop("answer")
        assert status == 200 and body == data
    conn.request("POST", "/count", body=iter([data[:5000], data[5000:70000], data[70000:]]))
    assert conn.getresponse().read() == str(len(data)).encode()
    conn.close()


def test_request_ids(echo):
    for sent, kept in ((b"abc-1.2_3", True), (b"x" * 64, True), (b"x" * 65, False), (b"a b", False), (b"", False),
                       (b"a\xe4", False), (b'a"b', False)):
        (_, headers, _), = answers(echo.raw(b"GET /hello" + H + CLOSE + b"X-Request-Id: " + sent + b"\r\n\r\n"))
        assert (headers["x-request-id"] == sent.decode("latin-1")) == kept
    ids = {answers(echo.raw(LAST))[0][1]["x-request-id"] for _ in range(20)}
    assert len(ids) == 20


def test_repeated_headers_reach_the_handler_joined(echo):
    (_, _, body), = answers(echo.raw(b"GET /echo" + H + CLOSE + b"A: 1\r\na: 2\r\nCookie: x\r\nCookie: y\r\nE:\r\n\r\n"))
    headers = json.loads(body)["headers"]
    assert (headers["a"], headers["cookie"], headers["e"]) == ("1, 2", "x; y", "")


def test_targets_reach_the_handler_as_they_are(echo):
    (_, _, body), = answers(echo.raw(b"GET http://other:99/echo?a=%2F&b=?// HTTP/1.1\r\nHost: a\r\n" + CLOSE + b"\r\n"))
    seen = json.loads(body)
    assert (seen["path"], seen["query"], seen["headers"]["host"]) == ("/echo", "a=%2F&b=?//", "other:99")
    (_, _, body), = answers(echo.raw(b"GET /a%2Fb//../%00 HTTP/1.1\r\nHost: a\r\n" + CLOSE + b"\r\n"))
    assert body == b"nothing at /a%2Fb//../%00"


def test_handlers_that_fail(echo):
    for path in (b"/fail", b"/nothing"):
        (status, _, body), = answers(echo.raw(b"GET " + path + H + CLOSE + b"\r\n"))
        assert status == 500 and json.loads(body)["code"] == "internal"
        assert b"purpose" not in body
    assert "on purpose" in echo.log()
    # An answer that was begun is cut: the client must not take it for the whole.
    data = echo.raw(b"GET /half" + H + b"\r\n")
    assert data.endswith(b"4\r\nhalf\r\n")


def test_answer_before_the_handler_ends(echo):
    (status, _, _), (second, _, _) = answers(echo.raw(b"GET /early" + H + b"\r\n" + LAST))
    assert (status, second) == (403, 200)


def test_unix_socket(start_echo, tmp_path):
    echo = start_echo(unix=str(tmp_path / "s"))
    (_, _, body), (status, _, _) = answers(echo.raw(P + LAST))
    assert json.loads(body)["via"] == "unix" and json.loads(body)["remote"] == "" and status == 200


def test_idle_after_a_storm_of_bad_clients(start_echo):
    """Nothing spins and nothing is kept when they are gone."""
    echo = start_echo()
    for request_ in (P + G, b"P", G[:-1], CHUNKED + b"5\r\nab", b"\x16\x03", P[:-1], b"POST /echo" + H + b"Content-Length: 1000000\r\n\r\n"):
        for _ in range(20):
            with echo.connect() as s:
                s.sendall(request_)
    end = time.monotonic() + 30
    while json.loads(echo.get("/counts"))["handles"] > 5:  # listener, sweep, this connection, two of the loop
        assert time.monotonic() < end
        time.sleep(0.05)
    before = echo.cpu_seconds()
    time.sleep(0.5)
    assert echo.cpu_seconds() - before < 0.25
