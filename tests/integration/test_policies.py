"""What a project's policies do by themselves: retention and backups, carried out by the running service."""
import datetime
import subprocess

import pytest
import websockets.sync.client
from client import Client
from websockets.exceptions import InvalidStatus

from conftest import KONTOR, eventually

DAYS = {"events": 0, "datasets": 0, "findings": 0, "results": 0, "token_usage": 0, "audit": 0}
PROJECT = {"project_name": "P", "customer_name": "C"}


def later(days, time="12:00:00"):
    day = datetime.datetime.now(datetime.timezone.utc).date() + datetime.timedelta(days)
    return f"{day}T{time}Z"


def policy(api, project, days, **more):
    api.ok("PUT", f"/api/v1/master/projects/{project}", {**PROJECT, "retention_days": {**DAYS, **days}, **more}, want=(200,))


def restarted(service, clock, **env):
    service.stop()
    service.env.update(KONTOR_TEST_CLOCK=clock, **env)
    service.start()
    return Client(service.port)


def worked(service, what, project):
    """The log line that says that this was done."""
    return eventually(lambda: [e for e in service.events(f"daily.{what}") if e["project_id"] == project], f"{what} of {project}")[0]


def check(service):
    done = subprocess.run([KONTOR, "db", "check"], cwd=service.tmp, env=service.env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def used(api, project):
    """(datasets, bytes) as the account has them."""
    by_name = {q["name"]: q["used"] for q in api.ok("GET", f"/api/v1/projects/{project}/quotas")["quotas"]}
    return by_name["datasets"], by_name["storage_bytes"]


def analysed(api, project, instance):
    """A dataset and a run that read it, ended."""
    dataset = api.ok("POST", f"/api/v1/projects/{project}/datasets", {"name": "d", "as_of": "2025-06-30"})["dataset_id"]
    assert api.upload(project, dataset, "vendor.csv", f"vendor_id,name\n1,{project}\n".encode()).status == 200
    api.ok("POST", f"/api/v1/projects/{project}/datasets/{dataset}/seal", {})
    run = api.ok("POST", f"/api/v1/projects/{project}/executions",
                 {"instance_id": instance, "async_execution": False, "input_data": {"dataset_id": dataset}}, want=(200,))
    assert run["status"] == "completed"
    return dataset, run["execution_id"]


def test_what_is_not_kept_is_gone(make_service, tmp_path):
    service = make_service(ERP_REPORTS_DIRECTORY=tmp_path / "reports").start()
    api = Client(service.port)
    made = {p: analysed(api, p, service.erp(p)) for p in ("events", "all", "keeps")}
    policy(api, "events", {"events": 2})
    policy(api, "all", {"events": 2, "datasets": 2, "findings": 2, "results": 2, "token_usage": 2, "audit": 2})
    policy(api, "keeps", {})
    before = {p: used(api, p) for p in made}
    api = restarted(service, later(10))
    worked(service, "retention", "events")
    worked(service, "retention", "all")
    check(service)

    base = "/api/v1/projects/events/executions/" + made["events"][1]
    doc = api.ok("GET", base)
    assert api.ok("GET", base + "/result")["execution_id"] == made["events"][1]
    assert api.get(base + "/report").status == 200
    for media in ("application/json", "text/event-stream"):
        answer = api.get(base + "/events", headers={"Accept": media})
        assert (answer.status, answer.json["code"], answer.json["retryable"]) == (410, "gone", False), answer
        assert "retention_days" in answer.json["detail"]
    # Whoever has read them all hears that there is nothing more, as before.
    assert api.get(base + "/events", headers={"Accept": "text/event-stream", "Last-Event-ID": str(doc["last_seq"])}).status == 204
    with pytest.raises(InvalidStatus) as refused:
        websockets.sync.client.connect(f"ws://127.0.0.1:{service.port}/ws/execution/{made['events'][1]}").close()
    assert refused.value.response.status_code == 410

    dataset, run = made["all"]
    base = "/api/v1/projects/all/"
    for path in (f"executions/{run}", f"executions/{run}/result", f"executions/{run}/report", f"executions/{run}/events",
                 f"executions/{run}/findings", f"datasets/{dataset}"):
        answer = api.get(base + path)
        assert (answer.status, answer.json["code"]) == (404, "not_found"), (path, answer)
    assert api.ok("GET", base + "executions?start_date=2000-01-01")["data"] == []
    assert used(api, "all") == (0, 0)
    assert {p.name for p in (tmp_path / "reports").rglob("*.json")} == {f"{made[p][1]}.json" for p in ("events", "keeps")}
    [entry] = api.ok("GET", base + "audit-log?start_date=2000-01-01")["data"]
    assert (entry["action"], entry["actor"], entry["via"]) == ("retention.applied", "system", "engine")
    counts = {c["pointer"]: c["to"]["deleted"] for c in entry["changes"]}
    assert counts["/results"] == counts["/events"] == counts["/datasets"] == 1 and counts["/audit"] >= 5

    base = "/api/v1/projects/keeps/"
    assert api.get(f"{base}executions/{made['keeps'][1]}/report").status == 200
    assert api.ok("GET", base + "datasets/" + made["keeps"][0])["status"] == "sealed"
    assert used(api, "keeps") == before["keeps"]
    assert len(api.ok("GET", f"{base}executions/{made['keeps'][1]}/events?limit=500", headers={"Accept": "application/json"})["data"]) > 5


def test_killed_while_it_deletes(make_service):
    """kill -9 after any commit; the next start goes on, and the entry tells of all of it."""
    service = make_service().start()
    api = Client(service.port)
    instance = service.erp()
    for _ in range(3):
        analysed(api, "acme", instance)
    policy(api, "acme", {"events": 1, "datasets": 1, "findings": 1, "results": 1, "token_usage": 1})
    restarts = 0
    service.stop()
    service.env.update(KONTOR_TEST_CLOCK=later(5), KONTOR_FAULT="retention.committed:2")
    for _ in range(2):
        service.launch()
        eventually(lambda n=restarts: len(service.events("worker.ended")) > n, "it is killed")
        service.kill_supervisor()
        restarts = len(service.events("worker.ended"))
        check(service)
    del service.env["KONTOR_FAULT"]
    service.start()
    worked(service, "retention", "acme")
    check(service)
    api = Client(service.port)
    [entry] = api.ok("GET", "/api/v1/projects/acme/audit-log?action=retention.applied&start_date=2000-01-01")["data"]
    assert {c["pointer"]: c["to"]["deleted"] for c in entry["changes"]} == {"/results": 3, "/events": 3, "/datasets": 3}
    assert used(api, "acme") == (0, 0)


def backups(api, project="acme"):
    return api.ok("GET", f"/api/v1/projects/{project}/backups")["data"]


def test_backups_at_their_time(make_service):
    service = make_service(KONTOR_WORKERS=2).start()
    api = Client(service.port)
    service.erp()
    policy(api, "acme", {}, backup={"at": "03:00", "keep": 2})
    assert backups(api) == []
    # Two days without a service are made up by one backup, of two workers by one.
    api = restarted(service, later(3, "02:00:00"))
    worked(service, "backup", "acme")
    assert len(backups(api)) == 1
    # The time comes while the service runs.
    api = restarted(service, later(3, "02:59:59"))
    eventually(lambda: len(backups(api)) == 2, "the backup of 03:00")
    first = backups(api)[-1]["backup_id"]
    for day in (4, 5):
        api = restarted(service, later(day))
        eventually(lambda n=day - 1: len(service.events("daily.backup")) == n, "one more")
    assert len(backups(api)) == 2
    assert first not in {b["backup_id"] for b in backups(api)}
    entries = api.ok("GET", "/api/v1/master/audit-log?action=project.backup&start_date=2000-01-01")["data"]
    assert [(e["actor"], e["outcome"], e["target_id"]) for e in entries] == [("system", "ok", "acme")] * 4


def test_killed_when_a_backup_is_made(make_service):
    """Before that is noted: the next worker makes one more rather than none, and the day is done."""
    service = make_service().start()
    api = Client(service.port)
    service.erp()
    policy(api, "acme", {}, backup={"at": "03:00"})
    service.stop()
    service.env.update(KONTOR_TEST_CLOCK=later(2), KONTOR_FAULT="daily.backup:1")
    service.launch()
    eventually(lambda: service.events("worker.ended"), "it is killed")
    service.kill_supervisor()
    del service.env["KONTOR_FAULT"]
    made = len(service.events("daily.backup"))  # a second worker may have come to it
    service.start()
    eventually(lambda: len(service.events("daily.backup")) == made + 1, "the next worker's")
    assert len(backups(Client(service.port))) == made + 1


def test_a_backup_that_fails_is_told(make_service, tmp_path):
    service = make_service(KONTOR_BACKUP_DIR=tmp_path / "backups").start()
    (tmp_path / "backups").mkdir(exist_ok=True)
    api = Client(service.port)
    service.erp()
    policy(api, "acme", {}, backup={"at": "03:00"})
    (tmp_path / "backups/acme").write_text("in the way")
    api = restarted(service, later(2))
    line = worked(service, "backup", "acme")
    assert line["level"] == "error" and "tried again at" in line["msg"]
    [entry] = api.ok("GET", "/api/v1/master/audit-log?action=project.backup&start_date=2000-01-01")["data"]
    assert (entry["outcome"], entry["target_id"], bool(entry["code"])) == ("error", "acme", True)
    assert b'kontor_backups_total{project="acme",status="error"} 1' in api.get("/metrics").body
    (tmp_path / "backups/acme").unlink()
    api = restarted(service, later(2, "13:30:00"))
    eventually(lambda: backups(api), "it is made an hour later")
