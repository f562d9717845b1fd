"""Migrations that a new release brings: several workers and replicas start at once, one dies half-way, and back.

Each of migrations/ by itself, on documents of the version before it: spec/domain/migration_cases_spec.lua.
"""
import threading
import time

import pytest

from conftest import ON_MONGODB, ROOT, eventually

# It takes its time, so that whoever else starts meanwhile meets its lock, or it is killed.
SLOW = """
return {scope = "%s", run = function()
  require("kt.log").info("migration.begun", {msg = "%s"})
  require("kt.task").sleep(%g)
  return true
end}
"""


@pytest.fixture
def home(tmp_path):
    """This release's home, whose migrations may be added to."""
    made = tmp_path / "home"
    (made / "migrations").mkdir(parents=True)
    for name in ("lua", "agents"):
        (made / name).symlink_to(ROOT / name)
    for path in (ROOT / "migrations").iterdir():
        (made / "migrations" / path.name).symlink_to(path)
    return made


def release(home, name, scope, seconds):
    (home / "migrations" / name).write_text(SLOW % (scope, name, seconds))


def replicas(make_service, home, **env):
    """Three workers over the embedded store, two replicas of two over MongoDB."""
    if not ON_MONGODB:
        return [make_service("one", home=home, KONTOR_WORKERS=3, **env)]
    first = make_service("one", home=home, KONTOR_WORKERS=2, **env)
    return [first, make_service("two", home=home, KONTOR_WORKERS=2, MASTER_DATABASE_NAME=first.master, PROJECT_DATABASE_PREFIX=first.prefix, **env)]


def at_once(services):
    threads = [threading.Thread(target=service.start) for service in services]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert all(service.port for service in services), [service.text()[-2000:] for service in services]


def count(services, event, name):
    return sum(e["msg"].split()[-1] == name for service in services for e in service.events(event))


def test_each_runs_once_whoever_starts(make_service, home):
    services = replicas(make_service, home)
    services[0].start()
    services[0].erp()
    services[0].stop()
    release(home, "9001_master.lua", "master", 0.3)
    release(home, "9002_project.lua", "project", 0.3)
    at_once(services)
    answers = []

    def ask(service):
        answers.append(service.get("/api/v1/projects/acme/agent-instances"))
    threads = [threading.Thread(target=ask, args=(services[n % len(services)],)) for n in range(16)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert [a.status for a in answers] == [200] * 16 and all(len(a.json()["data"]) == 1 for a in answers)
    # The project default has its own, when somebody opens it.
    done = [e["msg"] for s in services for e in s.events("migration.done") if e["msg"].endswith("9002_project.lua")]
    assert sorted(done) == sorted(set(done)) and f"{services[0].prefix}acme 9002_project.lua" in done
    assert count(services, "migration.begun", "9002_project.lua") == len(done)
    assert count(services, "migration.begun", "9001_master.lua") == count(services, "migration.done", "9001_master.lua") == 1


def test_killed_half_way_it_is_run_again(make_service, home):
    [service, *_] = replicas(make_service, home)
    service.start()
    service.stop()
    release(home, "9001_master.lua", "master", 600)
    service.launch()
    eventually(lambda: count([service], "migration.begun", "9001_master.lua"), "the migration begins")
    service.kill_supervisor()
    release(home, "9001_master.lua", "master", 0.1)
    # The dead one's lock has a lease, and time has gone on.
    service.env["KONTOR_TEST_CLOCK"] = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() + 60))
    service.start()
    assert service.get("/ready").status == 200
    assert count([service], "migration.begun", "9001_master.lua") == 2
    assert count([service], "migration.done", "9001_master.lua") == 1


def test_an_older_program_refuses_a_newer_database(make_service, home):
    release(home, "9000_later.lua", "master", 0)
    service = make_service(home=home).start()
    service.stop()
    (home / "migrations/9000_later.lua").unlink()
    service.launch()
    assert service.process.wait(60) != 0
    assert "is of a newer version (migration 9000) than this program" in service.text()
    service.process = None
