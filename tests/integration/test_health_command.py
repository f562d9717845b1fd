"""`kontor health`, what the health check of a container runs."""
import json
import signal
import subprocess

from conftest import KONTOR, eventually


def health(service, *options):
    return subprocess.run([KONTOR, "health", *options], cwd=service.tmp, env=service.env, capture_output=True, text=True)


def test_a_service_that_runs_is_alive_and_ready(make_service):
    service = make_service().start()
    done = health(service)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "ok"
    done = health(service, "--ready")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "ready"


def test_it_needs_no_key(make_service):
    service = make_service().start()
    service.made("/api/v1/master/api-keys", {"name": "root", "role": "admin"})
    assert service.get("/api/v1/me").status == 401
    assert json.loads(health(service).stdout)["access"] == "keys"


def test_no_service_is_not_alive(make_service):
    service = make_service()
    service.tmp.mkdir()
    assert_dead(service)  # never started: no socket
    service.start()
    service.kill_supervisor()
    assert (service.data / "kontor.sock").exists()
    assert_dead(service)  # killed: a socket that nobody listens at
    service.process = None


def assert_dead(service):
    done = health(service)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == f"kontor health: {service.data}/kontor.sock: no service answers\n"


def test_a_service_that_does_not_answer_in_time_is_not_alive(make_service):
    service = make_service().start()
    worker = service.workers()[0]
    try:
        service.signal(signal.SIGSTOP)  # or it would replace the worker
        subprocess.run(["kill", "-STOP", str(worker)], check=True)
        done = health(service)
        assert done.returncode == 1
        assert "no service answers" not in done.stderr and done.stderr.startswith("kontor health: "), done.stderr
    finally:
        subprocess.run(["kill", "-CONT", str(worker)], check=True)
        service.signal(signal.SIGCONT)
    eventually(lambda: health(service).returncode == 0, "it answers again")


def test_what_it_does_not_know_is_refused(make_service):
    service = make_service()
    service.tmp.mkdir()
    done = health(service, "--live")
    assert done.returncode == 2
    assert "there is no option --live" in done.stderr
