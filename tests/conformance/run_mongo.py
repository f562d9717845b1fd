"""The store's conformance cases on a MongoDB-wire server: MongoDB's meaning is the yardstick.

Without arguments: starts secantusd-py (or uses KONTOR_TEST_MONGODB_URL), runs the cases of
store_*.json there, then makes random cases, records the server's answers as expectations, and lets
`kontor test` answer them on the embedded engine, with and without indexes.

A case: {name, docs, indexes?, arrays?, steps: [{op, …, expect | ids | order | set | error, number?,
key?}]}. A filter is a list of [path, operator, value] and at most one ["or", filter, …]. "ours": a
refusal of our own that MongoDB does not share. Values that JSON lacks: {"$date": ms}, {"$int64":
"…"}, {"$bin": "hex"}, {"$repeat": [text, times, tail]}.
"""
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pymongo
from bson import Binary, Int64
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS
from pymongo.errors import DuplicateKeyError, OperationFailure, PyMongoError

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
RANDOM_CASES = 120
# Our code for each of MongoDB's that the store gives.
CODES = {2: "invalid_argument", 9: "invalid_argument", 14: "invalid_argument", 28: "invalid_argument",
         40: "invalid_argument", 52: "invalid_argument", 66: "invalid_argument", 53: "invalid_argument",
         85: "conflict", 86: "conflict", 11000: "already_exists"}


class Refused(Exception):
    """A filter or update that has no meaning: refused before it reaches a server."""


class Server:
    """secantusd-py on a free port, in a folder of its own."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="kontor-mongo-")
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        program = Path(sys.executable).parent / "secantusd-py"
        self.log = open(Path(self.dir) / "log", "wb")
        self.child = subprocess.Popen(
            [program, "--host", "127.0.0.1", "--port", str(self.port), "--storage-path", f"{self.dir}/db",
             "--cache-size", "64M", "--log-level", "WARNING"],
            cwd=self.dir, stdout=self.log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        self.url = f"mongodb://127.0.0.1:{self.port}/?directConnection=true"
        give_up = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if self.child.poll() is not None or time.monotonic() > give_up:
                    self.stop()
                    sys.exit("run_mongo.py: secantusd-py did not start")
                time.sleep(0.05)

    def stop(self):
        self.child.terminate()
        try:
            self.child.wait(20)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)


def decode(v):
    if isinstance(v, list):
        return [decode(i) for i in v]
    if isinstance(v, bool) or v is None or isinstance(v, (str, float)):
        return v
    if isinstance(v, int):
        return Int64(v)
    if "$date" in v:
        return DatetimeMS(v["$date"])
    if "$int64" in v:
        return Int64(v["$int64"])
    if "$bin" in v:
        return Binary(bytes.fromhex(v["$bin"]))
    if "$repeat" in v:
        return v["$repeat"][0] * v["$repeat"][1] + v["$repeat"][2]
    return {k: decode(v[k]) for k in sorted(v)}  # our encoding sorts keys


def encode(v):
    """A server's value as a case writes it."""
    if isinstance(v, list):
        return [encode(i) for i in v]
    if isinstance(v, dict):
        return {k: encode(i) for k, i in v.items()}
    if isinstance(v, DatetimeMS):
        return {"$date": int(v)}
    if isinstance(v, bytes):
        return {"$bin": v.hex()}
    if isinstance(v, int) and not isinstance(v, bool) and abs(v) > 2**53:
        return {"$int64": str(v)}
    if isinstance(v, float) and v.is_integer() and abs(v) <= 2**53:
        return int(v)
    return int(v) if isinstance(v, Int64) else v


def plain(v):
    """Comparable: numbers by value, bytes and dates as text."""
    return json.dumps(encode(v), sort_keys=True)


def condition(path, op, value):
    if not re.fullmatch(r"[^.$][^.]*(\.[^.$][^.]*)*", path):
        raise Refused(path)
    value = decode(value)
    if op in ("gt", "gte", "lt", "lte") and value is None:
        raise Refused("range")
    if op == "exists" and (not isinstance(value, bool) or "." in path):
        raise Refused("exists")
    if op == "prefix":
        if not isinstance(value, str):
            raise Refused("prefix")
        return {path: {"$gte": value, "$lt": value[:-1] + chr(ord(value[-1]) + 1)} if value else {"$gte": ""}}
    if op not in ("eq", "ne", "in", "nin", "gt", "gte", "lt", "lte", "exists"):
        raise Refused(op)
    return {path: {"$" + op: value}}


def compile_filter(conds):
    parts = []
    for c in conds or []:
        if c[0] == "or":
            parts.append({"$or": [compile_filter(b) for b in c[1:]]})
        else:
            parts.append(condition(*c))
    return {"$and": parts} if parts else {}


def seed_filter(conds):
    """An upsert's filter: equalities alone, so that the server seeds the document from them."""
    if any(c[1] != "eq" for c in conds):
        raise Refused("upsert")
    return {c[0]: decode(c[2]) for c in conds}


NAMES = {"set": "$set", "unset": "$unset", "inc": "$inc", "min": "$min", "max": "$max", "push": "$push",
         "set_on_insert": "$setOnInsert", "add_to_set": "$addToSet", "pull": "$pull"}


def compile_update(u):
    out = {}
    for op, changes in u.items():
        if op == "unset":
            out["$unset"] = {p: "" for p in changes}
        elif op in ("push", "add_to_set"):
            out[NAMES[op]] = {
                p: {"$each": decode(v["each"] if isinstance(v, dict) and "each" in v else [v])}
                for p, v in changes.items()}
        else:
            out[NAMES[op]] = {p: decode(v) for p, v in changes.items()}
    return out


def full_sort(sort):
    sort = [(p, d) for p, d in sort or []]
    if sort and all(p != "_id" for p, _ in sort):
        sort.append(("_id", sort[-1][1]))
    return sort


def project(names):
    return None if names is None else {n: 1 for n in names} | {"_id": 1}


def check_docs(docs):
    for d in docs:
        if any(k.startswith("$") or "." in k for k in d):
            raise Refused("name")
        if "_id" in d and d["_id"] is None:
            raise Refused("_id")


class Runner:
    def __init__(self, db):
        self.db = db

    def run(self, coll, s):
        return getattr(self, "op_" + s["op"])(self.db[coll], s)

    def op_find(self, c, s):
        rows = c.find(compile_filter(s.get("filter")), project(s.get("projection")),
                      sort=full_sort(s.get("sort")) or None, limit=s.get("limit", 0))
        rows = list(rows)
        if "expect" in s:
            return rows
        out = [r["_id"] for r in rows]
        return sorted(out, key=str) if "ids" in s else out

    def op_pages(self, c, s):
        """Keyset paging as the MongoDB engine will compile it: (k, id) behind the last one."""
        sort, out, after = full_sort(s["sort"]), [], None
        while True:
            parts = [compile_filter(s.get("filter"))]
            if after is not None:
                branches = []
                for i, (p, d) in enumerate(sort):
                    head = [{q: {"$eq": after[j]}} for j, (q, _) in enumerate(sort[:i])]
                    branches.append({"$and": head + [self.beyond(p, d, after[i])]})
                parts.append({"$or": branches})
            rows = list(c.find({"$and": parts}, sort=sort, limit=s["limit"]))
            out += [r["_id"] for r in rows]
            if len(rows) < s["limit"]:
                return out
            after = [rows[-1].get(p) for p, _ in sort]

    @staticmethod
    def beyond(path, direction, value):
        """Ranges keep to the value's class, so null (the lowest class in use) is said apart."""
        if direction > 0:
            return {path: {"$ne": None}} if value is None else {path: {"$gt": value}}
        if value is None:
            return {"_id": {"$in": []}}
        return {"$or": [{path: {"$lt": value}}, {path: {"$eq": None}}]}

    def op_find_one(self, c, s):
        return c.find_one(compile_filter(s.get("filter")), project(s.get("projection")))

    def op_count(self, c, s):
        return c.count_documents(compile_filter(s.get("filter")), **({"limit": s["max"]} if "max" in s else {}))

    def op_distinct(self, c, s):
        order = {type(None): 0, int: 1, Int64: 1, float: 1, str: 2, bool: 3}
        return sorted(c.distinct(s["field"], compile_filter(s.get("filter"))), key=lambda v: (order.get(type(v), 9), v or 0))

    def op_group(self, c, s):
        ids = {a: "$" + p for a, p in s["keys"].items()} or None
        stage = {"_id": ids}
        for alias, spec in s["values"].items():
            stage[alias] = {"$sum": 1} if spec[0] == "count" else {"$" + spec[0]: "$" + spec[1]}
        pipeline = [{"$match": compile_filter(s.get("filter"))}, {"$group": stage}]
        if s.get("sort"):
            pipeline.append({"$sort": {("_id." + a if a in s["keys"] else a): d for a, d in s["sort"]}})
        if s.get("limit"):
            pipeline.append({"$limit": s["limit"]})
        rows = [{**(r["_id"] or {}), **{k: v for k, v in r.items() if k != "_id"}} for r in c.aggregate(pipeline)]
        return sorted(rows, key=plain) if "set" in s else rows

    def op_insert(self, c, s):
        check_docs(s["docs"])
        return len(c.insert_many(decode(s["docs"])).inserted_ids)

    def counts(self, r):
        out = {"matched": r.matched_count, "modified": r.modified_count}
        if r.upserted_id is not None:
            out["upserted_id"] = r.upserted_id
        return out

    def picked(self, s):
        return seed_filter(s["filter"]) if s.get("upsert") else compile_filter(s.get("filter"))

    def op_update_one(self, c, s):
        return self.counts(c.update_one(self.picked(s), compile_update(s["update"]), upsert=s.get("upsert", False)))

    def op_update_many(self, c, s):
        return self.counts(c.update_many(self.picked(s), compile_update(s["update"])))

    def op_replace_one(self, c, s):
        check_docs([s["doc"]])
        return self.counts(c.replace_one(self.picked(s), decode(s["doc"]), upsert=s.get("upsert", False)))

    def op_find_and_modify(self, c, s):
        common = {"projection": project(s.get("projection")), "sort": full_sort(s.get("sort")) or None}
        if s.get("remove"):
            return c.find_one_and_delete(self.picked(s), **common)
        return c.find_one_and_update(
            self.picked(s), compile_update(s["update"]), upsert=s.get("upsert", False), **common,
            return_document=pymongo.ReturnDocument.AFTER if s.get("new") else pymongo.ReturnDocument.BEFORE)

    def op_delete_one(self, c, s):
        return c.delete_one(compile_filter(s["filter"])).deleted_count

    def op_delete_many(self, c, s):
        return c.delete_many(compile_filter(s["filter"])).deleted_count

    def op_ensure_index(self, c, s):
        i = s["index"]
        c.create_index([(p, d) for p, d in i["keys"]], name=i["name"], **({"unique": True} if i.get("unique") else {}))
        return True

    def step(self, coll, s):
        """None, or what is wrong."""
        try:
            got, code, number, key = self.run(coll, s), None, None, None
        except Refused as e:
            got, code, number, key = e, "invalid_argument", None, None
        except PyMongoError as e:
            details = e.details if isinstance(e, OperationFailure) else {}
            errors = details.get("writeErrors") or [{}]
            number = errors[0].get("code", getattr(e, "code", None))
            code = CODES.get(number, "already_exists" if isinstance(e, DuplicateKeyError) else str(e))
            text = errors[0].get("errmsg", str(e))
            found = re.search(r"index: (\S+) dup key", text)
            key = found and found.group(1).rstrip("_")
            got = e
        if "error" in s:
            if s.get("ours"):
                return None
            if code != s["error"]:
                return f"want {s['error']}, got {code or got}"
            if number is not None and s.get("number") is not None and number != s["number"]:
                return f"want {s['number']}, got {number}"
            if s.get("key") and key and key.removesuffix("_") != s["key"] and key != s["key"]:
                return f"want index {s['key']}, got {key}"
            return None
        if code:
            return f"{code}: {got}"
        want = decode(s.get("set", s.get("order", s.get("ids", s.get("expect")))))
        if "set" in s:
            want = sorted(want, key=plain)
        if plain(want) != plain(got):
            return f"want {plain(want)}, got {plain(got)}"
        return None


def prepare(db, coll, case):
    db[coll].drop()
    for i in case.get("indexes", []):
        db[coll].create_index([(p, d) for p, d in i["keys"]], name=i["name"], **({"unique": True} if i.get("unique") else {}))
    if case["docs"]:
        db[coll].insert_many(decode(case["docs"]))


def fixed(db):
    passed, failed = 0, 0
    runner = Runner(db)
    for path in sorted(HERE.glob("store_*.json")):
        for case in json.loads(path.read_text())["cases"]:
            prepare(db, "c", case)
            for i, s in enumerate(case["steps"]):
                problem = runner.step("c", s)
                passed, failed = passed + (not problem), failed + bool(problem)
                if problem:
                    print(f"FAILED {path.name} / {case['name']} / step {i + 1} {s['op']}: {problem}")
    return passed, failed


# ---- random cases ----

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


def random_part(db, kontor):
    seed = random.randrange(10**6) if os.environ.get("STORM") else int(os.environ.get("SEED", "7"))
    rnd = random.Random(seed)
    runner, cases = Runner(db), []
    for n in range(RANDOM_CASES):
        case = random_case(rnd, n)
        prepare(db, "c", case)
        record(runner, case)
        cases.append(case)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
        json.dump({"cases": cases}, f)
        f.flush()
        done = subprocess.run([kontor, "test", ROOT / "spec/store/conformance_spec.lua"], cwd=ROOT, stdin=subprocess.DEVNULL,
                              env=dict(os.environ, STORE_CASES=f.name), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        found = re.findall(r"^(\d+) passed, (\d+) failed", done.stdout, re.M)
        if not found or found[-1][1] != "0":
            print(done.stdout[-6000:])
            print(f"random cases: SEED={seed}")
            if os.environ.get("KEEP"):
                shutil.copy(f.name, os.environ["KEEP"])
    return (int(found[-1][0]), int(found[-1][1])) if found else (0, 1)


def main():
    kontor = os.environ.get("KONTOR", str(ROOT / "build/kontor"))
    url = os.environ.get("KONTOR_TEST_MONGODB_URL")
    server = None if url else Server()
    try:
        client = pymongo.MongoClient(url or server.url, serverSelectionTimeoutMS=20000)
        options = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS)
        db = client.get_database("kontor-conformance", codec_options=options)
        passed, failed = fixed(db)
        more, less = random_part(db, kontor)
        client.drop_database("kontor-conformance")
        client.close()
    finally:
        if server:
            server.stop()
    print(f"{passed + more} passed, {failed + less} failed")
    return 1 if failed + less else 0


if __name__ == "__main__":
    sys.exit(main())
