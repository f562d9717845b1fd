"""What is sent to the server, and that MongoDB takes it: secantusd-py is more lenient than its manual."""
import subprocess

import pytest
from mongo_guarded import KEY, guarded, through
from mongo_proxy import Proxy

from conftest import KONTOR

# Commands with which MongoDB takes the read concern majority; with all others it is an error (72).
READS = {"find", "aggregate", "count", "distinct", "explain"}


@pytest.fixture(scope="module", params=["0", "1"], ids=["one user", "a user for each project"])
def sent(request, tmp_path_factory):
    """Every command of a service's start, a run, and kontor db check and export."""
    from conftest import serving
    with guarded() as server, Proxy("127.0.0.1", server.port) as proxy:
        with serving(tmp_path_factory.mktemp("service"), MONGODB_URL=through(proxy, server), KONTOR_PROJECT_USERS=request.param,
                     KONTOR_MASTER_KEY=KEY) as service:
            assert service.execute(service.erp())["status"] == "completed"
            for args in (("check",), ("export", "acme", str(service.tmp / "out"))):
                done = subprocess.run([KONTOR, "db", *args], cwd=service.tmp, env=service.env, capture_output=True, text=True, timeout=60)
                assert done.returncode == 0, done.stdout + done.stderr
        return list(proxy.commands)


def test_only_reads_have_a_read_concern(sent):
    wrong, levels = [], set()
    for command in sent:
        name, level = next(iter(command)), command.get("readConcern", {}).get("level")
        levels.add((name, level))
        # The first statement of a transaction says the concern of all of it.
        if level not in (None, "local") and name not in READS and not command.get("startTransaction"):
            wrong.append((name, level))
    assert not wrong, set(wrong)
    assert ("find", "majority") in levels and {name for name, _ in levels} >= {"listCollections", "listIndexes", "listDatabases", "validate"}, levels


def test_writes_wait_for_the_majority(sent):
    """A write or a commit says so itself; a statement of a transaction must not."""
    for command in sent:
        name, concern = next(iter(command)), command.get("writeConcern")
        if command.get("autocommit") is False and name not in ("commitTransaction", "abortTransaction"):
            assert concern is None, command
        elif name in ("insert", "update", "delete", "findAndModify", "commitTransaction", "create", "createIndexes", "createUser") and (
                name != "createUser" or "pwd" in command):  # without one it is a question
            assert concern and concern["w"] == "majority", command
