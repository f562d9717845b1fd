"""Cases by chance: filters, sorts, pages, updates and groups over documents of all classes; a server's answers are
what is expected of the others."""
from pymongo.errors import OperationFailure

from meaning import CODES, encode

VALUES = [None, True, False, 0, 1, 2, -3, 2.5, -0.5, 10, "", "a", "b", "ab", "é", {"$date": 0}, {"$date": 5}, {"$date": -7},
          {"x": 1}, {"x": 2, "y": "a"}, {"$int64": "9007199254740993"}, {"$int64": "-9007199254740993"}, {"$bin": "01ff"}]
PATHS = ["p", "q", "s.x", "s.y", "_id"]


def some(rnd, scalar=False):
    while True:
        v = rnd.choice(VALUES)
        if not scalar or not isinstance(v, dict) or any(k.startswith("$") for k in v):
            return v


def random_cond(rnd):
    path = rnd.choice(PATHS)
    op = rnd.choice(["eq", "eq", "ne", "in", "nin", "gt", "gte", "lt", "lte", "prefix", "exists"])
    if op == "exists":
        return [path.split(".")[0], op, rnd.random() < 0.5]
    if op == "prefix":
        return [path, op, rnd.choice(["", "a", "ab", "d"])]
    if op in ("in", "nin"):
        return [path, op, [some(rnd) for _ in range(rnd.randrange(4))]]
    while True:
        v = some(rnd) if path != "_id" else "d%d" % rnd.randrange(25)
        if not (op in ("gt", "gte", "lt", "lte") and v is None):
            return [path, op, v]


def random_filter(rnd):
    conds = [random_cond(rnd) for _ in range(rnd.randrange(3))]
    if rnd.random() < 0.3:
        conds.append(["or"] + [[random_cond(rnd) for _ in range(rnd.randrange(1, 3))] for _ in range(2)])
    return conds


def random_update(rnd):
    u, used = {}, set()
    for op in rnd.sample(["set", "unset", "inc", "min", "max"], rnd.randrange(1, 3)):
        # n stays a number: paging goes over it, and a range keeps to one class
        path = rnd.choice(["p", "q", "n", "s.x", "t.u.v"] if op in ("inc", "unset") else ["p", "q", "s.x", "t.u.v"])
        if any(path.split(".")[0] == o.split(".")[0] for o in used):
            continue
        used.add(path)
        u[op] = [path] if op == "unset" else {path: rnd.choice([1, -2, 0.5]) if op == "inc" else some(rnd)}
    return u


def random_case(rnd, n):
    docs = []
    for i in range(rnd.randrange(5, 25)):
        d = {"_id": "d%d" % i, "n": rnd.randrange(5)}
        for p in ("p", "q"):
            if rnd.random() < 0.8:
                d[p] = some(rnd)
        if rnd.random() < 0.6:
            d["s"] = {k: some(rnd, True) for k in ("x", "y") if rnd.random() < 0.7}
        docs.append(d)
    steps = []
    for _ in range(12):
        kind = rnd.choice(["ids", "ids", "order", "pages", "count", "update_one", "update_many", "find_and_modify", "group", "delete_one"])
        s = {"op": kind, "filter": random_filter(rnd)}
        if kind in ("order", "pages"):
            s["sort"] = [[p, rnd.choice([1, -1])] for p in rnd.sample(["p", "q", "n", "s.x"], rnd.randrange(1, 3))]
            s["limit"] = rnd.randrange(1, 7)
        if kind in ("ids", "order"):
            s["op"] = "find"
        if kind == "pages":
            s["op"], s["sort"] = "pages", [["n", rnd.choice([1, -1])]]
        if kind == "update_many":
            s["update"] = random_update(rnd)
        if kind in ("update_one", "delete_one"):
            s["filter"] = [["_id", "eq", "d%d" % rnd.randrange(25)]]
            if kind == "update_one":
                s["update"] = random_update(rnd)
        if kind == "find_and_modify":
            s["sort"], s["new"], s["update"] = [["p", rnd.choice([1, -1])]], rnd.random() < 0.5, random_update(rnd)
        if kind == "group":
            s["keys"], s["values"] = {"k": rnd.choice(["p", "n", "s.x"])}, {"n": ["count"], "sum": ["sum", "n"], "top": ["max", "n"]}
        s[{"order": "order", "pages": "order", "group": "set"}.get(kind, "ids" if kind == "ids" else "expect")] = None
        steps.append(s)
    return {"name": f"random {n}", "docs": docs, "steps": steps}


def record(runner, case):
    """Ask the server; what it answers is what is expected. Steps that it refuses with an error of
    another kind than ours are left out."""
    kept = []
    for s in case["steps"]:
        if s["op"].startswith("update") and not s["update"]:
            continue
        for slot in ("expect", "ids", "order", "set"):
            if slot in s:
                break
        try:
            s[slot] = encode(runner.run("c", s))
        except OperationFailure as e:
            if CODES.get(e.code) != "invalid_argument":
                raise
            if s["op"] == "update_many":
                break  # it stopped somewhere in the middle, as we do, but not at the same document
            del s[slot]
            s["error"], s["number"] = "invalid_argument", e.code
        kept.append(s)
    case["steps"] = kept
