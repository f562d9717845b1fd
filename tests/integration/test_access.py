"""Who may do what: every route of the route table with every kind of key, and never a byte of another project."""
import http.client
import itertools
import json
import re
import subprocess
import time

import pytest
import websockets.sync.client
from websockets.exceptions import ConnectionClosed, InvalidStatus

from conftest import KONTOR, eventually

MARK = "Zg7-only-the-others-see-this"
ROLES = ["viewer", "operator", "author", "admin"]
RANK = {"any": 0, **{role: i + 1 for i, role in enumerate(ROLES)}}
UNKNOWN = {"instance_id": "inst_" + "1" * 32, "dataset_id": "ds_" + "1" * 32, "execution_id": "exec_9_" + "1" * 32, "key_id": "key_" + "1" * 32,
           "backup_id": "bak_" + "1" * 32, "job_id": "job_" + "1" * 32}
NO_KEY = "kt_" + "0" * 32 + "_" + "A" * 43


class World:
    """Two projects with the same kinds of things in them; everything of `other` carries MARK."""

    def __init__(self, service):
        self.service, self.keys, self.ids = service, {}, {}
        first = subprocess.run([KONTOR, "key", "create", "--name", "root", "--role", "admin"], env=service.env, cwd=service.tmp,
                               capture_output=True, text=True, check=True).stdout.strip()
        self.keys["root"] = first
        self.made("root", "/api/v1/master/setup/erp-defaults", {})
        self.made("root", "/api/v1/master/tools", {"tool_id": "a-tool", "name": "A tool", "description": "Does.", "kind": "http",
                                                   "http": {"method": "GET", "url": "https://tickets.example/"}})
        for project in ("mine", "other"):
            label = MARK if project == "other" else "plain"
            self.made("root", "/api/v1/master/projects", {"project_id": project, "project_name": label, "customer_name": label})
            p = f"/api/v1/projects/{project}"
            instance = self.made("root", f"{p}/agent-instances", {"agent_id": "erp-exception-management", "name": label})
            dataset = self.made("root", f"{p}/datasets", {"name": label, "as_of": "2025-06-30"})
            self.ask("root", "PUT", f"{p}/datasets/{dataset['dataset_id']}/tables/vendor.csv",
                     b"vendor_id,name\n1," + label.encode() + b"\n", {"Content-Type": "text/csv"})
            run = self.made("root", f"{p}/executions", {"instance_id": instance["instance_id"], "async_execution": False,
                                                      "metadata": {"label": label}})
            key = self.made("root", f"{p}/api-keys", {"name": label, "role": "viewer"})
            job = self.made("root", f"{p}/backups", {})
            eventually(lambda job=job: self.job("root", job["job_id"]).json()["status"] == "completed", "a backup")
            backup = self.job("root", job["job_id"]).json()["result"]["backup_id"]
            self.ids[project] = {"project_id": project, "instance_id": instance["instance_id"], "dataset_id": dataset["dataset_id"],
                                 "execution_id": run["execution_id"], "key_id": key["key_id"], "name": "vendor.csv",
                                 "agent_id": "erp-exception-management", "prompt_id": "erp-exception-management", "n": "1",
                                 "tool_id": "a-tool", "job_id": job["job_id"], "backup_id": backup,
                                 "path": "agents%2Ferp-exception-management%2Fworkflow.lua"}
        for role in ROLES:
            self.key(role, role=role, projects=["mine"])
        self.key("foreign", role="admin", projects=["other"])
        self.key("both", role="admin", projects=["mine", "other"])
        revoked = self.key("revoked", role="admin", projects=["*"])
        assert self.ask("root", "DELETE", f"/api/v1/master/api-keys/{revoked}").status == 204
        self.keys["forged"] = self.keys["admin"][:-3] + ("AAA" if self.keys["admin"][-3:] != "AAA" else "BBB")
        self.keys["unknown"] = NO_KEY

    def key(self, name, **body):
        doc = self.made("root", "/api/v1/master/api-keys", {"name": name, **body})
        self.keys[name] = doc["api_key"]
        return doc["key_id"]

    def ask(self, key, method, path, body=None, headers=None):
        headers = dict(headers or {})
        if key:
            headers["Authorization"] = f"Bearer {self.keys[key]}"
        return self.service.request(method, path, body, headers)

    def job(self, key, job_id):
        return self.ask(key, "GET", f"/api/v1/master/jobs/{job_id}")

    def made(self, key, path, body):
        answer = self.ask(key, "POST", path, body)
        assert answer.status in (200, 201, 202), (path, answer.status, answer.body)
        return answer.json()


@pytest.fixture(scope="module")
def world(service):
    return World(service)


@pytest.fixture(scope="module")
def routes(world):
    document = world.service.get("/openapi.json").json()
    found = []
    for path, methods in document["paths"].items():
        for method, about in methods.items():
            body = about.get("requestBody", {}).get("content", {})
            found.append({"path": path, "method": method.upper(), "id": about["operationId"], "role": about["x-kontor-role"],
                          "whole": about.get("x-kontor-whole", False), "near": about.get("x-kontor-near", False),
                          "json": body.get("application/json", {}).get("example"), "upload": next((media for media in body if media != "application/json"), None)})
    assert len(found) > 40
    return found


def send(world, key, route, ids, **headers):
    """A good request of the route, filled with these ids."""
    path = re.sub(r"\{(\w+)\}", lambda m: ids[m[1]], route["path"])
    if route["upload"]:
        return world.ask(key, route["method"], path, b"vendor_id\n1\n", {"Content-Type": route["upload"], **headers})
    body = route["json"] if route["method"] in ("POST", "PUT") else None
    return world.ask(key, route["method"], path, body, headers)


def problem_of(answer):
    doc = answer.json()
    doc.pop("request_id")
    return answer.status, doc


def test_without_a_valid_key_there_is_nothing(world, routes):
    for route, key in itertools.product(routes, [None, "forged", "revoked", "unknown"]):
        answer = send(world, key, route, world.ids["mine"])
        if route["role"] == "any" or (route["near"] and key is None):
            assert answer.status < 400, (route["id"], key, answer.body)
        elif not route["near"]:
            assert (answer.status, answer.json()["code"]) == (401, "unauthenticated"), (route["id"], key, answer.body)
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_what_the_route_says(world, routes, role):
    for route in routes:
        answer = send(world, role, route, world.ids["mine"])
        in_project = "{project_id}" in route["path"]
        writes_master = not in_project and route["method"] != "GET" and route["role"] != "any"
        if RANK[role] < RANK[route["role"]] or route["whole"] or writes_master:
            assert (answer.status, answer.json()["code"]) == (403, "forbidden"), (route["id"], answer.body)
        else:
            assert answer.status not in (401, 403), (route["id"], answer.status, answer.body)
        assert MARK.encode() not in answer.body and MARK not in str(answer.headers), route["id"]


def test_another_project_is_one_that_is_not_there(world, routes):
    """The same answer, byte for byte, as for a project that nobody has; for everything below it."""
    for route in routes:
        if "{project_id}" not in route["path"]:
            continue
        there = send(world, "foreign", route, world.ids["mine"])
        nowhere = send(world, "foreign", route, {**world.ids["mine"], "project_id": "nobody-has-this"})
        assert problem_of(there) == problem_of(nowhere), route["id"]
        assert there.status == 404, (route["id"], there.body)


def test_ids_of_another_project_are_ids_of_nothing(world, routes):
    """Ids that exist there, in a path that is one's own, also with a key that may see both."""
    others, mine = world.ids["other"], world.ids["mine"]
    for route, name in itertools.product(routes, UNKNOWN):
        if "{%s}" % name not in route["path"] or "{project_id}" not in route["path"]:
            continue
        for key in ("admin", "both"):
            theirs = send(world, key, route, {**mine, name: others[name]})
            nobody = send(world, key, route, {**mine, name: UNKNOWN[name]})
            assert problem_of(theirs) == problem_of(nobody), (route["id"], name)
            assert theirs.status == 404, (route["id"], name, theirs.body)


@pytest.mark.parametrize("bad", ["..", "%2e%2e", "exec_1_", "x" * 5000, "%00", "EXEC_1_" + "A" * 32, "inst_" + "g" * 32, "*", "%ff"])
def test_malformed_ids(world, routes, bad):
    for route in routes:
        for name in re.findall(r"\{(\w+_id)\}", route["path"]):
            answer = send(world, "root", route, {**world.ids["mine"], name: bad})
            if answer.status == 414:
                continue
            assert answer.status == 404, (route["id"], name, answer.status, answer.body)
            if name != "project_id":
                unknown = send(world, "root", route, {**world.ids["mine"], name: UNKNOWN.get(name, "nothing-of-this-name")})
                assert problem_of(answer) == problem_of(unknown), (route["id"], name)


def test_jobs_of_another_project(world):
    theirs = world.ids["other"]["job_id"]
    assert problem_of(world.job("admin", theirs)) == problem_of(world.job("admin", "job_" + "1" * 32))
    assert world.job("admin", theirs).status == 404 and world.job("both", theirs).status == 200


def test_bodies_that_name_things_of_another_project(world):
    others = world.ids["other"]
    p = "/api/v1/projects/mine"
    for path, body, pointer in [
        (f"{p}/executions", {"instance_id": others["instance_id"]}, "/instance_id"),
        (f"{p}/executions", {"instance_id": world.ids["mine"]["instance_id"],
                             "input_data": {"dataset_id": others["dataset_id"]}}, "/input_data/dataset_id"),
        (f"{p}/datasets", {"parent_id": others["dataset_id"]}, "/parent_id"),
    ]:
        answer = world.ask("admin", "POST", path, body)
        assert answer.status == 422 and answer.json()["errors"][0]["pointer"] == pointer, answer.body
        assert answer.json()["errors"][0]["code"] == "not_found"
    # A key that a project makes is for that project.
    answer = world.ask("admin", "POST", f"{p}/api-keys", {"name": "x", "role": "viewer", "projects": ["other"]})
    assert answer.status == 422 and answer.json()["errors"][0]["pointer"] == "/projects"


def test_cursors_of_another_project(world):
    for _ in range(3):
        world.made("root", "/api/v1/projects/other/datasets", {"name": MARK})
    cursor = world.ask("foreign", "GET", "/api/v1/projects/other/datasets?limit=1").json()["page"]["next_cursor"]
    assert world.ask("foreign", "GET", f"/api/v1/projects/other/datasets?limit=1&cursor={cursor}").status == 200
    forged = cursor[:-2] + ("AA" if cursor[-2:] != "AA" else "BB")
    for stolen in (cursor, forged, "x", "A" * 200):
        answer = world.ask("admin", "GET", f"/api/v1/projects/mine/datasets?limit=1&cursor={stolen}")
        assert (answer.status, answer.json()["code"]) == (422, "invalid_cursor") and MARK.encode() not in answer.body


def test_idempotency_keys_belong_to_who_sent_them(world):
    path, body = "/api/v1/projects/mine/datasets", {"name": "once"}
    first = world.ask("operator", "POST", path, body, {"Idempotency-Key": "k1"}).json()["dataset_id"]
    again = world.ask("operator", "POST", path, body, {"Idempotency-Key": "k1"})
    assert again.json()["dataset_id"] == first and again.headers["Idempotency-Replayed"] == "true"
    assert world.ask("author", "POST", path, body, {"Idempotency-Key": "k1"}).json()["dataset_id"] != first
    # Of a key itself the secret is not kept for the repetition.
    body = {"name": "once", "role": "viewer"}
    made = world.ask("admin", "POST", "/api/v1/projects/mine/api-keys", body, {"Idempotency-Key": "k2"}).json()
    again = world.ask("admin", "POST", "/api/v1/projects/mine/api-keys", body, {"Idempotency-Key": "k2"}).json()
    assert made["api_key"].startswith("kt_") and again == {**made, "api_key": None}


def test_lists_show_ones_own(world):
    assert {p["project_id"] for p in world.ask("viewer", "GET", "/api/v1/master/projects").json()["data"]} == {"mine"}
    assert {p["project_id"] for p in world.ask("both", "GET", "/api/v1/master/projects").json()["data"]} == {"mine", "other"}
    keys = world.ask("admin", "GET", "/api/v1/projects/mine/api-keys").json()["data"]
    assert keys and all(k["projects"] == ["mine"] for k in keys), "keys for more than this project are not shown"
    assert "api_key" not in keys[0] and "hash" not in keys[0]


def test_a_run_carries_what_it_may_do(world):
    body = {"instance_id": world.ids["mine"]["instance_id"], "async_execution": False}
    run = world.made("operator", "/api/v1/projects/mine/executions", body)
    assert run["created_by"] == "operator" and "capability" not in run
    entries = world.ask("viewer", "GET", f"/api/v1/projects/mine/audit-log?target_id={run['execution_id']}").json()["data"]
    assert [(e["action"], e["role"], e["via"], e["actor_name"]) for e in entries] == [("execution.create", "operator", "key", "operator")]


def test_two_different_keys_are_none(world):
    answer = world.ask("root", "GET", "/api/v1/master/projects", headers={"X-API-Key": world.keys["viewer"]})
    assert answer.status == 401
    assert world.ask(None, "GET", "/api/v1/master/projects", headers={"X-API-Key": world.keys["root"]}).status == 200
    for header in ("Basic abc", "Bearer", "Bearer a b", "kt_x"):
        assert world.ask(None, "GET", "/api/v1/master/projects", headers={"Authorization": header}).status == 401


def test_a_key_ends_at_its_time(world):
    soon = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() + 2))
    world.key("short", role="viewer", projects=["mine"], expires_at=soon + "Z")
    assert world.ask("short", "GET", "/api/v1/projects/mine/datasets").status == 200
    eventually(lambda: world.ask("short", "GET", "/api/v1/projects/mine/datasets").status == 401, "the key ends")
    answer = world.ask("root", "POST", "/api/v1/master/api-keys", {"name": "x", "role": "viewer", "expires_at": "2001-01-01T00:00:00Z"})
    assert answer.status == 422 and answer.json()["errors"][0]["pointer"] == "/expires_at"


def test_rights_withdrawn_end_what_one_follows(world):
    world.made("root", "/api/v1/master/agents", {"agent_id": "sleeper", "name": "Sleeper"})
    answer = world.ask("root", "PUT", "/api/v1/master/scripts/agents%2Fsleeper%2Fworkflow.lua",
                       {"source": 'workflow { name = "sleeper", run = function() time.sleep(120) end }'})
    assert answer.status == 200, answer.body
    instance = world.made("root", "/api/v1/projects/mine/agent-instances", {"agent_id": "sleeper", "name": "S"})["instance_id"]
    run = world.made("root", "/api/v1/projects/mine/executions", {"instance_id": instance})["execution_id"]
    key_id = world.key("leaving", role="viewer", projects=["mine"])
    headers = {"Authorization": f"Bearer {world.keys['leaving']}"}
    stream = http.client.HTTPConnection("127.0.0.1", world.service.port, timeout=60)
    stream.request("GET", f"/api/v1/projects/mine/executions/{run}/events", headers=headers)
    events = stream.getresponse()
    with websockets.sync.client.connect(f"ws://127.0.0.1:{world.service.port}/ws/execution/{run}",
                                        additional_headers=headers) as socket:
        assert events.status == 200 and json.loads(socket.recv())["type"] == "hello"
        assert world.ask("root", "DELETE", f"/api/v1/master/api-keys/{key_id}").status == 204
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                socket.recv(timeout=60)
    assert closed.value.rcvd.code == 1008
    while events.read(1):  # it ends
        pass
    stream.close()
    with pytest.raises(InvalidStatus) as refused:
        websockets.sync.client.connect(f"ws://127.0.0.1:{world.service.port}/ws/execution/{run}",
                                       additional_headers={"Authorization": f"Bearer {world.keys['foreign']}"})
    assert refused.value.response.status_code == 404
    world.ask("root", "POST", f"/api/v1/projects/mine/executions/{run}/cancel", {})


def test_refusals_are_counted_in_the_audit_log(world):
    for _ in range(7):
        world.ask("viewer", "GET", "/api/v1/master/audit-log")

    def entries():
        path = "/api/v1/master/audit-log?outcome=denied&target_id=listMasterAudit&action=auth.denied"
        found = [e for e in world.ask("root", "GET", path).json()["data"] if e["actor_name"] == "viewer"]
        return sum(e["count"] for e in found) >= 7 and found
    found = eventually(entries, "they are written down")
    assert found[0]["code"] == "forbidden" and found[0]["role"] == "viewer"
    assert len(found) <= 3, "one entry a minute"
    assert 'kontor_unauthenticated_total{route="/api/v1/master/projects"}' in world.service.get("/metrics").body.decode()


def test_every_change_has_its_audit_entry(world, routes):
    """In the log of its project or of the whole, in the same commit, with the id of its request."""
    before, ids = {}, dict(world.ids["mine"])
    ids["dataset_id"] = world.made("root", "/api/v1/projects/mine/datasets", {"name": "fresh"})["dataset_id"]
    for route in routes:
        if route["method"] == "GET":
            continue
        if route["method"] == "DELETE":
            ids["key_id"] = world.made("root", "/api/v1/projects/mine/api-keys", {"name": "x", "role": "viewer"})["key_id"]
        request = f"audit-{route['id']}"
        answer = send(world, "root", route, ids, **{"X-Request-Id": request})
        if answer.status < 400 and route["id"] != "setupErpDefaults":
            before[route["id"]] = request
    assert len(before) > 8, before
    seen = set()
    for path in ("/api/v1/projects/mine/audit-log?limit=500", "/api/v1/master/audit-log?limit=500", "/api/v1/projects/default/audit-log"):
        seen |= {e["request_id"] for e in world.ask("root", "GET", path).json()["data"]}
    assert not {name: request for name, request in before.items() if request not in seen}


def test_the_command_names_its_options_and_lists_names_as_they_are(world):
    def key(*args):
        return subprocess.run([KONTOR, "key", *args], env=world.service.env, cwd=world.service.tmp, capture_output=True, text=True)

    wrong = key("create", "--name", "x", "--role", "king", "--project", "A/B", "--expires", "soon")
    assert wrong.returncode == 1 and not wrong.stdout
    assert [line.split(": ")[:2] for line in wrong.stderr.splitlines()] == [
        ["kontor key", option] for option in ("--role", "--project", "--expires")]
    assert "--expires: is in the past" in key("create", "--name", "x", "--role", "viewer", "--expires", "2020-01-01").stderr
    world.made("root", "/api/v1/master/api-keys", {"name": "a\nkey_0\x1b[31m", "role": "viewer", "projects": ["mine"]})
    assert [line for line in key("list").stdout.splitlines() if line.endswith("  a\\x0Akey_0\\x1B[31m")]


def test_no_secret_is_stored_or_logged(world):
    text = world.service.stored() + world.service.text().encode() + b"".join(p.read_bytes() for p in (world.service.tmp / "logs").glob("*.log"))
    for key in world.keys.values():
        secret = key.split("_", 2)[2].encode()
        assert secret not in text or key == NO_KEY
