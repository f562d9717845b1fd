"""kontor console without a terminal: what it evaluates, refuses, stops, shows; who may open it."""
import hashlib
import http.client
import json
import os
import re
import socket
import stat
import subprocess
import threading
import time

import pytest

from conftest import KONTOR, eventually, serving
from engine_client import Engine

NAPS = """
workflow { name = "naps", run = function(run, input)
  local found = data.list("dataset")
  local function nap(seconds) time.sleep(seconds) return seconds end
  local done = parallel {
    function() local s = nap(input.seconds) return s end,
    function() local s = nap(input.seconds) return s end,
  }
  return done
end }
"""
TALKS = """
workflow { name = "talks", run = function(run, input)
  for i = 1, input.steps do time.sleep(0.05) end
  return { steps = input.steps }
end }
"""


class Unix(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=30)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self.path))


class Console:
    """`kontor console` against a service."""

    def __init__(self, service):
        self.service = service
        self.env = {**service.env, "XDG_STATE_HOME": str(service.tmp / "state"), "USER": "tester"}

    def run(self, *args, stdin="", code=0, **more):
        done = subprocess.run([KONTOR, "console", *args], input=stdin, text=True, capture_output=True, timeout=60,
                              env=self.env, cwd=self.service.tmp, **more)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done

    def say(self, *texts, code=0, project=None):
        """Evaluate these in one session; standard output, or with code 1 standard error."""
        args = ["--project", project] if project else []
        done = self.run(*args, *(part for text in texts for part in ("-e", text)), code=code)
        return done.stdout.rstrip("\n") if code == 0 else done.stderr.rstrip("\n")

    def ask(self, command, **body):
        """A request as the console sends it."""
        connection = Unix(self.service.data / "kontor.sock")
        try:
            connection.request("POST", f"/console/{command}", json.dumps(body))
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("console"), KONTOR_WORKERS="2") as made:
        yield made


@pytest.fixture(scope="module")
def engine(service):
    return Engine(service.port)


@pytest.fixture(scope="module")
def naps(engine):
    return engine.make_agent("naps", NAPS)


@pytest.fixture(scope="module")
def talks(engine):
    return engine.make_agent("talks", TALKS)


@pytest.fixture
def console(service):
    return Console(service)


# What it evaluates

@pytest.mark.parametrize("text, shown", [
    ("1 + 1", "2"), ("= 7", "7"), ("1, nil, 'x'", '1, nil, "x"'), ("nil", "nil"), ("local x = 1", ""), ("-- nothing", ""),
    ("{1, {a = true}, 'b'}", '{1, {a = true}, "b"}'), ("{['x y'] = 1, [3] = 2, ['end'] = 0}", '{[3] = 2, ["end"] = 0, ["x y"] = 1}'),
    ("2^53, 1/0, 0.1, -0", None), ("'grün', 'a\\27[2J\\n'", '"grün", "a\\027[2J\\n"'), ("require 'json'.null", "null"),
    ("print, time.now() > 0", "<function>, true"), ("(function() local t = {} t.t = t return t end)()", "{t = <cycle>}"),
    ("setmetatable({1}, {__index = error, __tostring = error, __len = error})", "{1}"),
    ("{[{}] = 1}", "{<keys that are neither text nor number>}"), ("1 -- a comment", "1"),
])
def test_values_are_shown(console, text, shown):
    got = console.say(text)
    if shown is not None:
        assert got == shown


def test_a_wide_table_takes_lines(console):
    text = console.say("{a = ('x'):rep(60), b = {('y'):rep(60), {}}}").splitlines()
    assert text == ["{", f'  a = "{"x" * 60}",', f'  b = {{"{"y" * 60}", {{}}}}', "}"]


def test_globals_stay_and_locals_do_not(console):
    assert console.say("g = {}; local l = 5", "g.n = 3", "g, l").splitlines() == ["{n = 3}, nil"]
    assert console.say("function f() return g end", "g = 4", "f()").splitlines() == ["4"]
    assert console.say("x = 1", ":reset", "x").splitlines() == ["nil"]
    # Another session has other ones.
    assert console.say("g") == "nil"


def test_print_comes_before_the_value(console):
    assert console.say("print('a', 1, {b = 2}) log('warn', 'careful', {n = 1}) return 5").splitlines() == [
        'a\t1\t{b = 2}', '[warn] careful {"n":1}', "5"]


def test_the_data_of_the_project_is_read(console, engine, naps):
    engine.ok("POST", f"{engine.base}/datasets", {"name": "seen"}, want=(201,))
    assert console.say("data.list('dataset')[1].name") == '"seen"'
    assert console.say(f"data.get('instance', '{naps}').agent_id") == '"naps"'
    assert console.say("data.get('dataset', 'none')") == "null"
    assert console.say("erp.load()") == "{}"


def test_scripts_and_prompts_of_the_agent_are_at_hand(console, service, engine):
    service.erp("acme")
    out = console.say(":use acme", "type(require 'lib.demand')", "type(template.render)", project="acme").splitlines()
    assert re.match(r"project acme, agent erp-exception-management \(version 1\), bundle [0-9a-f]{8} with \d+ files", out[0])
    assert out[1:] == ['"table"', '"function"'], out
    prompt = engine.ok("GET", "/api/v1/master/agents/erp-exception-management")["system_prompt_id"]
    rendered = console.run("--project", "acme", "-e", f"ok, text = pcall(template.render, '{prompt}', {{}})", "-e",
                           "ok, type(text) == 'string' and #text > 100 or text.code").stdout
    assert rendered in ("true, true\n", 'false, "template_error"\n'), rendered
    assert "there is no agent none" in console.say(":use acme none", code=1)
    assert "there is no project none" in console.run("--project", "none", code=1).stderr


def test_pushed_scripts_make_a_new_vm(console, engine, naps):
    session = "0123456789abcdef" * 2
    body = {"session": session, "project": "default", "agent": "naps"}
    assert console.ask("eval", text="g = 1", **body)[1]["output"] == ""
    assert console.ask("eval", text="return g", **body)[1]["value"]["text"] == "1"
    assert engine.script("agents/naps/workflow.lua", NAPS + "-- newer\n").status == 200
    answer = console.ask("eval", text="return g", **body)[1]
    assert answer["value"]["text"] == "nil" and "pushed" in answer["news"], answer
    console.ask("reset", session=session)


def test_from_standard_input(console):
    done = console.run(stdin="t = {\n  1,\n  2,\n}\n#t\n\n:executions 1\n-- nothing\nfunction f()\nreturn 'f'\nend\nf()\n")
    assert done.stdout.splitlines()[0] == "2" and done.stdout.splitlines()[-1] == '"f"', done.stdout
    # The first that fails ends it, and the code says so.
    done = console.run(stdin="1\nnil + 1\n2\n", code=1)
    assert done.stdout == "1\n" and done.stderr.startswith("error: console:1: attempt to perform arithmetic"), done
    assert console.run(stdin="1 +", code=1).stderr.startswith("error: console:1: ")
    assert console.run(stdin=":quit\n1\n").stdout == ""
    assert console.run("--nope", code=2).stderr.startswith("kontor console: there is no option")


@pytest.mark.parametrize("text, error", [
    ("\n\nerror('here')", "error: console:3: here"),
    ("error({code = 'mine', message = 'said'})", "error: mine: said (console:1)"),
    ("x = = 1", "error: console:1: unexpected symbol near '='"),
    ("{1,", "error: console:1: unexpected symbol near '<eof>'"),
    ("nope()", "error: console:1: attempt to call global 'nope' (a nil value)"),
    ("data.list('nope')", "error: validation_failed: there is no kind nope of data (console:1)"),
    ("require 'nope'", "error: console:1: module 'nope' is not in the bundle"),
])
def test_errors_say_where(console, text, error):
    assert console.say(text, code=1) == error


# What it refuses and stops

@pytest.mark.parametrize("call", [
    "tool.call('t', {})", "model.call({})", "human.ask({})", "time.sleep(0)", "erp.sweep({})"])
def test_effects_are_refused(console, call):
    name = re.match(r"[a-z.]+", call)[0]
    assert console.say(call, code=1).startswith(f"error: read_only: {name}: the console only reads"), call


@pytest.mark.parametrize("text", [
    "io", "os", "debug", "package", "ffi", "jit", "_G.io", "getfenv", "setfenv", "newproxy", "collectgarbage", "dofile", "loadfile",
    "rawget(_G, 'os')", "string.dump", "load('return io')()", "coroutine.wrap(function() return os end)()",
])
def test_there_is_no_way_out(console, text):
    assert console.say(text) == "nil"


def test_bytecode_and_the_services_files_stay_outside(console):
    assert console.say("load('\\27LJ\\2')").startswith("nil, ")
    for name in ("domain.project", "kt.store", "console", "engine", "ffi"):
        assert "is not in the bundle" in console.say(f"require '{name}'", code=1)


@pytest.mark.parametrize("text, error", [
    ("while true do end", "deadline_exceeded: stopped after 5 s"),
    ("while true do pcall(function() while true do end end) end", "deadline_exceeded: stopped after 5 s"),
    ("local t = {} while true do t[#t + 1] = ('x'):rep(1000) .. #t end", "memory_limit: more than 16 MiB"),
    ("local s = 'x' while true do s = s .. s end", "memory_limit: more than 16 MiB"),
    ("while true do print(('x'):rep(10000)) end", "output_limit: more than 4 MiB were printed"),
])
def test_what_does_not_end_is_stopped(console, text, error):
    assert f"error: {error}" in console.say(text, code=1)


def test_a_stopped_evaluation_leaves_the_session(console):
    session = "1123456789abcdef" * 2
    body = {"session": session, "project": "default"}
    console.ask("eval", text="g = 'kept'", **body)
    status, answer = console.ask("eval", text="print('before') while true do local x = 1 end", **body)
    assert answer["failed"]["code"] == "deadline_exceeded" and answer["output"] == "before\n", answer
    assert console.ask("eval", text="return g", **body)[1]["value"]["text"] == '"kept"'
    console.ask("reset", session=session)


def test_floods_are_cut(console):
    out = console.run("-e", "for i = 1, 1000 do print(('x'):rep(999)) end").stdout
    assert len(out) < 70000 and out.endswith("… 934464 bytes more\n"), out[-100:]
    out = console.run("-e", "('x'):rep(100000)").stdout
    assert len(out) < 70000 and out.endswith("… 34466 bytes more\n"), out[-100:]
    out = console.run("-e", "local t = {} for i = 1, 300000 do t[i] = i end return t").stdout
    assert len(out) < 70000 and re.search(r"… over \d+ bytes more\n$", out), out[-100:]


def test_control_characters_do_not_reach_the_terminal(console):
    assert "\x1b" not in console.run("-e", "print('\\27[31mred')").stdout
    assert "\x1b" not in console.say("error('\\27]0;title\\7')", code=1)


def test_bytes_that_are_no_text_are_shown(console):
    assert console.say("print('a\\255\\0b') return '\\195\\40\\237\\160\\128'").splitlines() == ["a\\255\\000b", '"\\195(\\237\\160\\128"']
    assert "… " in console.run("-e", "('ü'):rep(50000)").stdout
    assert console.say("-- " + "ü" * 300) == ""


def test_others_are_served_while_it_computes(console, service):
    began, ended = time.monotonic(), {}

    def loop():
        console.say("while true do end", code=1)
        ended["at"] = time.monotonic()

    thread = threading.Thread(target=loop)
    thread.start()
    served = 0
    while thread.is_alive():
        assert service.get("/health").status == 200
        served += 1
    thread.join()
    assert served > 50 and ended["at"] - began < 60, served


def test_a_client_that_goes_away_ends_its_evaluation(console):
    child = subprocess.Popen([KONTOR, "console", "-e", "while true do end"], env=console.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    busy = re.compile(r"console +[\d.]+ [KM]?i?B +1$", re.M)
    eventually(lambda: busy.search(console.say(":vms")), "the evaluation runs")
    child.kill()
    child.communicate()
    eventually(lambda: not busy.search(console.say(":vms")), "the evaluation was ended")


# Commands

def test_a_running_execution_shows_its_stack(console, engine, naps):
    execution = engine.start(naps, input_data={"seconds": 8})["execution_id"]
    short = execution[-8:]
    eventually(lambda: "open calls" in console.say(f":stack {short}"), "the run waits")
    text = console.say(f":stack …{short}")
    assert re.search(rf"^…{short} runs in worker \d:[0-9a-f]{{8}}, 1 call answered so far$", text, re.M), text
    assert text.count("agents/naps/workflow.lua:4 in nap") == 2 and "\n  agents/naps/workflow.lua:5\n" in text, text
    assert "branch that waits for call 2:" in text and "branch that waits for call 3:" in text, text
    assert re.search(r'^ +2 +time.sleep +{"seconds":8}$', text, re.M), text
    assert re.search(rf"^…{short} +running +naps ", console.say(":executions running"), re.M)
    engine.ok("POST", f"{engine.base}/executions/{execution}/cancel", {}, want=(200, 202))
    engine.ended(execution)
    assert "has ended (cancelled): it has no stack" in console.say(f":stack {execution}")


def test_a_parked_execution_shows_its_journal(console, engine, naps):
    execution = engine.start(naps, input_data={"seconds": 500})["execution_id"]
    eventually(lambda: engine.execution(execution)["status"] == "waiting", "the run gives up its coroutine")
    text = console.say(f":stack {execution}")
    assert "is waiting and has no coroutine now until" in text and "agents/naps/workflow.lua runs again from its journal" in text, text
    assert re.search(r"^ +1 +data.list +ok +\d\d:\d\d:\d\d$", text, re.M), text
    assert " until " in console.say(":executions waiting")
    engine.ok("POST", f"{engine.base}/executions/{execution}/cancel", {}, want=(200, 202))
    engine.ended(execution)


def test_events_are_followed_to_the_end(console, engine, talks):
    execution = engine.start(talks, input_data={"steps": 20})["execution_id"]
    lines = console.say(f":events {execution[-10:]}").splitlines()
    assert lines[-1] == "it has ended" and "execution.completed" in lines[-2], lines
    numbers = [int(line[:5]) for line in lines if line[:5].strip().isdigit()]
    assert numbers == [e["seq"] for e in engine.events(execution)]
    assert "execution.completed" in console.say(f":events {execution} {numbers[-2]}").splitlines()[-2]


def test_the_journal_is_shown_raw(console, engine, talks):
    execution = engine.start(talks, input_data={"steps": 3})["execution_id"]
    engine.ended(execution)
    lines = console.say(f":journal {execution}").splitlines()
    assert lines[0].split() == ["seq", "at", "kind", "call", "name", "args", "answer", "size", "token"]
    answers = [line.split() for line in lines if " answer " in line and "time.sleep" in line]
    assert [a[2] for a in answers] == ["1", "2", "3"] and all(a[5] == "ok" for a in answers), lines
    assert len({a[4] for a in answers}) == 1, "the same arguments have the same hash"
    cut = console.say(f":journal {execution} 1").splitlines()
    assert len(cut) == 3 and "not shown" in cut[-1], cut


def test_workers_are_all_asked(console, service):
    for command in (":workers", ":memory", ":store", ":log"):
        rows = console.say(command).splitlines()[1:]
        assert [row[0] for row in rows] == ["0", "1"], (command, rows)
        assert "no answer" not in "".join(rows)
    pids = {int(line.split()[1]) for line in console.say(":workers").splitlines()[1:]}
    assert pids == set(service.workers())


def test_a_worker_that_cannot_be_asked_is_said(make_service):
    service = make_service(KONTOR_WORKERS="2").start()
    console = Console(service)
    pid = next(int(pid) for slot, pid in (e["worker"].split(":") for e in service.events("worker.started")) if slot == "1")
    (service.data / f"w-{pid}.sock").unlink()
    assert f"worker 1, pid {pid}: no answer" in console.say(":workers")


def test_log_level_of_a_project(console, service, engine):
    def debug_lines():
        return [e for e in service.events("http.request") if e["level"] == "debug" and e.get("project_id") == "default"]

    engine.ok("GET", f"{engine.base}/datasets")
    assert not debug_lines()
    assert console.say(":log debug").count("debug") == 2
    eventually(lambda: [engine.ok("GET", f"{engine.base}/datasets") for _ in range(4)] and debug_lines(), "debug lines of the project")
    engine.ok("GET", "/api/v1/projects/acme/datasets", want=(200, 404))
    assert not [e for e in service.events("http.request") if e["level"] == "debug" and e.get("project_id") != "default"]
    assert "debug" not in console.say(":log default")
    assert "is no level" in console.say(":log loud", code=1)
    entry = engine.pages(f"{engine.base}/audit-log", 50, action="console.log_level")[-1]
    assert entry["actor"] == "cli:tester" and entry["changes"][0] == {"pointer": "/log_level", "from": "info", "to": "debug"}


def test_the_settings_of_a_project_have_a_log_level(console, service, engine):
    path = "/api/v1/master/projects/default"

    def level(wanted):
        doc = engine.ok("GET", path)
        doc["settings"]["log_level"] = wanted
        engine.ok("PUT", path, doc)

    def lines(path):
        return [e for e in service.events("http.request") if e["level"] == "debug" and f" {path} " in e["msg"]]

    def asked(path):
        for _ in range(4):
            engine.ok("GET", path, want=(200, 404))
        return lines(path)

    level("debug")
    eventually(lambda: asked(f"{engine.base}/agent-instances"), "debug lines of the project")
    console.say(":log error")
    level("debug")
    assert "error" in console.say(":log"), "the same settings again leave the console's level"
    assert "debug" in console.say(":log default")
    level(None)
    eventually(lambda: engine.ok("GET", f"{engine.base}/datasets") and "debug" not in console.say(":log"), "the general level")
    assert not lines("/api/v1/projects/other/datasets")


def test_short_ids(console, engine, talks):
    ids = [engine.start(talks, input_data={"steps": 0})["execution_id"] for _ in range(2)]
    for i in ids:
        engine.ended(i)
    assert "has ended" in console.say(f":stack {ids[0][-12:]}")
    common = os.path.commonprefix([i.split("_")[2] for i in ids])[:6]
    assert re.search(rf"^conflict: {common} is \d+ executions: …", console.say(f":stack {common}", code=1))
    assert "no execution of default begins or ends with" in console.say(":stack ffffffff", code=1)
    assert "is no id" in console.say(":stack zz", code=1)
    assert "which execution?" == console.say(":stack", code=1)
    assert "is no status: created, delayed" in console.say(":executions done", code=1)
    assert "there is no :nope; there are :use" in console.say(":nope", code=1)
    assert console.say(":e", code=1) == ":e is one of :executions :events"
    assert ":journal EXEC [N]" in console.say(".help journal")


# Who may, and what is noted

def test_every_evaluation_is_in_the_audit_log(console, engine):
    text = "-- " + "audited " * 40 + "\nreturn 1"
    console.say(text)
    entry = engine.pages(f"{engine.base}/audit-log", 50, action="console.eval")[0]
    assert (entry["actor"], entry["via"], entry["target_type"], entry["target_id"]) == ("cli:tester", "cli", "console", "default")
    assert {c["pointer"]: c["to"] for c in entry["changes"]} == {
        "/text": text[:200], "/sha256": hashlib.sha256(text.encode()).hexdigest()}


def test_tcp_has_no_console(engine):
    for method, path in (("POST", "/console/eval"), ("POST", "/console/hello"), ("GET", "/console/"), ("POST", "/console/worker/info")):
        assert engine.send(method, path, {}).status == 404


def test_bad_requests_are_answered(console):
    assert console.ask("nope")[0] == 400
    assert console.ask("eval", project="default", session="x", text="1")[1]["code"] == "validation_failed"
    assert console.ask("eval", project="../etc", session="a" * 32, text="1")[1]["code"] == "validation_failed"
    assert console.ask("eval", project="default", session="a" * 32, text="x" * 300000)[1]["code"] == "body_too_large"
    assert console.ask("events", project="default", execution={"a": 1})[1]["code"] == "validation_failed"
    console.ask("reset", session="a" * 32)


def test_the_sockets_are_the_users_alone(service):
    sockets = [path for path in service.data.iterdir() if path.suffix == ".sock"]
    assert len(sockets) == 3
    for path in sockets:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


@pytest.mark.skipif(os.geteuid() != 0, reason="another user can only be taken on by root")
def test_another_user_is_refused(console, service):
    for folder in (service.data, *service.data.parents):
        if folder.stat().st_mode & 0o077 == 0:
            folder.chmod(0o711)

    def become():
        os.setgid(65534)
        os.setuid(65534)

    done = console.run("-e", "1", "--data", str(service.data), code=1, preexec_fn=become)
    assert "another user's" in done.stderr, done
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run(["python3", "-c", f"import socket; socket.socket(socket.AF_UNIX).connect({str(service.data / 'kontor.sock')!r})"],
                       preexec_fn=become, check=True, capture_output=True)


def test_no_service(make_service):
    service = make_service()
    service.tmp.mkdir(parents=True)
    console = Console(service)
    assert "no service runs here: there is no" in console.say("1", code=1)
    service.data.mkdir()
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(service.data / "kontor.sock"))
    left.close()
    assert "the service does not answer at" in console.say("1", code=1)
    (service.data / "kontor.sock").unlink()
    assert console.run("--data", "/nowhere", "-e", "1", code=1).stderr.startswith("unreachable: ")


def test_sessions_leave_nothing(console, service):
    before = console.say(":vms").count(" console ")
    console.say("big = ('x'):rep(1000000)")
    assert console.say(":vms").count(" console ") == before
    # More sessions than there may be: the oldest makes room.
    for i in range(10):
        status, answer = console.ask("eval", session=f"{i:032x}", project="default", text="g = 1")
        assert status == 200, answer
    assert console.say(":vms").count(" console ") == 8
    for i in range(10):
        console.ask("reset", session=f"{i:032x}")


def test_sockets_of_killed_workers_are_removed(make_service):
    service = make_service(KONTOR_WORKERS="2").start()
    pid = service.workers()[0]
    os.kill(pid, 9)
    eventually(lambda: not (service.data / f"w-{pid}.sock").exists(), "its successor tidies up")
    console = Console(service)
    eventually(lambda: len(console.say(":workers").splitlines()) == 3, "two workers answer again")
    service.stop()
    assert not list(service.data.glob("*.sock"))
