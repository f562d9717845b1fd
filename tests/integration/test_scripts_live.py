"""Scripts change under a running service: next runs new, running ones old, a broken push refused."""
import os
import shutil
import subprocess
import threading
import time

from conftest import KONTOR, ROOT, eventually
from engine_client import Engine

VERSIONED = """
workflow {{ name = "versioned", run = function(run, input)
  time.sleep(0.2)
  return {version}
end }}
"""
PATH = "agents/versioned/workflow.lua"


def cli(service, *args, stdin=None):
    done = subprocess.run([KONTOR, "script", *args], cwd=service.tmp, env=service.env, input=stdin, text=True,
                          capture_output=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def write(service, text, name="workflow.lua"):
    path = service.tmp / name
    path.write_text(text)
    return str(path)


def test_a_change_under_load(make_service):
    service = make_service().start()
    engine = Engine(service.port).unlimited()
    instance = engine.make_agent("versioned", VERSIONED.format(version=1))
    accepted, faults, stop = [], [], threading.Event()

    def client():
        mine = Engine(service.port)
        while not stop.is_set():
            try:
                accepted.append(mine.start(instance))
            except Exception as fault:  # noqa: BLE001 - any failed request fails the test
                faults.append(repr(fault))
            time.sleep(0.02)

    threads = [threading.Thread(target=client) for _ in range(3)]
    for thread in threads:
        thread.start()
    bundles = {}
    for version in range(2, 8):
        old = engine.start(instance)
        bundles[old["snapshot"]["bundle"]] = version - 1
        assert engine.script(PATH, VERSIONED.format(version=version)).json["version"] == version
        new = engine.start(instance)
        bundles[new["snapshot"]["bundle"]] = version
        broken = engine.script(PATH, "workflow {\n  name = 'x',\n  run = function( }\n}")
        assert broken.status == 422 and broken.json["code"] == "script_error", broken
        assert f"{PATH}:3:" in broken.json["detail"], broken
        assert engine.start(instance)["snapshot"]["bundle"] == new["snapshot"]["bundle"]
        assert engine.result(engine.ended(old["execution_id"])["execution_id"])["output"] == version - 1
        assert engine.result(engine.ended(new["execution_id"])["execution_id"])["output"] == version
    stop.set()
    for thread in threads:
        thread.join()
    assert not faults and len(accepted) > 30
    for doc in accepted:
        end = engine.ended(doc["execution_id"])
        assert end["status"] == "completed"
        assert engine.result(doc["execution_id"])["output"] == bundles[doc["snapshot"]["bundle"]]


def test_the_command(make_service):
    service = make_service().start()
    engine = Engine(service.port)
    instance = engine.make_agent("versioned", VERSIONED.format(version=1))
    code, out, err = cli(service, "push", PATH, write(service, VERSIONED.format(version=2)), "--note", "two")
    assert (code, err) == (0, "") and f"{PATH} is now version 2" in out
    assert engine.result(engine.ended(engine.start(instance)["execution_id"])["execution_id"])["output"] == 2
    code, out, err = cli(service, "push", PATH, write(service, VERSIONED.format(version=2)))
    assert code == 0 and "is already version 2" in out
    code, out, err = cli(service, "push", PATH, write(service, "local a = 1\nlocal b = = 2\n"))
    assert (code, out) == (1, "") and f"{PATH}:2:" in err
    (service.tmp / "latin.lua").write_bytes(b"return {}\n-- caf\xe9\n")
    code, out, err = cli(service, "push", PATH, str(service.tmp / "latin.lua"))
    assert (code, out) == (1, "") and err == f"kontor script: {service.tmp}/latin.lua:2: is not UTF-8 text\n"
    for source, place in (("return {}", ": "), ("while true do end", ":1: "), ("error{code='not_found'}", ":1: ")):
        code, out, err = cli(service, "push", PATH, write(service, source))
        assert (code, out) == (1, "") and err.startswith(f"kontor script: {PATH}{place}"), err
        assert err.count(PATH) == 1
    code, _, err = cli(service, "push", "../x.lua", write(service, "return 1"))
    assert code == 1 and "path" in err
    for args in ((), ("push",), ("push", PATH), ("pull", PATH, "x"), ("push", PATH, "x", "--what")):
        assert cli(service, *args)[0] == 2
    assert cli(service, "push", PATH, "/nonexistent")[0] == 1
    # without a service: in the store, under its lock
    service.stop()
    code, out, err = cli(service, "push", PATH, "-", stdin=VERSIONED.format(version=3))
    assert (code, err) == (0, "") and "is now version 3" in out
    code, out, err = cli(service, "push", PATH, "-", stdin="workflow {")
    assert code == 1 and f"{PATH}:1:" in err
    service.start()
    engine = Engine(service.port)
    assert engine.result(engine.ended(engine.start(instance)["execution_id"])["execution_id"])["output"] == 3


def test_a_waiting_run_keeps_its_scripts(make_service):
    source = 'workflow {{ name = "w", run = function() time.sleep(10.5) return {version} end }}'
    service = make_service().start()
    engine = Engine(service.port)
    instance = engine.make_agent("versioned", source.format(version=1))
    execution = engine.start(instance)["execution_id"]
    eventually(lambda: engine.execution(execution)["status"] == "waiting", "it waits")
    service.stop()
    assert cli(service, "push", PATH, write(service, source.format(version=2)))[0] == 0
    service.start()
    engine = Engine(service.port)
    assert engine.ended(execution)["status"] == "completed"
    assert engine.result(execution)["output"] == 1


def test_files_are_watched_in_development(make_service, tmp_path):
    home = tmp_path / "home"
    (home / "agents" / "watched").mkdir(parents=True)
    for name in ("lua", "migrations"):
        (home / name).symlink_to(ROOT / name)
    file = home / "agents" / "watched" / "workflow.lua"
    source = 'workflow {{ name = "w", run = function() return {version} end }}'
    file.write_text(source.format(version=1))
    service = make_service(home=home, KONTOR_DEV=1).start()
    engine = Engine(service.port)
    engine.ok("POST", "/api/v1/master/agents", {"agent_id": "watched", "name": "w"}, want=(201,))
    instance = engine.make_instance("watched")

    def output():
        return engine.result(engine.ended(engine.start(instance)["execution_id"])["execution_id"])["output"]

    assert output() == 1
    file.write_text(source.format(version=2))
    eventually(lambda: output() == 2, "the changed file runs")
    file.write_text("workflow {\n\n  broken(\n")
    eventually(lambda: service.events("scripts.refused"), "the broken file is refused")
    assert "agents/watched/workflow.lua:" in service.events("scripts.refused")[-1]["msg"]
    assert output() == 2
    temporary = file.with_suffix(".new")  # as editors write
    temporary.write_text(source.format(version=3))
    os.replace(temporary, file)
    eventually(lambda: output() == 3, "the replaced file runs")
    shutil.rmtree(home / "agents" / "watched")
    assert output() == 3
