"""Damaged databases: said by name, and the others serve on."""
import re
import sqlite3

import pytest
from conftest import eventually


def damage(path):
    with open(path, "r+b") as f:
        f.seek(8192)
        f.write(b"x" * 64000)


def cut(path):
    with open(path, "r+b") as f:
        f.truncate(8192)


def empty(path):
    with open(path, "r+b") as f:
        f.truncate(0)


def another(path):
    path.unlink()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE notes(text)")


@pytest.mark.parametrize("harm", [damage, cut, empty, another])
def test_a_damaged_master_is_named_at_the_start(make_service, harm):
    service = make_service().start()
    service.stop()
    harm(service.data / "ktern-masterdb.db")
    again = make_service(KONTOR_DATA_DIR=service.data).launch()
    assert again.process.wait(30) == 1
    [failed] = again.events("worker.failed")
    assert failed["code"] == "store_corrupt" and "ktern-masterdb is damaged" in failed["msg"]
    assert "traceback" not in again.text() and "kontor db check" in again.text()
    again.process = None


def test_a_damaged_project_leaves_the_others_serving(make_service):
    service = make_service().start()
    instances = {}
    for name in ("good", "bad"):
        instances[name] = service.erp(name)
        assert service.execute(instances[name], name)["status"] == "completed"
    service.stop()
    damage(service.data / "ktern-project-bad.db")

    service.start()
    answer = service.post("/api/v1/projects/bad/executions", {"instance_id": instances["bad"], "async_execution": False})
    assert (answer.status, answer.json()["code"]) == (500, "store_corrupt"), answer.body
    assert not re.search(f"malformed|sqlite|{re.escape(str(service.tmp))}", answer.body.decode(), re.I), "the inner workings stay inside"
    assert service.get("/api/v1/projects/bad/executions").json()["code"] == "store_corrupt"
    assert service.execute(instances["good"], "good")["status"] == "completed"
    eventually(lambda: service.events("store.quarantine"), "it is logged")
    assert service.get("/api/v1/master/projects").status == 200
    assert len(service.events("worker.started")) == 2, "no worker fell over it"
