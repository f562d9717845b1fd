"""Secrets: no value is ever seen again, the key file is guarded, a rotation survives every crash."""
import base64
import json
import os
import pty
import random
import re
import select
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from client import Client
from conftest import KONTOR, ON_MONGODB, eventually
from engine_client import Engine

VALUE = "Bearer q7-Zm9v.c2VjcmV0/YmFy"
WORD = VALUE.split()[1]
KEY, NEXT = (base64.b64encode(bytes([n]) * 32).decode() for n in (7, 8))
MASTER, PROJECT = "/api/v1/master/secrets", "/api/v1/projects/default/secrets"


own_key = pytest.mark.skipif(ON_MONGODB, reason="the key file is the embedded store's")


def another_key(service):
    """What a rotation wants of who operates the service, which is not running."""
    if ON_MONGODB:
        service.env["KONTOR_MASTER_KEY_OLD"] = ",".join(filter(None, [service.env["KONTOR_MASTER_KEY"], service.env.get("KONTOR_MASTER_KEY_OLD")]))
        service.env["KONTOR_MASTER_KEY"] = os.urandom(32).hex()


def kontor(service, *args, text="", check=True, **env):
    """A command beside the service, or on its data."""
    service.tmp.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([KONTOR, *args], input=text, capture_output=True, text=True, cwd=service.tmp,
                          env={**service.env, **env}, timeout=120)
    assert not check or done.returncode == 0, (args, done.stdout, done.stderr)
    return done


def holders(folder, *words):
    """Files that hold one of the words, in UTF-8, UTF-16 or base64."""
    needles = []
    for word in words:
        raw = word.encode()
        needles += [raw, word.encode("utf-16-le"), *(base64.b64encode(b" " * n + raw)[4:-4] for n in range(3))]
    return [(path.name, needle) for path in sorted(Path(folder).rglob("*")) if path.is_file()
            for needle in needles if needle in path.read_bytes()]


@pytest.fixture
def echo():
    """A server that answers with all that it was sent; its URL, and the heads that came."""
    listener, heads = socket.create_server(("127.0.0.1", 0)), []

    def serve():
        while True:
            try:
                s, _ = listener.accept()
            except OSError:
                return
            with s:
                head = b""
                while b"\r\n\r\n" not in head and (more := s.recv(65536)):
                    head += more
                heads.append(head.decode())
                body = json.dumps({"head": head.decode(), "token": WORD, "form": VALUE}).encode()
                s.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
                          % (len(body), body))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/", heads
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def test_no_value_is_seen_again(make_service, echo):
    """It is set, used and replaced in every way there is; then all that the service has written and answered is searched."""
    url, heads = echo
    service = make_service(KONTOR_EGRESS_ALLOW="127.0.0.1", KONTOR_LOG_LEVEL="debug").start()
    api, engine = Client(service.port), Engine(service.port)
    seen = []

    def ask(method, path, body=None, want=(200, 201, 204, 422, 400, 404), **more):
        answer = api.send(method, path, body, **more)
        assert answer.status in want, (method, path, answer)
        seen.append(json.dumps([answer.headers, answer.body.decode()]))
        return answer

    for base in (MASTER, PROJECT):
        for _ in range(2):
            ask("PUT", f"{base}/ticket-token", {"value": VALUE}, want=(204,))
        ask("GET", f"{base}/ticket-token", want=(200,))
        ask("GET", base, want=(200,))
        # What is wrong with a request is said without what it holds.
        for body in ({"value": VALUE, "more": VALUE}, {"value": [VALUE]}, {"value": VALUE + "\0"}, {"value": VALUE * 1000}):
            ask("PUT", f"{base}/ticket-token", body, want=(422,))
        for raw in (b'{"value": "%s" "%s"}', b'{"value": %s %s}', b'{"value": "%s", %s'):
            ask("PUT", f"{base}/ticket-token", raw=raw % (VALUE.encode(), VALUE.encode()),
                headers={"Content-Type": "application/json"}, want=(400,))
        ask("PUT", f"{base}/bad%20name", {"value": VALUE}, want=(422,))
        ask("PUT", f"{base}/gone", {"value": VALUE}, want=(204,))
        ask("DELETE", f"{base}/gone", want=(204,))
    assert kontor(service, "secret", "set", "by-hand", "--project", "default", text=VALUE + "\n").stdout == "by-hand is set\n"
    refused = kontor(service, "secret", "set", "by-hand", VALUE, check=False)
    assert refused.returncode == 2 and WORD not in refused.stdout + refused.stderr

    for name in ("ticket-token", "by-hand"):
        tool = engine.make_tool(f"ask-{name}", "POST", url, headers={"Authorization": f"secret:{name}"})
        instance = engine.make_agent(f"asker-{name}", """workflow { name = "asker", run = function(run)
            local answer = tool.call("%s", { n = 1 })
            log("info", answer.content)
            result.partial(answer.value)
            return answer
        end }""" % tool, tools=[tool])
        run = engine.start(instance)["execution_id"]
        assert engine.ended(run)["status"] == "completed"
        assert f"Authorization: {VALUE}" in heads[-1]
        told = engine.result(run)["output"]["value"]
        assert (told["token"], told["form"]) == (f"[secret:{name}]", f"[secret:{name}]") and f"[secret:{name}]" in told["head"]
        for path in (f"/executions/{run}", f"/executions/{run}/result", f"/executions/{run}/events", "/executions", "/audit-log"):
            ask("GET", "/api/v1/projects/default" + path, want=(200,), headers={"Accept": "application/json"})
    for path in ("/api/v1/master/tools", "/api/v1/master/audit-log", "/api/v1/master/health", "/metrics", "/openapi.json"):
        ask("GET", path, want=(200,), headers={"Accept": "*/*"})
    ask("POST", "/api/v1/master/secret-key/rotate", {}, want=(200,))
    entries = api.get("/api/v1/projects/default/audit-log?target_type=secret").json["data"]
    assert [e["changes"] for e in entries if e["action"] == "secret.update"] == [[{"pointer": "/value", "from": "***", "to": "***"}]]
    assert [e["action"] for e in entries if e["target_id"] == "gone"] == ["secret.delete", "secret.create"]
    service.stop()

    assert [text for text in seen if WORD in text] == []
    assert holders(service.tmp, WORD) == []
    key = "7" * 64 if ON_MONGODB else (service.data / "master.key").read_text().splitlines()[2]
    assert len(key) in (44, 64)
    assert {name for name, _ in holders(service.tmp, key)} == (set() if ON_MONGODB else {"master.key"})
    # The search finds what is there.
    (service.tmp / "planted").write_text(f"x{VALUE}x")
    (service.tmp / "planted64").write_bytes(base64.b64encode(f"xy{VALUE}".encode()))
    assert {name for name, _ in holders(service.tmp, WORD)} == {"planted", "planted64"}


def test_fields_and_limits(make_service):
    api = Client(make_service().start().port)
    for base in (MASTER, PROJECT):
        name = base + "/limits"
        for body, pointer, code in (({}, "/value", "required"), ({"value": ""}, "/value", "length"), ({"value": "x" * 16385}, "/value", "length"),
                                    ({"value": None}, "/value", "type"), ({"value": 1}, "/value", "type"), ({"value": "a\0b"}, "/value", "format"),
                                    ({"value": "x", "hosts": []}, "/hosts", "unknown_field")):
            answer = api.put(name, body)
            assert answer.status == 422 and [(e["pointer"], e["code"]) for e in answer.json["errors"]] == [(pointer, code)], answer
        for bad in ("a%2Fb", "a%20b", "-a", ".a", "%C3%A4", "x" * 65, "system%2Fcursor"):
            answer = api.put(f"{base}/{bad}", {"value": "x"})
            assert answer.status == 422 and [(e["parameter"], e["code"]) for e in answer.json["errors"]] == [("name", "pattern")], answer
            assert api.get(f"{base}/{bad}").status == api.send("DELETE", f"{base}/{bad}").status == 404
        for value in ("x", "x" * 16384, "€" * 16384, "two\nlines\n", "\u0001"):
            assert api.put(name, {"value": value}).status == 204
        doc = api.ok("GET", name)
        assert sorted(doc) == ["key_id", "name", "updated_at", "updated_by", "version"] and doc["version"] == 5
        assert re.fullmatch("k_[0-9a-f]{16}", doc["key_id"])
        assert api.get(name).headers["etag"] == '"v5"'
        assert api.put(name, {"value": "x"}, headers={"If-Match": '"v4"'}).status == 412
        assert api.put(name, {"value": "x"}, headers={"If-Match": '"v5"'}).status == 204
        assert api.put(base + "/none", {"value": "x"}, headers={"If-Match": "*"}).status == 412
        for other in ("b", "A", "c"):
            assert api.put(f"{base}/{other}", {"value": "x"}).status == 204
        page = api.ok("GET", base + "?limit=3")
        rest = api.ok("GET", f"{base}?limit=3&cursor={page['page']['next_cursor']}")
        assert [row["name"] for row in page["data"] + rest["data"]] == ["A", "b", "c", "limits"], "and none of the service's own"
        assert api.send("DELETE", f"{base}/b").status == 204
        assert api.get(f"{base}/b").status == api.send("DELETE", f"{base}/b").status == 404
    assert api.put("/api/v1/projects/nobody-has-this/secrets/a", {"value": "x"}).status == 404


def test_a_command_line(make_service):
    """The same with the service and without it."""
    service = make_service(KONTOR_WORKERS=2).start()
    for running in (True, False):
        for of in ((), ("--project", "default")):
            assert "there is no secret" in kontor(service, "secret", "list", *of).stderr
            kontor(service, "secret", "set", "one", *of, text="v")
            kontor(service, "secret", "set", "one", *of, text="v2\n")
            rows = kontor(service, "secret", "list", *of).stdout.splitlines()
            assert rows[0].split()[:3] == ["NAME", "KEY", "VERSION"] and rows[1].split()[::2][:2] == ["one", "2"] and len(rows) == 2
            for text, why in (("", "no value"), ("\n", "at least 1"), ("x" * 20000, "at most 16384"), ("x" * 70000, "longer than 65536")):
                done = kontor(service, "secret", "set", "one", *of, text=text, check=False)
                assert done.returncode == 1 and why in done.stderr, done.stderr
            done = kontor(service, "secret", "set", "a/b", *of, text="v", check=False)
            assert done.returncode == 1 and "NAME must match" in done.stderr
            assert kontor(service, "secret", "rm", "one", *of).stdout == "one is deleted\n"
            done = kontor(service, "secret", "rm", "one", *of, check=False)
            assert done.returncode == 1 and "there is no secret one" in done.stderr
        for args in (("set", "a", "--project", "none"), ("list", "--project", "none"), ("rm", "a", "--project", "none"), ("list", "--project", "No!")):
            done = kontor(service, "secret", *args, text="v", check=False)
            assert done.returncode == 1 and re.search("no (project|secret|id)", done.stderr), (args, done.stderr)
        for args in ((), ("set",), ("rm",), ("rotate", "x"), ("show", "a")):
            assert kontor(service, "secret", *args, check=False).returncode == 2
        if running:
            service.stop()


def typed(service, keys, *args):
    """The command at a terminal; (exit code, all that the terminal showed)."""
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(service.tmp)
        os.execve(KONTOR, [KONTOR, *args], service.env)
    shown = b""
    while select.select([fd], [], [], 60)[0]:
        try:
            more = os.read(fd, 4096)
        except OSError:
            break
        shown += more
        if keys and b"Value: " in shown:
            os.write(fd, keys)
            keys = b""
        if not more:
            break
    os.close(fd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode("utf-8", "replace")


def test_a_value_is_typed_unseen(make_service):
    service = make_service().start()
    code, shown = typed(service, b"wrong\x15typ\xc3\xa4\x7fed-unseen\r", "secret", "set", "typed")
    assert code == 0 and "unseen" not in shown and "typed is set" in shown, shown
    for keys in (b"half a va\x03", b"\x04", b"\r"):
        code, shown = typed(service, keys, "secret", "set", "other")
        assert code == 1 and "half" not in shown, shown
    assert [row["name"] for row in service.get(MASTER).json()["data"]] == ["typed"]


@own_key
def test_the_key_file(make_service):
    """It comes with the first secret, for its owner alone; one that others may read is refused."""
    service = make_service().start()
    path = service.data / "master.key"
    assert not path.exists()
    Client(service.port).ok("PUT", MASTER + "/a", {"value": VALUE})
    assert path.stat().st_mode & 0o7777 == 0o600
    assert [p.name for p in service.data.iterdir() if ".tmp" in p.name] == []
    path.chmod(0o640)
    refused = service.request("PUT", MASTER + "/a", {"value": VALUE})
    assert (refused.status, refused.json()["code"]) == (409, "invalid_state") and "mode 0640" in refused.json()["detail"]
    service.stop()
    again = make_service(KONTOR_DATA_DIR=service.data).launch()
    assert again.process.wait(60) == 1 and "mode 0640" in again.events("worker.failed")[0]["msg"]
    again.process = None
    path.chmod(0o600)

    # Lost: what is there says which key it wants; a new secret gets a new key.
    kept = path.read_bytes()
    path.unlink()
    service.start()
    api = Client(service.port)
    old = api.ok("GET", MASTER + "/a")["key_id"]
    api.ok("PUT", MASTER + "/b", {"value": "x"})
    report = api.ok("POST", "/api/v1/master/secret-key/rotate", {})
    assert [(f["project_id"], f["name"], f["key_id"]) for f in report["failed"]] == [(None, "a", old)] and old in report["failed"][0]["message"]
    done = kontor(service, "secret", "rotate", check=False)
    assert done.returncode == 1 and old in done.stderr
    # Found again: as a further line it opens what it has sealed.
    with open(path, "ab") as file:
        file.write(kept)
    assert api.ok("POST", "/api/v1/master/secret-key/rotate", {})["failed"] == []
    assert api.ok("GET", MASTER + "/a")["key_id"] == api.ok("GET", MASTER + "/b")["key_id"] != old


def secrets_of(service, base=MASTER):
    return {row["name"]: row["key_id"] for row in Client(service.port).ok("GET", base + "?limit=500")["data"]}


@own_key
def test_a_key_of_the_environment(make_service):
    """From the key file to a variable, and on to another value of it."""
    service = make_service().start()
    api = Client(service.port)
    api.ok("PUT", MASTER + "/a", {"value": VALUE})
    of_file = secrets_of(service)["a"]
    service.stop()

    service.env["KONTOR_MASTER_KEY"] = KEY
    service.start()
    api = Client(service.port)
    api.ok("PUT", PROJECT + "/b", {"value": VALUE})
    first = secrets_of(service, PROJECT)["b"]
    assert first != of_file and secrets_of(service)["a"] == of_file
    assert api.ok("POST", "/api/v1/master/secret-key/rotate", {}) == {"key_id": first, "resealed": 1, "resumed": False, "failed": []}
    service.stop()

    # Without the old one it is named; nothing is lost, and with it all goes on.
    service.env["KONTOR_MASTER_KEY"] = base64.b64decode(NEXT).hex()
    service.start()
    failed = Client(service.port).ok("POST", "/api/v1/master/secret-key/rotate", {})["failed"]
    assert sorted((f["project_id"] or "", f["name"], f["key_id"]) for f in failed) == [("", "a", first), ("default", "b", first)]
    service.stop()
    service.env["KONTOR_MASTER_KEY_OLD"] = KEY
    service.start()
    report = Client(service.port).ok("POST", "/api/v1/master/secret-key/rotate", {})
    assert report["resealed"] == 2 and report["failed"] == []
    assert set(secrets_of(service).values()) == set(secrets_of(service, PROJECT).values()) == {report["key_id"]}
    service.stop()
    for word in (KEY, NEXT, base64.b64decode(KEY).hex(), base64.b64decode(NEXT).hex()):
        assert holders(service.tmp, word) == []


@pytest.mark.parametrize("point", ["secret.key:1", "secret.reseal:1", "secret.reseal:2", "secret.reseal:3", "secret.rotated:1"][ON_MONGODB:])
def test_a_crash_in_a_rotation(make_service, point):
    """Of the service: its next start goes on with it. What is set meanwhile stays, as does every old secret."""
    service = make_service().start()
    api = Client(service.port)
    api.ok("POST", "/api/v1/master/projects", {"project_id": "acme", "project_name": "A", "customer_name": "A"})
    bases = (MASTER, PROJECT, "/api/v1/projects/acme/secrets")
    for base in bases:
        for i in range(3):
            api.ok("PUT", f"{base}/s{i}", {"value": VALUE})
    before = secrets_of(service)["s0"]
    service.stop()
    another_key(service)
    service.env["KONTOR_FAULT"] = point
    service.start()
    with pytest.raises(OSError):
        Client(service.port).post("/api/v1/master/secret-key/rotate")
    del service.env["KONTOR_FAULT"]
    service.kill_supervisor()
    service.start()
    assert len(service.events("secret.rotated")) == 1 or eventually(lambda: service.events("secret.rotated"), "it goes on")
    keys = {key for base in bases for key in secrets_of(service, base).values()}
    assert len(keys) == 1 and keys != {before}
    if not ON_MONGODB:
        assert len((service.data / "master.key").read_text().splitlines()) == 2 + 2, "one more key, however often it was begun"
    api = Client(service.port)
    assert api.ok("POST", "/api/v1/master/secret-key/rotate", {}) | {"key_id": ""} == \
        {"key_id": "", "resealed": 0 if ON_MONGODB else 9, "resumed": False, "failed": []}


@pytest.mark.skipif(ON_MONGODB, reason="a transaction whose client was killed stays open on the server for a minute")
def test_kills_in_rotations(make_service):
    """kill -9 of the command at random moments; each next one goes on. No secret is ever lost."""
    service = make_service().start()
    api = Client(service.port)
    for base in (MASTER, PROJECT):
        for i in range(150):
            api.ok("PUT", f"{base}/s{i}", {"value": f"{VALUE} {i}"})
    service.stop()
    rng, killed = random.Random(6), 0
    for _ in range(25):
        child = subprocess.Popen([KONTOR, "secret", "rotate"], cwd=service.tmp, env=service.env, stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL)
        time.sleep(rng.random() * 0.12)
        child.send_signal(signal.SIGKILL)
        killed += child.wait() == -signal.SIGKILL
        assert (service.data / "master.key").stat().st_mode & 0o7777 == 0o600
    assert killed > 0
    kontor(service, "secret", "rotate")  # to its end
    assert kontor(service, "secret", "rotate").stdout.startswith("300 sealed anew"), "every secret still opens"
    assert list(service.data.glob("master.key.*")) == [], "nor is half a key file left"


def test_values_that_are_set_while_a_key_is_rotated(make_service):
    service = make_service(KONTOR_WORKERS=2).start()
    api = Client(service.port)
    api.ok("PUT", "/api/v1/master/projects/default", {"project_name": "P", "customer_name": "C",
                                                      "quotas": {"requests_per_minute": 1000000}})
    stop, faults = threading.Event(), []

    def write(n):
        count = 0
        while not stop.is_set():
            answer = Client(service.port).put(f"{PROJECT}/w{n}", {"value": f"{VALUE} {count}"})
            count += 1
            if answer.status != 204:
                faults.append(answer)

    writers = [threading.Thread(target=write, args=(n,)) for n in range(3)]
    for thread in writers:
        thread.start()
    for _ in range(15):
        report = api.ok("POST", "/api/v1/master/secret-key/rotate", {})
        assert report["failed"] == []
    stop.set()
    for thread in writers:
        thread.join()
    assert faults == []
    report = api.ok("POST", "/api/v1/master/secret-key/rotate", {})
    assert report["failed"] == [] and set(secrets_of(service, PROJECT).values()) == {report["key_id"]}


@pytest.mark.skipif(not ON_MONGODB, reason="of MongoDB alone")
def test_with_mongodb_a_key_is_given(make_service):
    """Without one all works but secrets, and that says what to do."""
    service = make_service(KONTOR_MASTER_KEY="").start()
    for ask in (lambda: service.request("PUT", MASTER + "/a", {"value": VALUE}), lambda: service.request("PUT", PROJECT + "/a", {"value": VALUE}),
                lambda: service.post("/api/v1/master/secret-key/rotate", {})):
        refused = ask()
        assert (refused.status, refused.json()["code"]) == (409, "invalid_state") and "KONTOR_MASTER_KEY is not set" in refused.json()["detail"]
    for args in (("set", "a"), ("rotate",)):
        done = kontor(service, "secret", *args, text=VALUE, check=False)
        assert done.returncode == 1 and "KONTOR_MASTER_KEY is not set" in done.stderr
    assert secrets_of(service) == {} and not (service.data / "master.key").exists()
    service.stop()
    service.env["KONTOR_MASTER_KEY"] = KEY
    service.start()
    Client(service.port).ok("PUT", MASTER + "/a", {"value": VALUE})
    service.stop()
    del service.env["KONTOR_MASTER_KEY"]
    service.start()
    refused = service.post("/api/v1/master/secret-key/rotate", {})
    assert refused.status == 409 and list(secrets_of(service)) == ["a"]
