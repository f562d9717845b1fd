"""Documents that are asked for by _id while the server is busy: those that have waited go out as one find, and each request
gets its own document, or its own error."""
import threading

import pytest
from mongo_proxy import Proxy
from mongo_server import Server

from conftest import serving

BASE = "/api/v1/projects/acme/agent-instances"
INSTANCES, ASKED = 20, 60


@pytest.fixture(scope="module")
def behind(tmp_path_factory):
    """(service, proxy before its server, ids of instances)"""
    with Server() as server, Proxy("127.0.0.1", server.port) as proxy:
        with serving(tmp_path_factory.mktemp("service"), MONGODB_URL=proxy.url, KONTOR_MASTER_KEY="7" * 64,
                     KONTOR_WORKERS=1) as service:
            service.erp()
            ids = [service.made(BASE, {"agent_id": "erp-exception-management", "name": f"n{i}"})["instance_id"] for i in range(INSTANCES)]
            yield service, proxy, ids


def is_lookup(name, command):
    return name == "find" and command[name] == "kt_p_agent_instances"


def together(service, ids):
    """(id, its answer) of ASKED requests; every third is for what is not there."""
    found = [None] * ASKED

    def ask(i):
        key = f"inst_{i:032x}" if i % 3 == 2 else ids[i % len(ids)]
        found[i] = key, service.get(f"{BASE}/{key}")

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(ASKED)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_what_waits_is_asked_for_at_once(behind):
    service, proxy, ids = behind
    proxy.clear()
    proxy.add("delay", "find", seconds=3, when=is_lookup)
    for i, (key, answer) in enumerate(together(service, ids)):
        assert answer.status == (404 if i % 3 == 2 else 200), (key, answer.body)
        assert i % 3 == 2 or (answer.json()["instance_id"] == key and answer.json()["name"] == f"n{ids.index(key)}")
    sent = [c for c in proxy.commands if is_lookup(next(iter(c)), c)]
    assert len(sent) < ASKED / 2, len(sent)
    many = [c["filter"]["_id"]["$in"] for c in sent if "$in" in c["filter"]["_id"]]
    assert many and all(len(set(keys)) == len(keys) for keys in many), "an id stands once in a command"


def test_a_refused_one_fails_all_that_were_in_it(behind):
    service, proxy, ids = behind
    proxy.clear()
    proxy.add("delay", "find", seconds=3, when=is_lookup)
    refused = proxy.add("reply", "find", document={"ok": 0, "code": 50, "codeName": "MaxTimeMSExpired", "errmsg": "made up"},
                        when=lambda name, c: is_lookup(name, c) and "$in" in c["filter"]["_id"])
    found = together(service, ids)
    assert refused.used == 1
    statuses = [answer.status for _, answer in found]
    assert any(status >= 500 for status in statuses) and set(statuses) <= {200, 404, 503, 504}, statuses
    assert all(answer.json()["instance_id"] == key for key, answer in found if answer.status == 200)
    assert all(answer.status in (200, 404) for _, answer in together(service, ids)), "and the next ones are answered"
