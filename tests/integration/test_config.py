"""Every variable of .env.example: it is known, and it has an effect."""
import re
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from conftest import KONTOR, ROOT, eventually
from engine_client import Engine


def example():
    text = (ROOT / ".env.example").read_text()
    return dict(re.findall(r"^([A-Z_]+)=(.*)$", text, re.M))


# name -> the test that shows its effect. A variable without one is not to be listed.
SHOWN = {
    "KONTOR_LISTEN": "test_listen", "KONTOR_DATA_DIR": "test_folders", "KONTOR_LOG_DIR": "test_folders",
    "KONTOR_WORKERS": "test_workers", "KONTOR_DRAIN_SECONDS": "test_drain_seconds",
    "KONTOR_LOG_LEVEL": "test_log_level", "KONTOR_DEV": "test_dev", "KONTOR_HOSTS": "test_hosts",
    "KONTOR_EGRESS_ALLOW": "test_egress_allow",
    "KONTOR_MASTER_KEY": "test_master_key", "KONTOR_MASTER_KEY_OLD": "test_master_key",
    "KONTOR_HOME": "test_home", "KONTOR_BACKUP_DIR": "test_backup_folder",
    "KONTOR_IMPORT_MAX_BYTES": "test_import_max_bytes", "MONGODB_URL": "test_mongodb_url",
    "MASTER_DATABASE_NAME": "test_database_names",
    "PROJECT_DATABASE_PREFIX": "test_database_names", "KONTOR_PROJECT_USERS": "test_project_users",
    "ENABLE_MULTI_TENANT": "test_one_tenant",
    "DEFAULT_PROJECT_ID": "test_one_tenant", "ERP_REPORTS_DIRECTORY": "test_reports_directory",
}


def test_the_example_is_complete_and_shown():
    helped = subprocess.run([KONTOR, "--help"], capture_output=True, text=True, check=True).stdout
    known = re.findall(r"^  ([A-Z][A-Z_]+) ", helped, re.M)
    assert list(example()) == known
    assert set(SHOWN) == set(known)
    assert all(callable(globals().get(test)) for test in SHOWN.values())


def test_the_example_holds_the_defaults(make_service, mini_home):
    """A copy of it changes nothing."""
    service = make_service(home=mini_home)
    service.tmp.mkdir()
    (service.tmp / ".env").write_text((ROOT / ".env.example").read_text())
    service.start()
    assert service.get("/pid").status == 200


def test_dotenv_is_read_below_the_environment(make_service, mini_home):
    service = make_service(home=mini_home)
    service.tmp.mkdir()
    (service.tmp / ".env").write_text("KONTOR_WORKERS=2 # two\nKONTOR_DATA_DIR='other data'\n")
    service.start()
    assert len(service.workers()) == 2
    assert (service.tmp / "data").exists() and not (service.tmp / "other data").exists()


def test_faults_are_reported_all_at_once(make_service, mini_home):
    service = make_service(home=mini_home, KONTOR_WORKERS="many", KONTOR_LISTEN="nowhere", KONTOR_DEV="perhaps",
                           KONTOR_LOG_LEVEL="loud")
    service.tmp.mkdir()
    (service.tmp / ".env").write_text("KONTOR_WORKRES=2\nwhat is this\nMASTER_DATABASE_NAME=../up\nMONGODB_URL=mysql://kontor:S3cret@db\n")
    service.launch()
    assert service.process.wait(30) == 2
    for name in ("KONTOR_WORKERS", "KONTOR_LISTEN", "KONTOR_DEV", "KONTOR_LOG_LEVEL", "KONTOR_WORKRES", ".env:2",
                 "MASTER_DATABASE_NAME", "MONGODB_URL"):
        assert name in service.text()
    assert "S3cret" not in service.text()
    assert not (service.tmp / "data").exists()


def test_listen(make_service, mini_home):
    first = make_service("first", home=mini_home).start()
    port = first.port
    first.stop()
    second = make_service("second", home=mini_home, KONTOR_LISTEN=f"localhost:{port}").start()
    assert second.port == port and second.get("/pid").status == 200


def test_folders(make_service, mini_home):
    service = make_service(home=mini_home, KONTOR_DATA_DIR="x/my data", KONTOR_LOG_DIR="x/my logs").start()
    data, logs = service.tmp / "x/my data", service.tmp / "x/my logs"
    assert (data / "kontor.sock").is_socket() and (data / "kontor.sock").stat().st_mode & 0o777 == 0o600
    assert data.stat().st_mode & 0o777 == 0o700
    assert "service.ready" in (logs / "app.log").read_text()


def test_workers(make_service, mini_home):
    service = make_service(home=mini_home, KONTOR_WORKERS=3).start()
    assert len(service.workers()) == 3
    pids = set()
    eventually(lambda: pids.add(service.get("/pid").body) or len(pids) == 3, "each of them answers")


def test_drain_seconds(make_service, mini_home):
    service = make_service(home=mini_home, KONTOR_DRAIN_SECONDS=0).start()
    import threading
    thread = threading.Thread(target=lambda: pytest.raises(Exception, service.get, "/slow?1000"))
    thread.start()
    service.stop()
    thread.join()


def test_log_level(make_service, mini_home):
    service = make_service(home=mini_home, KONTOR_LOG_LEVEL="error").launch()
    eventually(lambda: (service.tmp / "data/kontor.sock").exists(), "it listens")
    eventually(lambda: (service.tmp / "logs/executions.log").exists(), "its worker runs")
    service.stop()
    assert "level=info" not in service.text()


def key_of(service, *args):
    service.tmp.mkdir(parents=True, exist_ok=True)
    return subprocess.run([KONTOR, "key", "create", "--name", "ops", "--role", "admin", *args], env=service.env, cwd=service.tmp,
                          capture_output=True, text=True)


def test_dev(make_service):
    """Without it, and without a key, only loopback is served. (Watching agents/: test_scripts_live.)"""
    address = "0.0.0.0:0"
    refused = make_service(KONTOR_LISTEN=address).launch()
    assert refused.process.wait(30) == 1
    [failed] = refused.events("worker.failed")
    assert "KONTOR_LISTEN" in failed["msg"] and "kontor key create" in failed["msg"]
    assert not list(refused.data.glob("ktern-project-*.db")), "refused before a project is made"
    refused.process = None

    served = make_service(KONTOR_LISTEN=address, KONTOR_DEV=1, KONTOR_WORKERS=2).start()
    assert served.get("/health").json()["access"] == "open" and len(served.events("access.open")) == 1
    assert served.get("/api/v1/master/projects").status == 200
    made = key_of(served)
    assert made.returncode == 1 and "KONTOR_DEV=1" in made.stderr, "no key beside it"
    served.stop()

    keyed = make_service(KONTOR_DATA_DIR=served.data, KONTOR_LISTEN=address)
    made = key_of(keyed)
    assert made.returncode == 0, made.stderr
    keyed.start()
    assert keyed.get("/health").json()["access"] == "keys" and not keyed.events("access.open")
    assert keyed.get("/api/v1/master/projects").status == 401
    assert keyed.get("/api/v1/master/projects", headers={"Authorization": "Bearer " + made.stdout.strip(),
                                                         "Host": "kontor.example"}).status == 200
    keyed.stop()

    beside = make_service(KONTOR_DATA_DIR=served.data, KONTOR_DEV=1).launch()
    assert beside.process.wait(30) == 1 and "KONTOR_DEV" in beside.events("worker.failed")[0]["msg"]
    beside.process = None


def test_egress_allow(make_service):
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def serve():
        s, _ = listener.accept()
        with s:
            s.recv(65536)
            s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    answers = []
    for allow in ("", f"localhost:{port}, 10.0.0.0/8", "127.0.0.0/8"):
        engine = Engine(make_service(KONTOR_EGRESS_ALLOW=allow).start().port)
        tool = engine.make_tool("ask", "GET", f"http://127.0.0.1:{port}/")
        instance = engine.make_agent("asker", """workflow { name = "asker", run = function()
            local ok, answer = pcall(tool.call, "ask")
            return ok and answer.content or answer.code
        end }""", tools=[tool])
        answers.append(engine.result(engine.ended(engine.start(instance)["execution_id"])["execution_id"])["output"])
    listener.close()
    assert answers == ["tool_denied", "tool_denied", "hi"]
    refused = make_service(KONTOR_EGRESS_ALLOW="10.0.0.0/33").launch()
    assert refused.process.wait(30) == 2 and "KONTOR_EGRESS_ALLOW" in refused.stderr.read_text()


def test_master_key(make_service):
    """(What the keys do: test_secrets.) A fault in one does not show it."""
    keys = ["7" * 64, "8" * 64]
    service = make_service(KONTOR_MASTER_KEY=keys[0]).start()
    assert service.request("PUT", "/api/v1/master/secrets/a", {"value": "x"}).status == 204
    assert not (service.data / "master.key").exists()
    service.stop()
    service.env.update(KONTOR_MASTER_KEY=keys[1], KONTOR_MASTER_KEY_OLD=keys[0])
    service.start()
    assert service.made("/api/v1/master/secret-key/rotate", {})["resealed"] == 1
    service.stop()
    refused = make_service(KONTOR_MASTER_KEY="hunter2", KONTOR_MASTER_KEY_OLD=f"{keys[0]},hunter3").launch()
    assert refused.process.wait(30) == 2
    text = refused.stderr.read_text()
    assert "KONTOR_MASTER_KEY: is not 32 bytes in base64 or hex" in text and "KONTOR_MASTER_KEY_OLD: is not" in text
    assert "hunter" not in text and keys[0] not in text


def test_hosts(make_service):
    service = make_service(KONTOR_HOSTS="erp.example,other.example").start()
    port = service.port
    assert service.get("/health", headers={"Host": f"erp.example:{port}"}).status == 200
    assert service.get("/health", headers={"Host": f"evil.example:{port}"}).status == 403


def test_home(make_service, mini_home, tmp_path):
    service = make_service(home=mini_home).start()
    assert service.get("/pid").status == 200
    service = make_service("none", home=tmp_path / "nothing").launch()
    assert service.process.wait(30) == 1
    assert "KONTOR_HOME" in service.text()


def databases(service):
    return {path.name.split(".")[0] for path in (service.tmp / "data").rglob("*") if path.is_file()}


@pytest.mark.parametrize("url, told", [
    ("mongodb://kontor:S3cret@127.0.0.1:1/?replicaSet=rs0", "no server at 127.0.0.1:1 can be written to"),
    ("mongodb://kontor:S3/cret@127.0.0.1:1/", "is not a MongoDB connection string"),
    ("mongodb://kontor:S3cret@127.0.0.1:1/admin", "names a database"),
    ("mongodb://kontor:S3cret@127.0.0.1:1/?tlsInsecure=true", "option that is not supported: tlsInsecure"),
    ("mongodb://kontor:S3cret@127.0.0.1:1/?w=1", "has w other than majority"),
])
def test_mongodb_url(make_service, url, told):
    """Nothing is served without the server that it names; what is wrong is said without the password."""
    service = make_service(MONGODB_URL=url).launch()
    assert service.process.wait(30) == 1
    assert told in service.text() and "MONGODB_URL" in service.text()
    assert "S3" not in service.text()


def test_database_names(make_service):
    service = make_service(MASTER_DATABASE_NAME="chief", PROJECT_DATABASE_PREFIX="p-").start()
    service.erp("acme")
    assert {"chief", "p-acme"} <= databases(service)


def test_project_users(make_service):
    """(What it does on MongoDB: test_mongo_users.)"""
    service = make_service(KONTOR_PROJECT_USERS=1, MONGODB_URL="").launch()
    assert service.process.wait(30) == 1
    assert "KONTOR_PROJECT_USERS is set, but MONGODB_URL is not" in service.text()
    service.process = None


def test_backup_folder(make_service):
    service = make_service(KONTOR_BACKUP_DIR="kept").start()
    done = service.job("POST", "/api/v1/projects/default/backups", {})
    assert (service.tmp / "kept/default" / done["result"]["backup_id"] / "manifest.json").exists()


def test_import_max_bytes(make_service):
    service = make_service(KONTOR_IMPORT_MAX_BYTES=1000).start()
    path, headers = "/api/v1/master/projects/import?project_id=copy", {"Content-Type": "application/x-tar"}
    assert service.post(path, b"x" * 1001, headers=headers).status == 413
    assert service.post(path, b"x" * 1000, headers=headers).status == 422  # which is no tar


def test_one_tenant(make_service):
    service = make_service(ENABLE_MULTI_TENANT=0, DEFAULT_PROJECT_ID="home-base").start()
    assert service.get("/api/v1/projects/home-base/agent-instances").status == 200
    refused = service.post("/api/v1/master/projects", {"project_id": "acme", "project_name": "A", "customer_name": "A"})
    assert refused.status in (403, 404)
    assert service.get("/api/v1/projects/acme/agent-instances").status == 404


def test_reports_directory(make_service):
    """A finished analysis leaves a copy of its report there."""
    service = make_service(ERP_REPORTS_DIRECTORY="reports").start()
    run = service.execute(service.erp("acme"))
    assert run["status"] == "completed", run
    assert (service.tmp / "reports/acme" / f"{run['execution_id']}.json").exists()
