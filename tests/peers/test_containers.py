"""docker/Dockerfile and docker-compose.yml on a real Docker Engine: what README.md and docs/deployment.md promise.

The order counts: the stack comes up once, is asked, broken, taken down and up again, and leaves nothing. Its images are
Debian's and ours; `mongodb` is secantusd-py (tests/peers/mongodb/).
"""
import base64
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import pytest

from docker_engine import ROOT

README = (ROOT / "README.md").read_text()
KONTOR = os.environ.get("KONTOR", str(ROOT / "build" / "kontor"))
IMAGE = "agent-orchestration:latest"
BASE = "http://127.0.0.1:8000"
PATIENCE = 120


def eventually(check, what):
    end = time.monotonic() + PATIENCE
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > end:
            pytest.fail(f"never: {what}")
        time.sleep(0.2)


def ask(path, body=None, headers=None, base=BASE, method=None):
    """(status, document, headers) of a request; status 0: nobody answers."""
    request = urllib.request.Request(base + path, None if body is None else json.dumps(body).encode(),
                                     {"Content-Type": "application/json", **(headers or {})}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read() or "null"), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, json.load(error), error.headers
    except OSError:
        return 0, None, None


class Stack:
    """docker-compose.yml under a project name of its own, with the override that stands in for MongoDB."""

    def __init__(self, engine):
        self.engine, self.project = engine, f"kontor-test-{uuid.uuid4().hex[:8]}"
        site = next((ROOT / ".venv/lib").resolve().glob("python3*/site-packages"))
        self.key = base64.b64encode(os.urandom(32)).decode()
        self.env = dict(engine.env, KONTOR_TEST_SITE=str(site), KONTOR_MASTER_KEY=self.key)
        self.files = ["-p", self.project, "-f", "docker-compose.yml", "-f", "tests/peers/mongodb/override.yml"]

    def compose(self, *words, **more):
        """docker-compose of Debian 12, version 1."""
        return self.engine.command("docker-compose", *self.files, *words, env=self.env, **more).stdout

    def compose2(self, *words, **more):
        return self.engine.command(self.engine.docker, "compose", *self.files, *words, env=self.env, **more).stdout

    def container(self, service):
        return self.engine.out("ps", "-aq", "--filter", f"label=com.docker.compose.project={self.project}",
                               "--filter", f"label=com.docker.compose.service={service}")

    def inspect(self, service):
        return inspect(self.engine, self.container(service))

    def bash(self, command):
        return self.engine.out("exec", self.container("app"), "bash", "-c", command)

    def healthy(self, service="app"):
        return self.inspect(service)["State"]["Health"]["Status"] == "healthy"

    def left(self):
        label = f"label=com.docker.compose.project={self.project}"
        return [self.engine.out(*words, "-q", "--filter", label) for words in
                (["ps", "-a"], ["volume", "ls"], ["network", "ls"])]


def free(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) != 0


# --- The image alone, as docs/deployment.md runs it

@pytest.fixture(scope="module")
def image(engine):
    Stack(engine).compose("build")
    print(f"image: {int(engine.out('image', 'inspect', '-f', '{{.Size}}', IMAGE)) / 1e6:.0f} MB")
    return IMAGE


def inspect(engine, name):
    return json.loads(engine.out("inspect", name))[0]


@pytest.fixture
def container(engine, image):
    """container(*options, command=) -> name of one that runs, read-only, on a volume of its own."""
    made, volume = [], f"kontor-test-{uuid.uuid4().hex[:8]}"

    def run(*options, command=("serve",), detach=True):
        name = f"{volume}-{len(made)}"
        made.append(name)
        done = engine.run("run", *(["-d"] if detach else []), "--name", name, "--read-only", "--cap-drop", "ALL",
                          "--security-opt", "no-new-privileges", "-v", f"{volume}:/srv/kontor/data", *options, image, *command,
                          check=detach)
        return name if detach else done

    yield run
    for name in made:
        engine.run("rm", "-fv", name)
    engine.run("volume", "rm", volume)


def test_the_image_is_a_program_and_what_it_links(engine, image):
    config = inspect(engine, image)["Config"]
    assert config["User"] == "10001:10001"
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"] == ["CMD", "kontor", "health"]
    assert set(config["Volumes"]) == {"/srv/kontor/data", "/srv/kontor/logs"}
    look = """
      for tool in cc gcc g++ c++ clang cpp ld as make cmake ninja pkg-config git curl wget python3 perl-modules; do
        command -v $tool; done
      dpkg-query -W -f '${Package}\\n' | grep -E -- '-dev$'
      find / -xdev \\( -name '*.[ch]' -o -name '*.a' \\) -not -path '/proc/*'
      find /usr/local /srv -xdev -perm /022 -not -type l
      find / -xdev -perm /6000 -path '/usr/local/*'
      ls -A /var/lib/apt/lists /var/cache/apt /var/log"""
    found = engine.run("run", "--rm", "--user", "0", "--entrypoint", "bash", image, "-c", look).stdout.split()
    assert [f for f in found if not f.endswith(":")] == []
    assert engine.out("run", "--rm", image, "--version").startswith("kontor ")


def test_without_a_key_it_serves_nobody(engine, container):
    done = container(detach=False)
    assert done.returncode == 1
    assert 'KONTOR_LISTEN: \\"0.0.0.0:8000\\" is not a loopback address, and there is no key' in done.stdout


def test_it_serves_who_has_a_key_and_drains_at_term(engine, container):
    made = container(command=["key", "create", "--name", "ops", "--role", "admin"], detach=False)
    key = re.search(r"^kt_\S+$|^\S{40,}$", made.stdout, re.M)[0]
    name = container("-p", "127.0.0.1::8000")
    base = "http://" + engine.out("port", name, "8000").splitlines()[0]
    eventually(lambda: ask("/health", base=base)[0] == 200, "it answers")
    assert ask("/api/v1/me", base=base)[0] == 401
    assert ask("/api/v1/me", headers={"X-API-Key": key}, base=base)[1]["role"] == "admin"
    assert json.loads(engine.out("exec", name, "kontor", "health"))["access"] == "keys"

    engine.run("stop", "-t", "35", name)
    state = inspect(engine, name)["State"]
    assert state["ExitCode"] == 0, engine.out("logs", name)
    assert "event=service.stopped" in engine.out("logs", name)

    done = container("-e", "KONTOR_DEV=1", detach=False)
    assert done.returncode == 1
    assert "KONTOR_DEV: 1 serves everybody as admin, and there are keys" in done.stdout


# --- The stack

@pytest.fixture(scope="module")
def stack(engine, image):
    for port in (8000, 27017):
        assert free(port), f"port {port} of this machine is taken: docker-compose.yml publishes it"
    stack = Stack(engine)
    try:
        stack.compose("up", "-d")
        yield stack
    finally:
        stack.compose("down", "-v", "--remove-orphans", check=False)


def test_it_comes_up(stack):
    eventually(stack.healthy, "the app is healthy")
    assert ask("/ready")[1]["status"] == "ready"
    assert ask("/api/v1/master/health")[1]["store"]["engine"] == "mongodb"


def test_only_loopback_is_published(stack):
    for service, port in (("app", 8000), ("mongodb", 27017)):
        assert stack.inspect(service)["HostConfig"]["PortBindings"] == {
            f"{port}/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port)}]}


def test_it_is_nobody_and_writes_only_to_its_volumes(stack):
    assert stack.bash("id -u; id -g").split() == ["10001", "10001"]
    status = dict(line.split(":\t") for line in stack.bash("grep -E '^(Uid|NoNewPrivs|Cap...):' /proc/1/status").splitlines())
    assert status.pop("NoNewPrivs") == "1" and status.pop("Uid").split() == ["10001"] * 4
    assert {int(bits, 16) for bits in status.values()} == {0}
    writable = stack.bash("for d in / /tmp /var/tmp /usr/local/share/kontor /srv/kontor /srv/kontor/data /srv/kontor/logs; do "
                          "touch $d/x 2>/dev/null && echo $d && rm $d/x; done; true")
    assert writable.split() == ["/srv/kontor/data", "/srv/kontor/logs"]


def test_secrets_are_sealed_under_the_key_of_the_shell(stack):
    assert ask("/api/v1/master/secrets/github", {"value": "s3cret-value"}, method="PUT")[0] == 204
    assert ask("/api/v1/master/secrets/github")[1]["name"] == "github"
    log = stack.compose("logs", "--no-color", "app")
    assert stack.key not in log and "s3cret-value" not in log


def test_process_one_takes_in_orphans(stack):
    stack.bash("(sleep 0.2 &)")
    eventually(lambda: "Z" not in stack.bash("cut -d' ' -f3 /proc/[0-9]*/stat").split(), "no zombie is left")


def shown_curls():
    """The `$ curl …` lines of README.md, each with the answer under it: up to where it is cut, or to its first number."""
    return [(curl, re.split(r" … |\d+\.\d", answer)[0]) for curl, answer in re.findall(r"^\$ (curl .*)\n(.*)$", README, re.M)]


def test_every_curl_of_the_readme(stack, tmp_path):
    blocks = [b for b in re.findall(r"^```sh\n(.*?)^```", README, re.M | re.S) if "curl" in b]
    assert blocks and shown_curls()
    script = "set -euo pipefail\ncurl() { command curl --fail-with-body \"$@\"; }\n" + "\n".join(blocks)
    script += "unset -f curl\n" + "".join(f"\necho; echo @@{i}\n{curl}\n" for i, (curl, _) in enumerate(shown_curls()))
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout[-3000:]
    tour, *shown = re.split(r"^@@\d+\n", done.stdout, flags=re.M)
    for event in ("event: rule.completed", "event: execution.completed"):
        assert event in tour
    findings = json.loads(tour.strip().splitlines()[-1])["data"]
    assert [f["finding_key"] for f in findings if f["rule_id"] == "IMT-007"] == ["100|"]
    for (curl, begins), answer in zip(shown_curls(), shown):
        assert answer.startswith(begins), curl

    # The demo's, against this service: it prints the one that the README shows of it.
    subprocess.run([KONTOR, "demo-data", "--out", tmp_path / "data"], check=True, stdout=subprocess.DEVNULL)
    demo = subprocess.run([sys.executable, ROOT / "examples/demo.py", "--base", BASE, "--data", tmp_path / "data", "--store", "x"],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE)
    assert demo.returncode == 0, demo.stdout[-3000:]
    last = re.search(r"^  (curl .*)$", demo.stdout, re.M)[1]
    assert re.sub(r"exec_\w+", "ID", last) in re.sub(r"exec_\w+", "ID", README)
    answer = json.loads(subprocess.run(["bash", "-c", last], stdout=subprocess.PIPE, check=True).stdout)
    assert len(answer["data"]) == 3

    ran = sum(block.count("curl ") for block in blocks) + len(shown_curls()) + 1
    assert ran == len(re.findall(r"(?<![\w`/.-])curl -", README)), "a curl of the README that this test does not run"


def test_the_log_is_shown_and_kept(stack):
    assert "event=service.ready" in stack.compose("logs", "--no-color", "app")
    assert "event=service.ready" in stack.bash("cat /srv/kontor/logs/app.log")
    follow = subprocess.Popen(stack.engine.argv("docker-compose", *stack.files, "logs", "-f", "--tail", "0", "app"),
                              cwd=ROOT, env=stack.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    seen = []
    reader = threading.Thread(target=lambda: seen.extend(iter(follow.stdout.readline, "")), daemon=True)
    reader.start()

    def followed():
        ask("/api/v1/projects/nobody-has-this/executions")
        return any("nobody-has-this" in line for line in seen)
    try:
        eventually(followed, "a new line is shown")
    finally:
        follow.terminate()
        follow.wait()
        reader.join()


# --- What is broken, taken down, made again

def findings_of_the_tour():
    status, runs, _ = ask("/api/v1/projects/tour/executions")
    if status != 200:
        return None
    run = runs["data"][0]["execution_id"]
    return [f["finding_id"] for f in ask(f"/api/v1/projects/tour/executions/{run}/findings")[1]["data"]]


def test_without_mongodb_it_waits_for_it(stack):
    before = findings_of_the_tour()
    assert before
    stack.compose("stop", "mongodb")
    eventually(lambda: ask("/ready")[0] == 503, "the app is not ready")
    status, _, headers = ask("/api/v1/master/projects", {"project_id": "later", "project_name": "L", "customer_name": "L"})
    assert status == 503 and int(headers["Retry-After"]) > 0
    assert ask("/health")[0] == 200

    # Started without it, it ends and is started again, until there is one.
    stack.compose("restart", "app")
    eventually(lambda: stack.inspect("app")["RestartCount"] > 0, "the app ended and was started again")
    stack.compose("start", "mongodb")
    eventually(lambda: ask("/ready")[0] == 200, "the app is ready again")
    assert findings_of_the_tour() == before


def test_down_and_up_by_the_other_compose_keeps_the_data(stack):
    before = findings_of_the_tour()
    assert before
    stack.compose("stop", "app")
    assert stack.inspect("app")["State"]["ExitCode"] == 0
    assert "event=service.stopped" in stack.compose("logs", "--no-color", "app")
    stack.compose("down")
    containers, volumes, networks = stack.left()
    assert (containers, networks) == ("", "") and len(volumes.split()) == 3
    stack.compose2("up", "-d")
    eventually(lambda: ask("/ready")[0] == 200, "the app is ready")
    assert findings_of_the_tour() == before
    assert "event=service.ready" in stack.compose2("logs", "--no-color", "app")


def test_down_leaves_nothing(stack):
    stack.compose2("down", "-v")
    assert stack.left() == ["", "", ""]
    assert free(8000) and free(27017)


def test_the_health_check_makes_the_replica_set(node):
    """Of the real image, which no registry in reach has: what its mongosh is given, with stand-ins for mongosh's words."""
    script = (ROOT / "docker-compose.yml").read_text().split("- --eval\n        - |\n")[1].split("      interval:")[0]
    code, output = node("-e", """
      const script = process.argv[1]
      function run(status, primary) {
        const calls = []
        let code
        const rs = {status() { if (status) throw Object.assign(new Error(status), {codeName: status}) },
                    initiate(config) { calls.push(config) }}
        const db = {hello: () => ({isWritablePrimary: primary-- <= 0})}
        try { new Function("rs", "db", "sleep", "quit", script)(rs, db, () => {}, n => { code = n }) }
        catch (e) { code = e.message }
        return [code, calls.length, calls[0] && calls[0].members[0].host]
      }
      console.log(JSON.stringify([run(null, 0), run("NotYetInitialized", 3), run("Unauthorized", 0), run(null, 1e9)]))
    """, script)
    assert code == 0, output
    assert json.loads(output) == [[0, 0, None], [0, 1, "mongodb:27017"], ["Unauthorized", 0, None], [1, 0, None]]
