"""kontor console as a person uses it: in a terminal (tmux). The session of test_the_page_shows_a_session
is the transcript in docs/console.md: KONTOR_WRITE_DOCS=1 writes it there, else the page must agree
with it in all but ids, times and sizes."""
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import uuid

import pytest

from conftest import KONTOR, ROOT, eventually, serving
from engine_client import Engine
from test_console import Console  # noqa: the same environment

PAGE = ROOT / "docs/console.md"
BEGIN, END = "<!-- session: made by tests/integration/test_console_tmux.py -->\n```text\n", "```\n<!-- end of session -->\n"
PROMPT = re.compile(r"^[a-z0-9-]+> |^ +\.\.\. ", re.M)

REVIEW = """
workflow { name = "review", run = function(run, input)
  local open = data.list("dataset", {})
  local function check(what, seconds)
    time.sleep(seconds)
    return what
  end
  local done = parallel {
    function() local a = check("vendors", input.seconds) return a end,
    function() local b = check("materials", input.seconds) return b end,
  }
  return { open = #open, done = done }
end }
"""
LIMITS = "return { tolerance = 0.05, days = 30 }\n"

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed (tools/deps.sh test)")


class Terminal:
    """`kontor console` in a terminal of its own; keys go in, the screen comes out."""

    def __init__(self, service, *args):
        self.name = "kt-" + uuid.uuid4().hex[:8]
        self.state = service.tmp / "state"
        env = {**{k: v for k, v in service.env.items() if k != "KONTOR_SERVICE_MARK"}, "XDG_STATE_HOME": str(self.state), "USER": "tester", "TERM": "xterm", "LC_ALL": "C.UTF-8", "PS1": "",
               "KONTOR_TEST_MARK": os.environ.get("KONTOR_TEST_MARK", "")}
        command = "trap : INT; " + shlex.join([KONTOR, "console", *args]) + "; echo code=$?; exec cat"
        self.tmux("new-session", "-d", "-x", "120", "-y", "60", "-c", str(service.tmp), "/bin/sh", "-c", command, env=env)
        self.tmux("set-option", "-g", "history-limit", "5000")
        self.wait("> ")

    def tmux(self, *args, env=None):
        return subprocess.run(["tmux", "-L", self.name, "-f", "/dev/null", *args], check=True, capture_output=True, text=True, env=env).stdout

    def screen(self):
        return self.tmux("capture-pane", "-p", "-J", "-S", "-4000").rstrip("\n ") + " "

    def wait(self, text, count=1):
        eventually(lambda: self.screen().count(text) >= count, f"{text!r} {count} times in {self.screen()!r}", 20)

    def prompts(self):
        return len(PROMPT.findall(self.screen()))

    def type(self, text):
        self.tmux("send-keys", "-l", text)

    def press(self, *keys):
        self.tmux("send-keys", *keys)

    def enter(self, text="", prompt=True):
        """Type a line; wait for the next prompt. What it showed."""
        before = self.prompts()
        self.type(text)
        self.press("Enter")
        if not prompt:
            return ""
        eventually(lambda: self.prompts() > before and PROMPT.search(self.screen().splitlines()[-1] + " "),
                   f"a prompt after {text!r}: {self.screen()[-2000:]}", 20)
        return self.screen()[[m.start() for m in PROMPT.finditer(self.screen())][before - 1]:]

    def close(self):
        subprocess.run(["tmux", "-L", self.name, "kill-server"], capture_output=True, check=False)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("tmux"), KONTOR_WORKERS="2") as made:
        yield made


@pytest.fixture(scope="module")
def engine(service):
    engine = Engine(service.port, "acme").make_project()
    assert engine.script("agents/review/lib/limits.lua", LIMITS).status == 200
    return engine


@pytest.fixture(scope="module")
def instance(engine):
    return engine.make_agent("review", REVIEW)


@pytest.fixture
def terminal(service, engine, instance):
    made = []

    def make(*args):
        made.append(Terminal(service, *args))
        return made[-1]

    yield make
    for one in made:
        one.close()


def same_session(text):
    """A session without what differs from one to the next: ids, hashes, times; and of commands, figures and the
    width of columns."""
    out = []
    for block in re.split(r"(?m)^(?=[a-z0-9-]+> )", text):
        block = re.sub(r"(> :[a-z]+) [0-9a-f]{6}$", r"\1 ID", block, flags=re.M)
        block = re.sub(r"exec_\d+_[0-9a-f]{32}|…[0-9a-f]{8}|\b[0-9a-f]{8,64}\b", "ID", block)
        block = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z|\b\d\d:\d\d:\d\d\b", "TIME", block)
        block = block.replace("stopped after 5 s (console:1)", "stopped after 5 s")  # where, if at a line
        block = re.sub(r"(?m)^ *\d*  TIME( +\S+) +\{.*", r"TIME\1", block)  # data of events is cut at some character
        if re.match(r"[a-z0-9-]+> :", block) or not PROMPT.match(block):
            block = re.sub(r"\d+(\.\d+)* *(ms|s|min|h|d|B|KiB|MiB)?\b", "N", block)
        block = re.sub(r" +", " ", block)
        if "> :vms" in block:  # which workers have one differs
            block = "\n".join(sorted(set(block.split("\n"))))
        out.append(block)
    return "".join(out)


def test_the_page_shows_a_session(terminal, service, engine, instance):
    engine.ok("POST", f"{engine.base}/datasets", {"name": "June"}, want=(201,))
    ended = engine.start(instance, input_data={"seconds": 0.1})["execution_id"]
    engine.ended(ended)
    term = terminal("--project", "acme")
    term.enter(":use acme")
    term.enter('data.list("dataset")[1].name')
    term.enter('limits = require "lib.limits"')
    term.enter("limits")
    term.enter("for name, v in pairs(limits) do")
    term.enter("  print(name, v)")
    term.enter("end")
    term.enter('tool.call("mail.send", {to = "everybody"})')
    term.enter("while true do end")
    running = engine.start(instance, input_data={"seconds": 9})["execution_id"]
    eventually(lambda: "3 " in Console(service).say(f":stack {running}", project="acme").split("open calls:")[-1], "it waits")
    term.enter(":executions")
    term.enter(f":stack {running[-6:]}")
    term.enter(f":journal {ended[-6:]}")
    term.enter(f":events {ended[-6:]}")
    for command in (":workers", ":memory", ":vms", ":store", ":log debug", ":log default", ":help"):
        term.enter(command)
    term.press("C-d")
    term.wait("code=0")
    text = term.screen().split("code=0")[0].replace("^D", "")
    text = "\n".join(line.rstrip() for line in text.splitlines()).rstrip() + "\n"
    page = PAGE.read_text()
    start, stop = page.index(BEGIN) + len(BEGIN), page.index(END)
    if os.environ.get("KONTOR_WRITE_DOCS"):
        PAGE.write_text(page[:start] + text + page[stop:])
    else:
        assert same_session(text) == same_session(page[start:stop])
    engine.ok("POST", f"{engine.base}/executions/{running}/cancel", {}, want=(200, 202))
    engine.ended(running)


def test_ctrl_c_gives_a_line_up_and_stops_what_runs(terminal, service):
    term = terminal()
    term.enter("kept = 'yes'")
    term.type("a line that is given up")
    term.press("C-c")
    term.wait("^C")
    assert "2" in term.enter("1 + 1").splitlines()[1]
    term.enter("print('begun') while true do end", prompt=False)
    eventually(lambda: " 1\n" in Console(service).say(":vms") + "\n", "it runs")
    term.press("C-c")
    term.wait("stopped")
    assert term.enter("kept").splitlines()[1].strip() == '"yes"', term.screen()
    # An unfinished text is given up as a whole.
    term.enter("unfinished = {")
    term.press("C-c")
    assert '"yes"' in term.enter("kept")
    term.press("C-d")
    term.wait("code=0")


def test_following_ends_with_ctrl_c(terminal, engine, instance):
    term = terminal("--project", "acme")
    running = engine.start(instance, input_data={"seconds": 8})["execution_id"]
    term.enter(f":events {running}", prompt=False)
    term.wait("execution.started")
    term.press("C-c")
    term.wait("it runs on")
    assert "1" in term.enter("1")
    term.enter(f":events {running[-8:]} 1", prompt=False)
    engine.ok("POST", f"{engine.base}/executions/{running}/cancel", {}, want=(200, 202))
    term.wait("it has ended")
    assert "execution.cancelled" in term.screen()


def test_completion(terminal, engine, instance):
    done = engine.start(instance, input_data={"seconds": 0})["execution_id"]
    engine.ended(done)
    term = terminal("--project", "acme")

    def completed(text, want):
        term.type(text)
        term.press("Tab")
        term.wait(want)
        term.press("C-u")

    completed(":jour", "acme> :journal ")
    completed("template.re", "template.render")
    completed(":use ac", ":use acme ")
    completed(":use acme re", ":use acme review ")
    completed(":executions run", ":executions running ")
    completed(f":stack {done[:-4]}", f":stack {done} ")
    completed(f":stack {done.split('_')[2][:-3]}", f":stack {done.split('_')[2]} ")
    completed(f'data.get("execution", "{done[:-2]}', f'data.get("execution", "{done}')
    term.enter("mine = {alpha = 1, beta = 2}")
    completed("mine.al", "acme> mine.alpha")
    term.type("data.")
    term.press("Tab")
    term.wait("data.get  data.list")
    term.press("C-u")
    term.type(":s")
    term.press("Tab", "Tab")
    term.wait("stack  store")


def test_the_history_is_kept_for_its_owner_alone(terminal):
    term = terminal()
    term.enter("'kept line'")
    term.enter(" 'begins with a blank'")
    term.press("C-d")
    term.wait("code=0")
    path = term.state / "kontor/console_history"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "kept" in path.read_text() and "blank" not in path.read_text()
    again = terminal()
    again.enter("1")
    again.press("C-r")
    again.type("kept")
    again.wait("'kept line'")
    again.press("Enter")
    again.wait('"kept line"')
    again.press("Up")
    again.wait("'kept line'", 2)


def test_a_service_that_ends_ends_the_console(terminal, make_service):
    other = make_service().start()
    term = Terminal(other)
    try:
        assert "2" in term.enter("1 + 1")
        other.stop()
        term.enter("1 + 1", prompt=False)
        term.wait("code=1")
        assert "no service runs here" in term.screen()
    finally:
        term.close()


def test_a_reload_is_not_noticed(terminal, service):

    term = terminal()
    assert "2" in term.enter("1 + 1")
    before = set(service.workers())
    service.signal(signal.SIGHUP)
    eventually(lambda: service.workers() and not before & set(service.workers()), "a new set of workers")
    assert "nil" in term.enter("never_set")
    pids = {int(line.split()[1]) for line in term.enter(":workers").splitlines() if re.match(r"[01] ", line)}
    assert pids == set(service.workers())
