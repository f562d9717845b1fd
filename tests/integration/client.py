"""A plain HTTP client for the tests: what is sent is what the test says, nothing more."""
import gzip
import http.client
import json
import socket
import time

PROBLEM = "application/problem+json"


class Answer:
    def __init__(self, response, body):
        self.status = response.status
        self.headers = {k.lower(): v for k, v in response.getheaders()}
        self.body = body

    @property
    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"{self.status} {self.body[:600]!r}"


class Client:
    def __init__(self, port, host="127.0.0.1", key=None):
        self.port, self.host, self.key = port, host, key

    def send(self, method, path, body=None, headers=None, raw=None):
        """body: something for JSON; raw: bytes as they are."""
        conn = http.client.HTTPConnection(self.host, self.port, timeout=60)
        sent = {**({"X-API-Key": self.key} if self.key else {}), **(headers or {})}
        data = raw
        if body is not None:
            data = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        try:
            conn.request(method, path, body=data, headers=sent)
            response = conn.getresponse()
            return Answer(response, response.read())
        finally:
            conn.close()

    def get(self, path, **more):
        return self.send("GET", path, **more)

    def post(self, path, body=None, **more):
        return self.send("POST", path, {} if body is None and "raw" not in more else body, **more)

    def put(self, path, body=None, **more):
        return self.send("PUT", path, body, **more)

    def ok(self, method, path, body=None, want=(200, 201, 202, 204), **more):
        answer = self.send(method, path, body, **more)
        assert answer.status in want, (method, path, answer)
        return answer.json if answer.body else None

    def upload(self, project, dataset, name, data, media="text/csv", zipped=False):
        headers = {"Content-Type": media}
        if zipped:
            data, headers["Content-Encoding"] = gzip.compress(data), "gzip"
        return self.send("PUT", f"/api/v1/projects/{project}/datasets/{dataset}/tables/{name}", raw=data, headers=headers)

    def raw(self, request):
        """Bytes of a request -> status line and body of the answer; for what http.client refuses to send."""
        with socket.create_connection((self.host, self.port), timeout=30) as s:
            s.sendall(request)
            response = http.client.HTTPResponse(s)
            response.begin()
            return Answer(response, response.read())

    def pages(self, path, limit, **filters):
        """All items of a list, page by page."""
        items, cursor = [], None
        while True:
            query = "&".join(f"{k}={v}" for k, v in {**filters, "limit": limit, **({"cursor": cursor} if cursor else {})}.items())
            page = self.ok("GET", f"{path}?{query}", want=(200,))
            assert len(page["data"]) <= limit and page["page"]["limit"] == limit
            items += page["data"]
            cursor = page["page"]["next_cursor"]
            if cursor is None:
                return items
            assert page["data"], "a page that is not the last is not empty"

    def wait_ended(self, project, execution, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            doc = self.ok("GET", f"/api/v1/projects/{project}/executions/{execution}", want=(200,))
            if doc["status"] in ("completed", "failed", "cancelled", "timed_out"):
                return doc
            time.sleep(0.05)
        raise AssertionError(f"{execution} has not ended: {doc}")


def check_problem(answer, status, code, **errors):
    """The answer is this problem; errors: field -> code, exactly."""
    assert answer.status == status, answer
    assert answer.headers["content-type"] == PROBLEM, answer
    doc = answer.json
    assert doc["code"] == code and doc["status"] == status and doc["type"] == f"urn:kontor:error:{code}", doc
    assert set(doc) - {"errors", "quota"} == {"type", "title", "status", "code", "detail", "retryable", "request_id"}
    assert doc["request_id"] == answer.headers["x-request-id"]
    if errors:
        got = {e.get("pointer") or e.get("parameter") or e.get("header") or "": e["code"] for e in doc["errors"]}
        assert got == errors.get("fields", errors), doc["errors"]
    return doc


def without_request_id(answer):
    doc = answer.json
    doc.pop("request_id")
    return (answer.status, doc, {k: v for k, v in answer.headers.items() if k not in ("x-request-id", "date")})
