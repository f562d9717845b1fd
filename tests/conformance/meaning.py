"""What a conformance case means, said with pymongo: MongoDB's meaning is the yardstick.

A case: {name, docs, indexes?, arrays?, note?, steps: [{op, …, expect | ids | order | set | error, number?,
key?, at?}]}. A filter is a list of [path, operator, value] and at most one ["or", filter, …]. "ours":
a refusal of our own that MongoDB does not share; "note" says where a server differs from MongoDB's
manual. Values that JSON lacks: {"$date": ms}, {"$int64": "…"}, {"$bin": "hex"}, {"$repeat": [text,
times, tail]}, {"$list": [value, times]}, {"$nested": levels}.
"""
import json
import re
import threading

import pymongo
from bson import Binary, Int64
from bson.datetime_ms import DatetimeMS
from pymongo.errors import DuplicateKeyError, OperationFailure, PyMongoError

# Our code for each of MongoDB's that the store gives.
CODES = {2: "invalid_argument", 9: "invalid_argument", 14: "invalid_argument", 28: "invalid_argument",
         40: "invalid_argument", 52: "invalid_argument", 66: "invalid_argument", 53: "invalid_argument",
         10334: "body_too_large", 17280: "body_too_large", 17419: "body_too_large", 85: "conflict", 86: "conflict", 11000: "already_exists"}


class NothingMatched(Exception):
    """A write of a commit that must match and did not."""


class Refused(Exception):
    """A filter or update that has no meaning: refused before it reaches a server."""


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
    if "$list" in v:
        return [decode(v["$list"][0])] * v["$list"][1]
    if "$nested" in v:
        inner = {}
        for _ in range(v["$nested"] - 1):
            inner = {"d": inner}
        return inner
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
    return json.dumps(encode(v), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


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

    def op_insert(self, c, s, **session):
        check_docs(s["docs"])
        return len(c.insert_many(decode(s["docs"]), **session).inserted_ids)

    def counts(self, r):
        out = {"matched": r.matched_count, "modified": r.modified_count}
        if r.upserted_id is not None:
            out["upserted_id"] = r.upserted_id
        return out

    def picked(self, s):
        return seed_filter(s["filter"]) if s.get("upsert") else compile_filter(s.get("filter"))

    def op_update_one(self, c, s, **session):
        return self.counts(c.update_one(self.picked(s), compile_update(s["update"]), upsert=s.get("upsert", False), **session))

    def op_update_many(self, c, s, **session):
        return self.counts(c.update_many(self.picked(s), compile_update(s["update"]), **session))

    def op_replace_one(self, c, s, **session):
        check_docs([s["doc"]])
        return self.counts(c.replace_one(self.picked(s), decode(s["doc"]), upsert=s.get("upsert", False), **session))

    def op_find_and_modify(self, c, s):
        common = {"projection": project(s.get("projection")), "sort": full_sort(s.get("sort")) or None}
        if s.get("remove"):
            return c.find_one_and_delete(self.picked(s), **common)
        return c.find_one_and_update(
            self.picked(s), compile_update(s["update"]), upsert=s.get("upsert", False), **common,
            return_document=pymongo.ReturnDocument.AFTER if s.get("new") else pymongo.ReturnDocument.BEFORE)

    def op_delete_one(self, c, s, **session):
        return c.delete_one(compile_filter(s["filter"]), **session).deleted_count

    def op_delete_many(self, c, s, **session):
        return c.delete_many(compile_filter(s["filter"]), **session).deleted_count

    def op_commit(self, c, s):
        """The writes as one transaction; what each did."""
        out = []
        with self.db.client.start_session() as session, session.start_transaction():
            for at, w in enumerate(s["writes"], 1):
                try:
                    got = self.op_written(c, w, session)
                    if w.get("must_match") and got["matched"] == 0 and "upserted_id" not in got:
                        raise NothingMatched
                except Exception as e:
                    e.at = at
                    raise
                out.append(got)
        return out

    def op_written(self, c, w, session):
        if w["op"] == "insert":
            return {"matched": 0, "modified": self.op_insert(c, {"docs": w["docs"]}, session=session)}
        if w["op"] == "delete":
            n = (self.op_delete_many if w.get("many") else self.op_delete_one)(c, w, session=session)
            return {"matched": n, "modified": n}
        many = w["op"] == "update" and w.get("many")
        return {"replace": self.op_replace_one, "update": self.op_update_many if many else self.op_update_one}[w["op"]](
            c, w, session=session)

    def op_race(self, c, s):
        """`clients` at once take the step until it gives null, or `times` times; how often each answer came."""
        tally, lock = {}, threading.Lock()

        def client():
            for _ in range(s["times"]):
                got = self.answer(c.name, s["step"])
                with lock:
                    key = got[1] or plain(got[0])
                    tally[key] = tally.get(key, 0) + 1
                if got[0] is None and not got[1]:
                    return
        threads = [threading.Thread(target=client) for _ in range(s["clients"])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return tally

    def op_ensure_index(self, c, s):
        i = s["index"]
        c.create_index([(p, d) for p, d in i["keys"]], name=i["name"], **({"unique": True} if i.get("unique") else {}))
        return True

    def answer(self, coll, s, again=True):
        """(what it gave, our code of the error or None, the server's number, the index's name, which write)."""
        try:
            return self.run(coll, s), None, None, None, None
        except Refused as e:
            return e, "invalid_argument", None, None, None
        except NothingMatched as e:
            return e, "conflict", None, None, e.at
        except PyMongoError as e:
            details = e.details if isinstance(e, OperationFailure) else {}
            errors = details.get("writeErrors") or [{}]
            number = errors[0].get("code", getattr(e, "code", None))
            if s.get("upsert") and number == 11000 and again:  # another one was quicker: the store asks once more
                return self.answer(coll, s, False)
            code = CODES.get(number, "already_exists" if isinstance(e, DuplicateKeyError) else str(e))
            found = re.search(r"index: (\S+) dup key", errors[0].get("errmsg", str(e)))
            return e, code, number, found and found.group(1).rstrip("_"), getattr(e, "at", None)

    def step(self, coll, s):
        """None, or what is wrong."""
        if s.get("ours"):
            return None
        got, code, number, key, at = self.answer(coll, s)
        if "error" in s:
            if code != s["error"]:
                return f"want {s['error']}, got {code or got}"
            if number is not None and s.get("number") is not None and number != s["number"]:
                return f"want {s['number']}, got {number}"
            if s.get("key") and key and key != s["key"].rstrip("_"):
                return f"want index {s['key']}, got {key}"
            if s.get("at") and at != s["at"]:
                return f"want the error of write {s['at']}, got {at}"
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
