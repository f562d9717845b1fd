"""Projects as units: backup, restore, clone, import, erase, by command and by API, also where they are killed."""
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time

import pytest

from conftest import KONTOR, ON_MONGODB, eventually
from engine_client import Engine

SLEEPER = 'workflow { name = "s", run = function(run) time.sleep(3600) return {} end }'
ACME = "/api/v1/projects/acme"


def kontor(service, *args, check=True, **env):
    done = subprocess.run([KONTOR, "db", *args], cwd=service.tmp, env={**service.env, **env}, capture_output=True, text=True, timeout=120)
    assert not check or done.returncode == 0, (args, done.stdout, done.stderr)
    return done


def filled(make_service, **env):
    """A service with a project acme: an ended run, a secret, a dataset, and an instance of a workflow that sleeps."""
    service = make_service(**env).start()
    instance = service.erp()
    engine = Engine(service.port, "acme")
    engine.sleeper = engine.make_agent("sleeper", SLEEPER)
    dataset = service.made(f"{ACME}/datasets", {"name": "d", "as_of": "2025-06-30"})["dataset_id"]
    assert engine.upload("acme", dataset, "vendor.csv", b"vendor_id,name\n1,A\n").status == 200
    assert service.post(f"{ACME}/datasets/{dataset}/seal", {}).status == 200
    run = service.execute(instance)
    assert run["status"] == "completed", run
    assert service.request("PUT", f"{ACME}/secrets/token", {"value": "hush"}).status == 204
    service.engine, service.run = engine, run["execution_id"]
    return service


def names(service, project="acme"):
    return {d["name"] for d in service.get(f"/api/v1/projects/{project}/agent-instances").json()["data"]}


def audit(service, action):
    return [e for e in service.get("/api/v1/master/audit-log?limit=500").json()["data"] if e["action"] == action]


def whole(service):
    checked = kontor(service, "check", check=False)
    assert checked.returncode == 0, checked.stdout


def secrets_open(service):
    """Every one: else they could not be sealed under a new key."""
    if ON_MONGODB:  # its key is the operator's: there is nothing to seal anew
        return
    report = service.made("/api/v1/master/secret-key/rotate", {})
    assert report["failed"] == [] and report["resealed"] > 0, report


def test_backup_and_restore(make_service):
    service = filled(make_service)
    backup = service.job("POST", f"{ACME}/backups", {})["result"]["backup_id"]
    listed = service.get(f"{ACME}/backups").json()["data"]
    assert [b["backup_id"] for b in listed] == [backup] and service.get(f"{ACME}/backups/{backup}").json() == listed[0]
    counts = {c["name"]: c["count"] for c in listed[0]["collections"]}
    assert counts["kt_p_agent_instances"] == 2 and counts["kt_p_executions"] == 1 and listed[0]["bytes"] > 1000

    before = service.documents(service.prefix + "acme")
    sleeping = service.engine.start(service.engine.sleeper)["execution_id"]
    service.made(f"{ACME}/agent-instances", {"agent_id": "sleeper", "name": "later"})
    assert service.request("PUT", "/api/v1/master/projects/acme", {"project_name": "New", "customer_name": "C"}).status == 200
    events = []
    follower = threading.Thread(target=lambda: events.extend(
        service.get(f"{ACME}/executions/{sleeping}/events", headers={"Accept": "text/event-stream"}).body.decode().splitlines()))
    follower.start()
    answer = service.post(f"{ACME}/restore", {"backup_id": backup})
    seen = []

    def ended():
        seen.append(service.get(f"{ACME}/agent-instances"))
        return service.get(f"/api/v1/master/jobs/{answer.json()['job_id']}").json()["status"] == "completed"

    eventually(ended, "restored")
    follower.join(30)
    assert {a.status for a in seen} <= {200, 503} and 503 in {a.status for a in seen}
    refused = next(a for a in seen if a.status == 503)
    assert refused.json()["code"] == "restoring" and int(refused.headers["Retry-After"]) > 0
    assert any("execution.failed" in line for line in events), "who followed a run that was ended is told"

    assert "later" not in names(service)
    assert service.get("/api/v1/master/projects/acme").json() | {"updated_at": 0} == \
        service.get("/api/v1/master/projects/acme").json() | {"project_name": "New", "status": "active", "updated_at": 0}
    after = service.documents(service.prefix + "acme")
    for coll in before:
        assert before[coll] == after[coll], coll
    assert service.get(f"{ACME}/executions/{sleeping}").status == 404
    assert service.get(f"{ACME}/executions/{service.run}/report").status == 200
    assert service.execute(service.engine.make_instance("erp-exception-management"))["status"] == "completed"
    assert [e["changes"][0]["to"] for e in audit(service, "project.restore")] == [backup]
    assert os.listdir(service.data / "jobs") == [] if (service.data / "jobs").exists() else True
    secrets_open(service)
    whole(service)


def test_runs_that_were_on_their_way_are_ended(make_service):
    service = filled(make_service)
    running = service.engine.start(service.engine.sleeper)["execution_id"]
    later = service.engine.start(service.engine.sleeper, run_at="2099-01-01T00:00:00Z")["execution_id"]
    eventually(lambda: service.engine.execution(running)["status"] in ("running", "waiting"), "it runs")
    kontor(service, "backup", "acme")
    kontor(service, "export", "acme", "out")
    backup = kontor(service, "backups", "acme").stdout.split()[0]
    for restored in (lambda: kontor(service, "restore", "acme", backup), lambda: kontor(service, "import", "moved", "out")):
        restored()
        engine = service.engine if restored.__code__.co_consts[1] == "restore" else Engine(service.port, "moved")
        ends = {e: engine.execution(e) for e in (running, later)}
        assert (ends[running]["status"], ends[running]["stop_reason"]) == ("failed", "worker_lost")
        assert (ends[later]["status"], ends[later]["stop_reason"]) == ("cancelled", "cancelled")
        for run in ends.values():
            engine.check_ended(run)
    whole(service)


def test_a_damaged_backup_is_not_restored(make_service):
    service = filled(make_service)
    backup = service.job("POST", f"{ACME}/backups", {})["result"]["backup_id"]
    folder = service.data / "backups/acme" / backup
    path = folder / f"{service.prefix}acme/kt_p_agent_instances.bson"
    good = path.read_bytes()
    for bad in (good[:-1], good[:60] + bytes([good[60] ^ 1]) + good[61:], good + good):
        path.write_bytes(bad)
        job = service.job("POST", f"{ACME}/restore", {"backup_id": backup}, "failed")
        assert job["error"]["code"] == "data_rejected" and "kt_p_agent_instances.bson" in job["error"]["message"], job
        assert service.get("/api/v1/master/projects/acme").json()["status"] == "active" and "ERP" in names(service)
    path.write_bytes(good)
    manifest = json.loads((folder / "manifest.json").read_text())
    for change, word in (({"format": 2}, "format"), ({"migrations": ["9000_later.lua"]}, "newer version"), ({"collections": {}}, "no collections")):
        (folder / "manifest.json").write_text(json.dumps({**manifest, **change}))
        refused = service.post(f"{ACME}/restore", {"backup_id": backup})
        assert refused.status in (409, 422) and word in refused.json()["detail"], refused.body
    (folder / "manifest.json").unlink()
    refused = service.post(f"{ACME}/restore", {"backup_id": backup})
    assert refused.status == 422 and refused.json()["errors"][0]["pointer"] == "/backup_id"
    assert [e["outcome"] for e in audit(service, "project.restore")] == ["error", "ok"] * 3
    whole(service)


@pytest.mark.skipif(ON_MONGODB, reason="a damaged file of the embedded store")
@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b"nothing of SQLite" * 4096, lambda b: b[:8192] + bytes(len(b) - 8192), lambda b: None])
def test_a_damaged_project_is_restored(make_service, damage):
    service = filled(make_service)
    backup = service.job("POST", f"{ACME}/backups", {})["result"]["backup_id"]
    service.stop()
    path = service.data / f"{service.prefix}acme.db"
    broken = damage(path.read_bytes())
    path.unlink() if broken is None else path.write_bytes(broken)
    service.start()
    service.get(f"{ACME}/agent-instances")
    kontor(service, "restore", "acme", backup)
    assert names(service) == {"ERP", "sleeper"} and service.get(f"{ACME}/executions/{service.run}/report").status == 200
    whole(service)


def test_a_drop_that_was_killed_leaves_nothing(make_service):
    service = filled(make_service)
    for left in ("", "-wal", ".lock"):
        (service.data / f".gone-{service.prefix}acme.db{left}").write_bytes(b"x")
    service.job("POST", f"{ACME}/erase", {"confirm": "acme"})
    assert ON_MONGODB or not [p for p in service.data.iterdir() if "acme" in p.name]


def test_clone(make_service):
    service = filled(make_service)
    job = service.job("POST", f"{ACME}/clone", {"project_id": "twin", "project_name": "Twin"})
    assert job["project_id"] == "twin" and job["result"] == {"warnings": []}
    twin = service.get("/api/v1/master/projects/twin").json()
    acme = service.get("/api/v1/master/projects/acme").json()
    assert twin["project_name"] == "Twin" and twin["number"] != acme["number"] and twin["settings"] == acme["settings"]
    assert names(service, "twin") == names(service) == {"ERP", "sleeper"}
    here, there = (service.documents(service.prefix + p) for p in ("acme", "twin"))
    for coll in set(here) - {"kt_p_secrets"}:
        assert [d.get("project_id") for d in there[coll]] == ["twin" if "project_id" in d else None for d in here[coll]], coll
        assert [{**d, "project_id": 0} for d in there[coll]] == [{**d, "project_id": 0} for d in here[coll]], coll
    assert service.get(f"/api/v1/projects/twin/executions/{service.run}/report").body == service.get(f"{ACME}/executions/{service.run}/report").body
    # Each goes its own way.
    service.made("/api/v1/projects/twin/agent-instances", {"agent_id": "sleeper", "name": "of the twin"})
    assert "of the twin" not in names(service)
    secrets_open(service)
    for body, status, word in (({"project_id": "twin"}, 409, "exists"), ({"project_id": "acme"}, 409, "exists"), ({"project_id": "NO"}, 422, "project_id"),
                               ({}, 422, "project_id")):
        refused = service.post(f"{ACME}/clone", body)
        assert refused.status == status and word in json.dumps(refused.json()), refused.body
    assert service.post("/api/v1/projects/nobody/clone", {"project_id": "x"}).status == 404
    whole(service)


@pytest.mark.skipif(ON_MONGODB, reason="the key file is the embedded store's")
def test_secrets_whose_key_is_elsewhere(make_service):
    service = filled(make_service)
    kontor(service, "export", "acme", "out")
    other = make_service().start()
    other.env["HERE"] = "1"
    refused = kontor(other, "import", "acme", str(service.tmp / "out"), check=False)
    assert refused.returncode == 1 and "secret token" in refused.stderr and "without" in refused.stderr, refused.stderr
    assert other.get("/api/v1/master/projects/acme").status == 404 and other.databases() == {other.master, other.prefix + "default"}
    done = kontor(other, "import", "acme", str(service.tmp / "out"), "--without-secrets")
    assert "token was left out" in done.stderr
    assert names(other) == {"ERP", "sleeper"} and other.get(f"{ACME}/secrets").json()["data"] == []
    # With the key they open.
    shutil.copy(service.data / "master.key", other.data / "master.key")
    kontor(other, "import", "again", str(service.tmp / "out"))
    assert [s["name"] for s in other.get("/api/v1/projects/again/secrets").json()["data"]] == ["token"]
    secrets_open(other)


def holds(value, project):
    """Where in a document the project's id stands, or a text that holds it."""
    if isinstance(value, dict):
        return any(holds(v, project) for v in value.values())
    if isinstance(value, list):
        return any(holds(v, project) for v in value)
    return isinstance(value, str) and bool(re.search(rf"(?<![\w-]){project}(?![\w-])", value))


def test_erase_leaves_nothing(make_service):
    service = filled(make_service, ERP_REPORTS_DIRECTORY="reports", KONTOR_WORKERS=2)
    made = service.post("/api/v1/master/projects", {"project_id": "other", "project_name": "O", "customer_name": "C"},
                        headers={"Idempotency-Key": "k1"})
    assert made.status == 201
    kontor(service, "clone", "acme", "acme-2")
    kontor(service, "backup", "acme")
    dataset = service.made(f"{ACME}/datasets", {"name": "open"})["dataset_id"]
    part = service.request("PUT", f"{ACME}/datasets/{dataset}/tables/big.csv", b"a,b\n1,2\n",
                           {"Content-Type": "text/csv", "Content-Range": "bytes 0-7/100"})
    assert part.status in (200, 202, 308), (part.status, part.body)
    service.engine.start(service.engine.sleeper)
    service.execute(service.engine.make_instance("erp-exception-management"))
    assert (service.tmp / "reports/acme").exists() and (service.data / "backups/acme").exists()
    others = {name: service.documents(name) for name in service.databases() - {service.master, service.prefix + "acme"}}
    for body, where in (({}, "/confirm"), ({"confirm": "other"}, "/confirm"), ({"confirm": "acme", "x": 1}, "/x")):
        refused = service.post(f"{ACME}/erase", body)
        assert refused.status == 422 and refused.json()["errors"][0]["pointer"] == where
    assert kontor(service, "erase", "acme", check=False).returncode == 2
    assert kontor(service, "erase", "acme", "--confirm", "other", check=False).returncode == 1
    assert "ERP" in names(service)

    job = service.job("POST", f"{ACME}/erase", {"confirm": "acme"})
    assert job["kind"] == "erase" and job["done"] == job["total"] and job["finished_at"]
    assert service.prefix + "acme" not in service.databases()
    lines = {coll: [d for d in docs if holds(d, "acme")] for coll, docs in service.documents(service.master).items()}
    left = {coll: docs for coll, docs in lines.items() if docs}
    clone = left.get("kt_m_audit_log", [])
    assert [(d["action"], d["target_id"]) for d in clone] in ([("project.clone", "acme-2"), ("project.erase", "acme")],), left
    assert set(left) == {"kt_m_audit_log"}
    assert not [str(p) for p in service.tmp.rglob("*") if "logs" not in p.parts and re.search(r"(?<![\w-])acme(?![\w-])", p.name)]
    for name, docs in others.items():
        assert service.documents(name) == docs, name
    for path in (f"{ACME}/agent-instances", f"{ACME}/executions/{service.run}", f"{ACME}/backups", "/api/v1/master/projects/acme"):
        assert service.get(path).status == 404, path
    assert service.post(f"{ACME}/erase", {"confirm": "acme"}).status == 404
    # The id is free, for both workers, and what comes under it is another project.
    service.made("/api/v1/master/projects", {"project_id": "acme", "project_name": "P", "customer_name": "C"})
    for i in range(6):
        service.made(f"{ACME}/agent-instances", {"agent_id": "sleeper", "name": f"n{i}"})
    assert names(service) == {f"n{i}" for i in range(6)}
    whole(service)


def test_a_key_loses_an_erased_project(make_service):
    service = make_service().start()
    made = subprocess.run([KONTOR, "key", "create", "--name", "root", "--role", "admin"], env=service.env, cwd=service.tmp,
                          capture_output=True, text=True, check=True).stdout.strip()
    service.stop()
    service.start()
    root = {"X-API-Key": made}

    def ask(method, path, body=None, want=(200, 201, 202), **headers):
        answer = service.request(method, "/api/v1" + path, body, {**root, **headers})
        assert answer.status in want, (path, answer.status, answer.body)
        return answer.json() if answer.body else None

    for project in ("acme", "beta"):
        ask("POST", "/master/projects", {"project_id": project, "project_name": "P", "customer_name": "C"})
    keys = {name: ask("POST", "/master/api-keys", {"name": name, "role": "admin", "projects": projects})
            for name, projects in (("one", ["acme"]), ("two", ["acme", "beta"]), ("other", ["beta"]))}
    job = ask("POST", "/projects/acme/erase", {"confirm": "acme"})
    eventually(lambda: ask("GET", f"/master/jobs/{job['job_id']}")["status"] == "completed", "erased")
    left = {k["name"]: k["projects"] for k in ask("GET", "/master/api-keys")["data"]}
    assert left == {"root": ["*"], "two": ["beta"], "other": ["beta"]}
    eventually(lambda: service.get("/api/v1/me", headers={"X-API-Key": keys["one"]["api_key"]}).status == 401, "its key is none any more")
    assert service.get("/api/v1/me", headers={"X-API-Key": keys["two"]["api_key"]}).json()["projects"] == ["beta"]


# What each job passes on its way; the service is killed there.
CRASHES = [("restore", "unit.taken_out:1"), ("restore", "unit.loaded:1"), ("clone", "unit.loaded:1"), ("import", "unit.loaded:1"),
           ("erase", "unit.dropped:1"), ("erase", "unit.removed:1"), ("erase", "unit.erased:1")]
CRASHES = [(by, *crash) for crash in CRASHES for by in ("service", "command") if (by, crash[0]) != ("service", "import")]


@pytest.mark.parametrize(("by", "kind", "point"), CRASHES)
def test_a_crash_on_the_way(make_service, by, kind, point):
    """What was begun is finished by the next worker, once, whoever had begun it."""
    service = filled(make_service)
    backup = service.job("POST", f"{ACME}/backups", {})["result"]["backup_id"]
    kontor(service, "export", "acme", str(service.tmp / "out"))
    before = service.documents(service.prefix + "acme")
    service.made(f"{ACME}/agent-instances", {"agent_id": "sleeper", "name": "later"})
    command = {"restore": ["restore", "acme", backup], "clone": ["clone", "acme", "twin"], "import": ["import", "twin", "out"],
               "erase": ["erase", "acme", "--confirm", "acme"]}[kind]
    body = {"restore": {"backup_id": backup}, "clone": {"project_id": "twin"}, "erase": {"confirm": "acme"}}.get(kind)
    if by == "command":
        assert kontor(service, *command, check=False, KONTOR_FAULT=point).returncode == -9
        service.end_transactions()
    else:
        service.stop()
        service.env["KONTOR_FAULT"] = point
        service.start()
        assert service.post(f"{ACME}/{kind}", body).status == 202
        del service.env["KONTOR_FAULT"]
        eventually(lambda: service.events("worker.ended")[-1]["msg"] == "signal 9", "the worker is killed")
        service.kill_supervisor()
        service.start()
    job_id = eventually(lambda: service.events("job.completed") and service.events("job.completed")[-1]["msg"].split()[1] if
                        service.events("job.completed") and service.events("job.completed")[-1]["msg"].startswith(kind) else None, "it is finished")
    assert service.ended_job(job_id)["kind"] == kind
    if kind == "restore":
        assert service.documents(service.prefix + "acme") == before
    elif kind == "erase":
        assert service.get("/api/v1/master/projects/acme").status == 404 and service.prefix + "acme" not in service.databases()
        assert not [d for c, docs in service.documents(service.master).items() for d in docs if holds(d, "acme") and d.get("action") != "project.erase"]
    else:
        assert names(service, "twin") == {"ERP", "sleeper"} | ({"later"} if kind == "clone" else set())
        assert service.get("/api/v1/master/projects/twin").json()["status"] == "active"
    assert not (service.data / "jobs").exists() or os.listdir(service.data / "jobs") == []
    whole(service)


@pytest.mark.parametrize("kind", ["restore", "clone", "import"])
def test_a_disk_that_is_full_on_the_way(make_service, kind):
    """An import that fails is taken back; a restore that fails leaves the project out of use until one succeeds."""
    service = filled(make_service)
    backup = service.job("POST", f"{ACME}/backups", {})["result"]["backup_id"]
    kontor(service, "export", "acme", str(service.tmp / "out"))
    command = {"restore": ["restore", "acme", backup], "clone": ["clone", "acme", "twin"], "import": ["import", "twin", "out"]}[kind]
    failed = kontor(service, *command, check=False, KONTOR_FAULT="store.import:2")
    assert failed.returncode == 1 and "store.import" in failed.stderr, failed.stderr
    if kind == "restore":
        assert service.get(f"{ACME}/agent-instances").status == 503
        assert service.get("/api/v1/master/projects/acme").json()["status"] == "restoring"
        refused = service.post(f"{ACME}/backups", {})
        assert refused.status == 409 and "restoring" in refused.json()["detail"]
        kontor(service, *command)
    else:
        assert service.prefix + "twin" not in service.databases() and service.get("/api/v1/master/projects/twin").status == 404
        kontor(service, *command)
        assert names(service, "twin") == {"ERP", "sleeper"}
    assert names(service) == {"ERP", "sleeper"}
    whole(service)


def test_a_client_that_does_not_wait(make_service):
    """A job that is in the store is worked at, whether its client waits for the answer or not."""
    service = filled(make_service)
    for n in range(100):
        with socket.create_connection(("127.0.0.1", service.port)) as s:
            s.sendall(f"POST {ACME}/backups HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode())
            time.sleep(n / 20000)  # so that some of them go while the commit is on its way
    service.job("POST", f"{ACME}/backups", {})
    eventually(lambda: {j["status"] for j in service.documents(service.master)["kt_m_jobs"]} == {"completed"}, "all jobs have ended")


def test_an_end_that_the_store_does_not_take_at_once(make_service):
    """Nobody else would work at the job: it must not stay running."""
    service = make_service().start()
    # The row of who works, the job, its audit entry; the fourth write is the job's end.
    done = kontor(service, "backup", "default", KONTOR_FAULT="store.write:4")
    assert "job.end_waits" in done.stderr and "job.completed" in done.stderr, done.stderr
    assert [d["status"] for d in service.documents(service.master)["kt_m_jobs"]] == ["completed"]


def test_one_job_at_a_time(make_service):
    """Two that want the same project: one does it, the other says so."""
    service = filled(make_service, KONTOR_WORKERS=2)
    backup = service.job("POST", f"{ACME}/backups", {})["result"]["backup_id"]
    answers = []
    bodies = [("restore", {"backup_id": backup}), ("erase", {"confirm": "acme"}), ("restore", {"backup_id": backup}), ("erase", {"confirm": "acme"})]
    threads = [threading.Thread(target=lambda kind=kind, body=body: answers.append((kind, service.post(f"{ACME}/{kind}", body))))
               for kind, body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {a.status for _, a in answers} <= {202, 404, 409, 503}, [(k, a.status, a.body) for k, a in answers]
    jobs = [a.json()["job_id"] for _, a in answers if a.status == 202]
    assert jobs
    ends = [service.get(f"/api/v1/master/jobs/{j}").json() for j in jobs if eventually(
        lambda j=j: service.get(f"/api/v1/master/jobs/{j}").status == 404 or service.get(f"/api/v1/master/jobs/{j}").json()["status"] != "running", "it ends")]
    erased = any(e.get("kind") == "erase" and e.get("status") == "completed" for e in ends)
    assert service.get("/api/v1/master/projects/acme").status == (404 if erased else 200)
    if not erased:
        assert service.get("/api/v1/master/projects/acme").json()["status"] == "active"
    whole(service)


def test_commands_refuse(make_service):
    service = make_service().start()
    for args, code, word in ((("backup", "nobody"), 1, "no project nobody"), (("restore", "default", "bak_1"), 2, "no id of a backup"),
                             (("restore", "default", "bak_" + "1" * 32), 1, "no such backup"), (("clone", "default", "NO!"), 2, "no id of a project"),
                             (("clone", "nobody", "x"), 1, "no project nobody"), (("clone", "default", "default"), 1, "exists"),
                             (("import", "x", "nowhere"), 1, "no manifest.json"), (("import", "default", "nowhere"), 1, "exists"),
                             (("erase", "default"), 2, "confirm"), (("erase", "nobody", "--confirm", "nobody"), 1, "no project nobody"),
                             (("backups",), 2, "PROJECT is missing"), (("lose", "x"), 2, "lose")):
        done = kontor(service, *args, check=False)
        assert done.returncode == code and word in done.stderr, (args, done)
    assert service.databases() == {service.master, service.prefix + "default"}
