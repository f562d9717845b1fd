"""Jobs of a host that is gone are finished, or taken back, on another one."""
import shutil
import subprocess

from conftest import KONTOR, eventually, shared_url


def kontor(service, *args, code=0, **env):
    done = subprocess.run([KONTOR, "db", *args], cwd=service.tmp, env={**service.env, **env}, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, (args, done.stdout, done.stderr)


def test_another_host_goes_on(make_service):
    first = make_service(MONGODB_URL=shared_url(), KONTOR_MASTER_KEY="3" * 64).start()
    other = make_service(MONGODB_URL=shared_url(), KONTOR_MASTER_KEY="3" * 64)
    for name in ("MASTER_DATABASE_NAME", "PROJECT_DATABASE_PREFIX"):
        other.env[name] = first.env[name]
    other.master, other.prefix = first.master, first.prefix
    for project in ("acme", "gone"):
        first.made("/api/v1/master/projects", {"project_id": project, "project_name": "P", "customer_name": "C"})
    kontor(first, "export", "acme", "out")
    kontor(first, "import", "moved", "out", code=-9, KONTOR_FAULT="unit.loaded:1")
    kontor(first, "clone", "acme", "twin", code=-9, KONTOR_FAULT="unit.loaded:1")
    kontor(first, "erase", "gone", "--confirm", "gone", code=-9, KONTOR_FAULT="unit.dropped:1")
    first.stop()
    first.end_transactions()
    shutil.rmtree(first.tmp / "out")
    shutil.rmtree(first.data)

    other.start()
    eventually(lambda: {e["msg"].split()[0] for e in other.events("job.completed")} == {"clone", "erase"}, "what needs nothing of the first host is finished")
    failed = eventually(lambda: other.events("job.failed"), "what does is taken back")
    assert failed[0]["project_id"] == "moved" and "not_found" in failed[0]["msg"]
    assert {p["project_id"]: p["status"] for p in other.get("/api/v1/master/projects").json()["data"]} == dict.fromkeys(["acme", "default", "twin"], "active")
    assert other.databases() == {first.master, *(first.prefix + p for p in ("acme", "default", "twin"))}
    [entry] = [e for e in other.get("/api/v1/master/audit-log?limit=500").json()["data"] if e["target_id"] == "moved" and e["outcome"] == "error"]
    assert entry["action"] == "project.import" and entry["code"] == "not_found"
