"""The supervisor: workers that die, hang, drain and are replaced."""
import http.client
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from conftest import KONTOR, ROOT, eventually, marked


def pid_of(service):
    return int(service.get("/pid").body)


def other_pid(service, old):
    """The pid that answers once it is another one than old. A connection that the old worker had
    taken is lost with it; every other one must be answered."""
    def ask():
        try:
            pid = pid_of(service)
        except (http.client.HTTPException, ConnectionResetError):
            return None
        return pid if pid != old else None
    return eventually(ask, f"another worker than {old} answers")


class Load:
    """Threads that make requests on fresh connections until stopped, and what failed."""

    def __init__(self, service, path="/pid", threads=4):
        self.service, self.path, self.running = service, path, True
        self.answered, self.failed, self.pids = 0, [], set()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run) for _ in range(threads)]
        for thread in self.threads:
            thread.start()

    def run(self):
        while self.running:
            try:
                answer = self.service.get(self.path)
                problem = None if answer.status == 200 else answer.status
                body = answer.body
            except (OSError, http.client.HTTPException) as error:
                problem, body = repr(error), b""
            with self.lock:
                if problem:
                    self.failed.append(problem)
                else:
                    self.answered += 1
                    self.pids.add(int(body))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.running = False
        for thread in self.threads:
            thread.join()


def test_a_killed_worker_is_replaced_at_once(mini):
    old = pid_of(mini)
    os.kill(old, signal.SIGKILL)
    # The listening socket is the supervisor's: a client is never refused, it waits.
    assert other_pid(mini, old) in mini.workers()
    assert mini.events("worker.ended")[0]["msg"] == "signal 9"
    assert len(mini.events("worker.started")) == 2


def test_a_worker_that_keeps_dying_is_slowed_down_but_comes_back(mini):
    for _ in range(4):
        worker = eventually(mini.workers, "a worker lives")[-1]
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: worker not in mini.workers(), "it is gone")
    eventually(lambda: mini.get("/pid").status == 200, "it answers again")


def test_a_stuck_worker_is_killed_and_replaced(mini):
    old = pid_of(mini)
    with pytest.raises((OSError, http.client.HTTPException)):
        mini.get("/block")
    assert other_pid(mini, old)
    assert "stuck" in mini.events("worker.killed")[0]["msg"]


def test_a_loop_that_stops_beating_is_stuck(make_service, mini_home):
    service = make_service(home=mini_home, KONTOR_FAULT="worker.block:2").start()
    eventually(lambda: service.events("worker.killed"), "the watchdog saw it")
    assert "stuck" in service.events("worker.killed")[0]["msg"]
    eventually(lambda: len(service.events("worker.ready")) > 1, "a new worker is ready")


def test_term_drains(mini):
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(mini.get("/slow?1").status)) for _ in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    mini.signal(signal.SIGTERM)
    for thread in threads:
        thread.join()
    assert answers == [200] * 8
    assert mini.process.wait(30) == 0


def test_a_drain_ends_when_its_time_is_over(make_service, mini_home):
    service = make_service(home=mini_home, KONTOR_DRAIN_SECONDS=1).start()
    failed = []

    def ask():
        try:
            failed.append(service.get("/slow?1000").status)
        except (OSError, http.client.HTTPException) as error:
            failed.append(repr(error))
    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.3)
    service.signal(signal.SIGTERM)
    assert service.process.wait(30) == 0
    thread.join()
    assert len(failed) == 1 and failed[0] != 200


def test_hup_loses_no_request(mini):
    old = pid_of(mini)
    with Load(mini) as load, Load(mini, "/slow?0.2", 2) as slow:
        for _ in range(3):
            before = len(mini.events("service.reloaded"))
            mini.signal(signal.SIGHUP)
            eventually(lambda: len(mini.events("service.reloaded")) > before, "service.reloaded")
            time.sleep(0.3)
    assert load.failed == [] and slow.failed == []
    assert load.answered > 50 and len(load.pids) >= 3
    assert pid_of(mini) != old
    eventually(lambda: len(mini.workers()) == 1, "the old sets are gone")


def test_hup_with_several_workers(make_service, mini_home):
    service = make_service(home=mini_home, KONTOR_WORKERS=3).start()
    assert len(service.workers()) == 3
    old = set(service.workers())
    with Load(service) as load:
        service.signal(signal.SIGHUP)
        eventually(lambda: service.events("service.reloaded"), "service.reloaded")
        eventually(lambda: len(service.workers()) == 3, "three new workers")
    assert load.failed == []
    assert not old & set(service.workers())


def test_a_second_hup_while_the_first_is_under_way(make_service, mini_home):
    service = make_service(home=mini_home, KONTOR_WORKERS=3).start()
    old = set(service.workers())
    with Load(service) as load:
        service.signal(signal.SIGHUP)
        eventually(lambda: len(service.events("worker.started")) == 6, "the next set is started")
        service.signal(signal.SIGHUP)
        service.signal(signal.SIGHUP)
        eventually(lambda: len(service.events("service.reloaded")) == 2, "it is reloaded once more")
        eventually(lambda: not old & set(service.workers()) and len(service.workers()) == 3, "one set is left")
    assert load.failed == []


def test_a_broken_set_leaves_the_old_one_serving(mini, mini_home):
    old = pid_of(mini)
    (mini_home / "broken").touch()
    mini.signal(signal.SIGHUP)
    eventually(lambda: mini.events("service.reload_failed"), "service.reload_failed")
    assert "broken on purpose" in mini.events("worker.failed")[0]["msg"]
    assert pid_of(mini) == old
    (mini_home / "broken").unlink()
    mini.signal(signal.SIGHUP)
    assert other_pid(mini, old)


def test_a_service_that_cannot_start_says_why_and_ends(make_service, mini_home):
    (mini_home / "broken").touch()
    service = make_service(home=mini_home).launch()
    assert service.process.wait(30) == 1
    assert "broken on purpose" in service.text()


def test_one_service_on_one_data_directory(mini, make_service, mini_home):
    second = make_service("second", home=mini_home, KONTOR_DATA_DIR=mini.env["KONTOR_DATA_DIR"]).launch()
    assert second.process.wait(30) == 1
    assert f"is in use by process {mini.process.pid}" in second.text()
    assert pid_of(mini) in mini.workers()
    second.process = None


def test_a_taken_port_is_refused(mini, make_service, mini_home):
    second = make_service("second", home=mini_home, KONTOR_LISTEN=f"127.0.0.1:{mini.port}").launch()
    assert second.process.wait(30) == 1
    assert f"cannot listen on 127.0.0.1:{mini.port}" in second.text()
    second.process = None


def test_a_killed_supervisor_takes_its_workers_along(mini):
    mini.kill_supervisor()
    mini.start()
    assert mini.get("/pid").status == 200


def analysts(home):
    """Pids of the analysts that run from this home: their environment has nothing else of ours."""
    def is_one(pid):
        try:
            return b"analyst" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except FileNotFoundError:  # it has ended meanwhile
            return False
    return [pid for pid in marked(f"KONTOR_HOME={home}".encode()) if is_one(pid)]


def ask_and_leave(service, path):
    """Send a request, wait for no answer."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port)
    connection.request("GET", path)
    return connection


@pytest.mark.parametrize("out", ["/dev/full", "a file"])
def test_an_analyst_that_cannot_answer_fails(out, tmp_path):
    path = tmp_path / "out" if out == "a file" else Path(out)
    with open(path, "w") as stdout:
        done = subprocess.run(
            [KONTOR, "analyst", "--memory", str(4 << 30), "--cpu", "60", "--parent", str(os.getpid())],
            input='{"rules":[],"tables":[]', stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 1
    # Files are forbidden to it, but not in a build with sanitizers, whose reports are files.
    if path == Path(out) or "invalid_json" not in path.read_text():
        assert "cannot write to standard output" in done.stderr


def test_an_analyst_ends_with_its_client_and_with_its_worker(mini, mini_home):
    client = ask_and_leave(mini, "/analyst")
    pid = eventually(lambda: analysts(mini_home), "an analyst runs")[0]
    # At its start it still reads a file or two.
    eventually(lambda: sorted(os.listdir(f"/proc/{pid}/fd")) == ["0", "1", "2"], "it has its pipes and nothing else")
    client.close()
    eventually(lambda: not analysts(mini_home), "it ended with its client")

    client = ask_and_leave(mini, "/analyst")
    eventually(lambda: analysts(mini_home), "an analyst runs")
    os.kill(pid_of(mini), signal.SIGKILL)
    eventually(lambda: not analysts(mini_home), "it ended with its worker")
    client.close()

    client = ask_and_leave(mini, "/analyst")
    eventually(lambda: analysts(mini_home), "an analyst runs")
    mini.kill_supervisor()
    eventually(lambda: not analysts(mini_home), "it ended with the service")
    client.close()
    mini.start()


def test_usr1_reopens_the_logs(mini):
    log, moved = mini.tmp / "logs/app.log", mini.tmp / "logs/app.log.1"
    log.rename(moved)
    mini.signal(signal.SIGUSR1)
    eventually(log.exists, "a new app.log")
    os.kill(pid_of(mini), signal.SIGKILL)
    eventually(lambda: "worker.ended" in log.read_text(), "the new file has the new lines")
    assert "worker.ended" not in moved.read_text()
    assert (mini.tmp / "logs/executions.log").exists()


def test_a_second_term_ends_at_once(mini):
    threading.Thread(target=lambda: pytest.raises(Exception, mini.get, "/slow?1000")).start()
    time.sleep(0.3)
    mini.signal(signal.SIGTERM)
    eventually(lambda: mini.events("worker.draining"), "it drains")
    mini.signal(signal.SIGTERM)
    assert mini.process.wait(30) == 0


def test_a_worker_has_no_descriptor_of_others(make_service, mini_home):
    """What the shell that started the service had open does not reach a worker."""
    service = make_service(home=mini_home)
    read_end, write_end = os.pipe()
    os.set_inheritable(write_end, True)
    script = f'exec "{KONTOR}" serve'
    service.tmp.mkdir()
    with open(service.stderr, "ab") as err:
        service.process = subprocess.Popen(["/bin/sh", "-c", script], cwd=service.tmp, env=service.env,
                                           stderr=err, stdin=subprocess.DEVNULL, pass_fds=[write_end])
    os.close(write_end)
    eventually(lambda: service.events("service.ready"), "service.ready")
    os.set_blocking(read_end, False)
    assert os.read(read_end, 1) == b"", "the pipe is at its end: nobody holds it"
    os.close(read_end)
    worker = Path(f"/proc/{service.workers()[0]}/fd")
    assert os.readlink(worker / "0") == "/dev/null"


def test_commands_and_usage():
    def run(*args):
        return subprocess.run([KONTOR, *args], capture_output=True, text=True, cwd="/", timeout=30)
    assert run("--version").returncode == 0
    assert run().returncode == 2
    assert run("no-such-command").returncode == 2
    assert run("../x").returncode == 2
    assert "KONTOR_LISTEN" in run("--help").stdout
    assert run("-h").stdout == run("help").stdout == run("--help").stdout
    commands = {path.stem for path in (ROOT / "lua/cli").glob("*.lua")} | {"serve"}
    assert commands <= set(run("--help").stdout.split())
    for name in commands:
        for flag in ("--help", "-h"):
            shown = run(name, flag)
            assert (shown.returncode, shown.stderr) == (0, "") and f"usage: kontor {name}" in shown.stdout
    assert run("serve", "--help").returncode == 0 and run("serve", "now").returncode == 2
    assert run("worker").returncode == 1
    assert run("analyst").returncode == 2
    assert marked(b"KONTOR_WORKER=0") == []


ADOPT = """
import ctypes, os, sys
# As process 1 of a container: what loses its parent becomes a child of the supervisor.
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER, kept by exec
if os.fork() == 0:
    if os.fork() == 0:
        os.execvp("sleep", ["sleep", "0.5"])
    os._exit(0)
os.wait()
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_a_supervisor_that_is_process_one_leaves_no_zombies(make_service, mini_home):
    service = make_service(home=mini_home)
    service.tmp.mkdir()
    with open(service.stderr, "ab") as err:
        service.process = subprocess.Popen([sys.executable, "-c", ADOPT, KONTOR, "serve"], cwd=service.tmp, env=service.env,
                                           stdin=subprocess.DEVNULL, stdout=err, stderr=err)
    eventually(lambda: service.events("service.ready"), "service.ready")
    service.port = int(service.events("service.ready")[-1]["url"].rsplit(":", 1)[1])
    children = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children")
    eventually(lambda: children.read_text().split() == [str(pid) for pid in service.workers()],
               f"only the worker is left: {children.read_text()}")
    old = pid_of(service)
    os.kill(old, signal.SIGKILL)
    assert other_pid(service, old) in service.workers()
