"""KONTOR_PROJECT_USERS: the server itself keeps the projects apart. Roles are enforced by secantusd-py as by MongoDB, but for one
thing: there a connection keeps the rights with which it began. (Route by route: test_mongo_access.)"""
import json
import signal
import subprocess

import pytest
from mongo_guarded import KEY, OTHER_KEY, PASSWORD, Guarded, as_root, as_user, guarded, password_of, through, users_of
from mongo_proxy import Proxy
from mongo_server import Server
from pymongo.errors import OperationFailure

from conftest import KONTOR, Service, eventually
from store_calls import finish, store_calls

MARK = "Zg7-only-the-others-see-this"


@pytest.fixture(scope="module")
def server():
    with guarded() as made:
        yield made


@pytest.fixture
def make(tmp_path, server):
    """make(VARIABLE=value…): a service with databases of its own on the guarded server, not started; with data=, those of another."""
    made = []

    def make(data=None, **env):
        if data is not None:
            env |= {"MASTER_DATABASE_NAME": data.master, "PROJECT_DATABASE_PREFIX": data.prefix}
        made.append(Guarded(tmp_path / f"service{len(made)}", server, **env))
        return made[-1]
    yield make
    try:
        for service in made:
            service.stop()
    finally:
        for service in made:
            service.kill_all()


def project(service, name, label="P"):
    service.made("/api/v1/master/projects", {"project_id": name, "project_name": label, "customer_name": "C"})
    return service.prefix + name


def dataset(service, name, label="plain"):
    return service.made(f"/api/v1/projects/{name}/datasets", {"name": label})["dataset_id"]


def names(service, name):
    """Of the project's datasets; every request reads the project's database."""
    answer = service.get(f"/api/v1/projects/{name}/datasets")
    assert answer.status == 200, answer.body
    return [d["name"] for d in answer.json()["data"]]


def new_worker(service):
    """One that has no connection yet."""
    before = len(service.events("worker.ready"))
    service.signal(signal.SIGHUP)
    eventually(lambda: len(service.events("worker.ready")) > before and len(service.workers()) == 1, "a new worker alone")


def may_log_in(server, database, key):
    with as_user(server, database, password_of(database, key)) as client:
        try:
            client[database].command("ping")
        except OperationFailure as e:
            assert e.code == 18
            return False
    return True


def refused(call):
    with pytest.raises(OperationFailure) as e:
        call()
    assert e.value.code == 13, e.value


def test_a_projects_user_may_nothing_elsewhere(make, server):
    service = make().start()
    service.erp("one")
    run = service.execute(service.made("/api/v1/projects/one/agent-instances", {"agent_id": "erp-exception-management", "name": "E"})
                          ["instance_id"], "one")
    assert run["status"] == "completed"
    mine, other = service.prefix + "one", project(service, "two")
    dataset(service, "two", MARK)
    for database in (mine, other):
        assert users_of(server, database) == [("kontor", [("readWrite", database)])]
    assert users_of(server, service.master) == []
    with as_user(server, mine, password_of(mine)) as client:
        assert client[mine].kt_p_executions.find_one()["_id"] == run["execution_id"]
        assert client[mine].probe.insert_one({"_id": 1}).acknowledged
        client[mine].probe.drop()
        for database in (other, service.master, "admin", "local"):
            refused(lambda database=database: client[database].list_collection_names())
            refused(lambda database=database: client[database].kt_p_datasets.find_one())
            refused(lambda database=database: client[database].kt_p_datasets.insert_one({}))
            refused(lambda database=database: client[database].command("dropDatabase"))
            refused(lambda database=database: client[mine].kt_p_executions.aggregate([{"$out": {"db": database, "coll": "x"}}]))
        try:
            assert set(client.list_database_names()) <= {mine}
        except OperationFailure as e:  # secantusd-py does not leave out, it refuses
            assert e.code == 13
        refused(client.watch)
        refused(lambda: client[mine].command("createUser", "mine", pwd="x", roles=["readWrite"]))
        refused(lambda: client.admin["system.users"].find_one())
    said = service.text() + service.get("/metrics").body.decode() + service.get("/api/v1/master/health").body.decode()
    said += "".join(p.read_text() for p in (service.tmp / "logs").glob("*"))
    for secret in (password_of(mine), password_of(other), KEY, PASSWORD):
        assert secret not in said and secret.encode() not in service.stored()


@pytest.mark.parametrize("users", ["0", "1"])
def test_a_call_that_goes_astray(make, server, users):
    """As if the service had taken the wrong database: with users the server refuses, without it gives the other project's."""
    with Proxy("127.0.0.1", server.port) as proxy:
        service = make(MONGODB_URL=through(proxy, server), KONTOR_PROJECT_USERS=users).start()
        mine, other = project(service, "one"), project(service, "two")
        dataset(service, "two", MARK)
        dataset(service, "one")
        turned = [proxy.add("change", command, times=-1, document={"$db": other}, when=lambda _, body: body.get("$db") == mine)
                  for command in ("find", "aggregate", "insert", "update", "delete", "commitTransaction")]
        read = service.get("/api/v1/projects/one/datasets")
        written = service.post("/api/v1/projects/one/datasets", {"name": "astray"})
        proxy.clear()
        assert turned[0].used > 0
        astray = "astray" in names(service, "two")
        if users == "0":
            assert (MARK in read.body.decode()) and (written.status, astray) == (201, True), "the test turns calls to another database"
        else:
            assert (read.status, written.status, astray) == (500, 500, False) and MARK not in read.body.decode() + written.body.decode()
            assert names(service, "one") == ["plain"], "and nothing is broken by it"
        service.stop()


def change_password(client, database):
    client[database].command("updateUser", "kontor", pwd="another one")


def remove(client, database):
    client[database].command("dropUser", "kontor")


def take_roles(client, database):
    client[database].command("updateUser", "kontor", roles=[])


@pytest.mark.parametrize("change", [change_password, remove, take_roles])
def test_what_an_administrator_did_is_mended(make, server, change):
    service = make().start()
    database = project(service, "one")
    dataset(service, "one")
    with as_root(server) as root:
        change(root, database)
    new_worker(service)
    assert names(service, "one") == ["plain"]
    dataset(service, "one", "second")
    assert may_log_in(server, database, KEY) and users_of(server, database) == [("kontor", [("readWrite", database)])]
    assert [e["db"] for e in service.events("mongodb.user")] == [database]


REFUSAL = {"ok": 0, "code": 13, "codeName": "Unauthorized", "errmsg": "made up"}


@pytest.mark.parametrize("op, command, kept", [("find", "find", {"x": 0, "sum": 0}), ("insert", "insert", {"x": 1, "sum": 0}),
                                               ("commit", "insert", {"x": 1, "sum": 1})])
def test_a_call_that_was_refused_is_made_again(server, tmp_path, op, command, kept):
    """MongoDB refuses, on a connection that is open, what its user may no longer do: nothing was done, so it is done again, once."""
    with Proxy("127.0.0.1", server.port) as proxy:
        fault = proxy.add("reply", command, document=REFUSAL, when=lambda _, body: "'x'" in str(body))
        finish(store_calls(through(proxy, server), f"re-{op}", [{"op": op, "id": "x"}], tmp_path / "answers", STORE_PROJECT="p",
                           KONTOR_PROJECT_USERS="1", KONTOR_MASTER_KEY=KEY))
        made = proxy.seen["updateUser"]
    [answer] = json.loads((tmp_path / "answers").read_text())
    assert answer["ok"] and (fault.used, made) == (1, 1), answer
    with as_root(server) as root:
        assert {d["_id"]: d["n"] for d in root[f"kt-re-{op}-p"].c.find()} == kept


def test_other_calls_that_were_refused(make, server):
    """Those of a project that is made, and of an export."""
    with Proxy("127.0.0.1", server.port) as proxy:
        service = make(MONGODB_URL=through(proxy, server)).start()
        fault = proxy.add("reply", "createIndexes", document=REFUSAL)
        database = project(service, "one")
        assert fault.used == 1 and [e["db"] for e in service.events("mongodb.user")] == [database]
        dataset(service, "one")
        fault = proxy.add("reply", "listCollections", document=REFUSAL, when=lambda _, body: body.get("$db") == database)
        done = subprocess.run([KONTOR, "db", "export", "one", service.tmp / "out"], env=service.env, cwd=service.tmp, capture_output=True,
                              text=True)
        assert done.returncode == 0 and fault.used == 1, done.stderr
        assert "kt_p_datasets.bson" in {p.name for p in (service.tmp / "out").rglob("*")}
        service.stop()


def test_the_right_to_make_users_is_lost(make, server):
    """What it means is said, with the name; what has its user goes on."""
    with Proxy("127.0.0.1", server.port) as proxy:
        service = make(MONGODB_URL=through(proxy, server)).start()
        project(service, "one")
        made = proxy.add("reply", "createUser", document=REFUSAL)
        answer = service.post("/api/v1/master/projects", {"project_id": "two", "project_name": "P", "customer_name": "C"})
        assert answer.status == 500 and made.used == 1
        assert f"the user kontor may not make users of {service.prefix}two" in service.text()
        assert names(service, "one") == []
        for command in ("createUser", "updateUser"):
            proxy.add("reply", command, times=-1, document=REFUSAL)
        refused = proxy.add("reply", "find", times=-1, document=REFUSAL, when=lambda _, body: body.get("$db") == service.prefix + "one")
        assert service.get("/api/v1/projects/one/datasets").status == 500 and refused.used > 0
        assert [e["msg"] for e in service.events("mongodb.user") if e["level"] == "error"]
        proxy.clear()
        assert names(service, "one") == []
        service.stop()


def test_switched_on_later(make, server):
    service = make(KONTOR_PROJECT_USERS="0").start()
    database = project(service, "one")
    dataset(service, "one")
    assert users_of(server, database) == []
    service.stop()
    service.env["KONTOR_PROJECT_USERS"] = "1"
    service.start()
    assert names(service, "one") == ["plain"] and may_log_in(server, database, KEY)


def test_another_key(make, server):
    service = make().start()
    database = project(service, "one")
    dataset(service, "one")
    service.stop()
    service.env["KONTOR_MASTER_KEY"] = OTHER_KEY
    service.start()
    assert names(service, "one") == ["plain"]
    assert may_log_in(server, database, OTHER_KEY) and not may_log_in(server, database, KEY)


def test_replicas_that_get_another_key_one_after_the_other(make, server):
    """As operations.md says it: both know both keys, so neither takes the other one's users away."""
    old = make(KONTOR_MASTER_KEY_OLD=OTHER_KEY).start()
    database = project(old, "one")
    new = make(old, KONTOR_MASTER_KEY=OTHER_KEY, KONTOR_MASTER_KEY_OLD=KEY).start()
    for service in (new, old, new):
        new_worker(service)
        dataset(service, "one", "x")
    assert not old.events("mongodb.user") and not new.events("mongodb.user") and may_log_in(server, database, KEY)
    for service in (old, new):
        service.stop()
    new.env["KONTOR_MASTER_KEY_OLD"] = ""
    new.start()
    assert names(new, "one") == ["x"] * 3
    assert may_log_in(server, database, OTHER_KEY) and not may_log_in(server, database, KEY)


def test_a_dropped_project_leaves_no_user(server, tmp_path):
    def run(**more):
        finish(store_calls(server.url_of("kontor", PASSWORD), "drop", [{"op": "insert", "id": "x"}], tmp_path / "answers",
                           STORE_PROJECT="p", KONTOR_PROJECT_USERS="1", KONTOR_MASTER_KEY=KEY, **more))
    run()
    with as_root(server) as root:
        assert users_of(server, "kt-drop-p") and "kt-drop-p" in root.list_database_names()
        root["kt-drop-p"].command("createUser", "somebody", pwd="x", roles=["read"])
        run(keep=False)
        assert not users_of(server, "kt-drop-p") and "kt-drop-p" not in root.list_database_names()


@pytest.mark.parametrize("killed", [False, True])
def test_an_erased_project_leaves_no_user(make, server, killed):
    """Also where it was killed when the database was gone and its user not yet. What was cloned from it has its own."""
    with Proxy("127.0.0.1", server.port) as proxy:
        service = make(MONGODB_URL=through(proxy, server)).start()
        database = project(service, "one")
        dataset(service, "one")
        service.job("POST", "/api/v1/projects/one/clone", {"project_id": "twin"})
        hung = proxy.add("hang", "dropAllUsersFromDatabase") if killed else None
        answer = service.post("/api/v1/projects/one/erase", {"confirm": "one"})
        assert answer.status == 202, answer.body
        if killed:
            eventually(lambda: hung.used, "it hangs")
            with as_root(server) as root:
                assert database not in root.list_database_names() and users_of(server, database)
            service.kill_supervisor()
            service.start()
        service.ended_job(answer.json()["job_id"])
        with as_root(server) as root:
            assert database not in root.list_database_names() and users_of(server, database) == []
        twin = service.prefix + "twin"
        assert names(service, "twin") == ["plain"] and users_of(server, twin) == [("kontor", [("readWrite", twin)])]
        service.stop()


def test_more_projects_than_connections(server, tmp_path):
    """The least recently used gives way, and is made again."""
    projects = [f"p-{n}" for n in range(70)]
    with Proxy("127.0.0.1", server.port) as proxy:
        calls = [{"op": "visit", "id": name} for name in [*projects, *projects[:3], *projects[-3:]]]
        finish(store_calls(through(proxy, server), "many", calls, tmp_path / "answers", KONTOR_PROJECT_USERS="1", KONTOR_MASTER_KEY=KEY))
        assert 64 < proxy.most_open <= 64 + 12 + 2  # beside them the pool's and its monitor's
        assert proxy.seen["createUser"] == len(projects) + 1, "one at the start, which makes nothing"
    answers = json.loads((tmp_path / "answers").read_text())
    assert all(a["ok"] for a in answers), answers
    with as_root(server) as root:
        for name in projects:
            assert list(root[f"kt-many-{name}"].c.find()) == [{"_id": name, "n": 2 if name in (*projects[:3], *projects[-3:]) else 1}]


@pytest.mark.parametrize("env, told", [
    ({"user": "plain"}, ["the user plain may not make users", "userAdminAnyDatabase"]),
    ({"KONTOR_MASTER_KEY": ""}, ["KONTOR_MASTER_KEY", "is not"]),
])
def test_refused_at_the_start(make, server, env, told):
    env = dict(env)
    if user := env.pop("user", None):
        env["MONGODB_URL"] = server.url_of(user, PASSWORD)
    refused_start(make(**env), *told)


def refused_start(service, *told):
    service.launch()
    assert service.process.wait(60) == 1
    for words in (*told, "KONTOR_PROJECT_USERS"):
        assert words in service.text(), service.text()[-2000:]
    assert PASSWORD not in service.text() and KEY not in service.text()
    service.process = None


def test_a_server_that_keeps_nobody_out(tmp_path):
    with Server() as open_one:
        service = Service(tmp_path / "s", MONGODB_URL=open_one.url, KONTOR_PROJECT_USERS="1", KONTOR_MASTER_KEY=KEY)
        refused_start(service, open_one.address, "access control")
