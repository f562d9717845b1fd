"""Between the store and MongoDB messages are lost, late, cut or errors: "false from the driver" is never taken for
"not written", nothing is made twice or lost, and a command is sent again as often as it may be."""
import json

import pytest
from mongo_guarded import KEY, as_root, guarded, through
from mongo_proxy import Proxy

from store_calls import finish, store_calls

LABEL = {"errorLabels": ["RetryableWriteError"]}
TRANSIENT = {"errorLabels": ["TransientTransactionError"]}
UNKNOWN = {"errorLabels": ["UnknownTransactionCommitResult", "RetryableWriteError"]}


def error(code, name, **more):
    return {"ok": 0, "code": code, "codeName": name, "errmsg": f"made up: {name}", **more}


NOT_PRIMARY, SHUTDOWN = error(10107, "NotWritablePrimary", **LABEL), error(91, "ShutdownInProgress", **LABEL)
EXPIRED, CONFLICT = error(50, "MaxTimeMSExpired"), error(112, "WriteConflict", **TRANSIENT)
CONCERN = {"ok": 1, "n": 1, "nModified": 1, "writeConcernError": {"code": 64, "codeName": "WriteConcernFailed", "errmsg": "made up"}}
DUPLICATE = {"ok": 1, "n": 0, "writeErrors": [{"index": 0, "code": 11000, "keyPattern": {"_id": 1}, "keyValue": {"_id": "x"},
                                               "errmsg": "E11000 duplicate key error collection: c index: _id_ dup key: { _id: 1 }"}]}
LOST = ("outcome_unknown", "store_unavailable")

# (call, command with the fault, fault, times, its answer, codes that may come or "" for success, is it made then: True, False
#  or None for either, times that the command is sent)
CASES = [
    *[(call, command, kind, 1, None, [""], True, 2) for call, command in (("insert", "insert"), ("increment", "update"))
      for kind in ("drop_before", "drop_after", "cut")],
    *[(call, command, "reply", 1, reply, [""], True, 2) for call, command in (("insert", "insert"), ("increment", "update"))
      for reply in (NOT_PRIMARY, SHUTDOWN)],
    *[(call, command, "drop_after", 2, None, ["outcome_unknown"], True, 2) for call, command in (("insert", "insert"), ("increment", "update"))],
    *[(call, command, "drop_before", 2, None, LOST, False, 2) for call, command in (("insert", "insert"), ("increment", "update"))],
    *[(call, command, "replace", 1, CONCERN, ["outcome_unknown"], True, 1) for call, command in (("insert", "insert"), ("increment", "update"))],
    ("insert", "insert", "reply", 1, DUPLICATE, ["already_exists"], False, 1),
    ("increment", "update", "reply", 1, EXPIRED, ["deadline_exceeded"], False, 1),
    ("increment", "update", "reply", 2, NOT_PRIMARY, ["store_unavailable"], False, 2),
    ("increment", "update", "reply", 2, SHUTDOWN, LOST, False, 2),
    ("increment", "update", "delay", 1, None, [""], True, 1),
    *[("find", "find", kind, 1, None, [""], None, 2) for kind in ("drop_before", "drop_after", "cut")],
    ("find", "find", "reply", 1, NOT_PRIMARY, [""], None, 2),
    ("find", "find", "reply", 1, EXPIRED, ["deadline_exceeded"], None, 1),
    ("find", "find", "drop_after", 2, None, ["store_unavailable"], None, 2),
    ("find", "find", "delay", 1, None, [""], None, 1),
    *[("commit", "insert", kind, 1, None, [""], True, 2) for kind in ("drop_before", "drop_after", "cut")],
    ("commit", "insert", "reply", 1, CONFLICT, [""], True, 2),
    ("commit", "insert", "reply", 9, CONFLICT, [""], True, 10),  # somebody else goes on each time, in the end it does
    ("commit", "commitTransaction", "reply", 9, CONFLICT, [""], True, 10),
    ("commit", "insert", "reply", -1, CONFLICT, ["store_unavailable"], False, None),
    ("commit", "insert", "reply", 9, error(251, "NoSuchTransaction", **TRANSIENT), LOST, False, 4),
    *[("commit", "commitTransaction", kind, 1, None, [""], True, 2) for kind in ("drop_before", "drop_after", "cut")],
    ("commit", "commitTransaction", "drop_after", 3, None, [""], True, None),
    ("commit", "commitTransaction", "reply", 1, error(91, "ShutdownInProgress", **UNKNOWN), [""], True, 2),
    ("commit", "commitTransaction", "reply", 1, CONFLICT, [""], True, 2),
    ("commit", "commitTransaction", "replace", 1, {**CONCERN, **UNKNOWN}, ["", "outcome_unknown"], True, None),
]


class Transaction:
    """Says which commands are of the transactions that write a document."""

    def __init__(self, ident):
        self.ident, self.numbers, self.commits = ident, set(), 0

    def __call__(self, name, body):
        number = (str(body.get("lsid")), body.get("txnNumber"))
        if name == "insert" and mentions(body, self.ident):
            self.numbers.add(number)
        if name == "commitTransaction" and number in self.numbers:
            self.commits += 1
            return True
        return False


def mentions(body, ident):
    """The command is about the document, and no preparation of it."""
    texts = [*body.get("documents", []), *(u.get("q") for u in body.get("updates", [])), body.get("filter")]
    return any(f"'{ident}'" in str(t) for t in texts) and not any(d.get("n") == 0 for d in body.get("documents", []))


@pytest.fixture(scope="module")
def server():
    with guarded() as made:
        yield made


@pytest.fixture(scope="module", params=["as the URL's user", "as the project's"])
def outcomes(request, server, tmp_path_factory):
    """All cases in one process of the store: per case what it gave, the document after it, the times it was sent."""
    users = request.param == "as the project's"
    answers = tmp_path_factory.mktemp("calls") / "answers"
    with Proxy("127.0.0.1", server.port) as proxy:
        watches = []
        for i, (call, command, kind, times, document, *_) in enumerate(CASES):
            ident = f"case-{i}"
            when = Transaction(ident) if command == "commitTransaction" else lambda _, body, ident=ident: mentions(body, ident)
            watches.append(when)
            proxy.add(kind, command, times, seconds=1, document=document, when=when)
        calls = [{"op": case[0], "id": f"case-{i}"} for i, case in enumerate(CASES)]
        finish(store_calls(through(proxy, server), f"faults-{int(users)}", calls, answers, STORE_PROJECT="p", KONTOR_MASTER_KEY=KEY,
                           KONTOR_PROJECT_USERS=str(int(users))))
        commands = list(proxy.commands)
    with as_root(server) as client:
        documents = {d["_id"]: d["n"] for d in client[f"kt-faults-{int(users)}-p"].c.find()}
    found = []
    for i, (answer, case) in enumerate(zip(json.loads(answers.read_text()), CASES)):
        watch = watches[i]
        sent = watch.commits if isinstance(watch, Transaction) else sum(
            next(iter(c)) == case[1] and mentions(c, f"case-{i}") for c in commands)
        found.append((answer, documents.get(f"case-{i}"), sent))
    return found, documents


@pytest.mark.parametrize("number", range(len(CASES)), ids=[f"{c[0]}-{c[1]}-{c[2]}-{c[3]}-{n}" for n, c in enumerate(CASES)])
def test_a_fault(outcomes, number):
    call, _, _, _, _, codes, made, times = CASES[number]
    answer, n, sent = outcomes[0][number]
    assert answer["code"] in codes and answer["ok"] == (answer["code"] == ""), answer
    if made is not None:
        want = {"insert": (None, 1), "increment": (0, 1), "commit": (None, 1)}[call][made]
        assert n == want, (answer, n)
    if times is not None:
        assert sent == times


def test_commits_are_made_once_or_not_at_all(outcomes):
    made = sum(n is not None for (_, n, _), case in zip(outcomes[0], CASES) if case[0] == "commit")
    assert outcomes[1]["sum"] == made
