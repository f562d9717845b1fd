"""The queries of store_dashboard_spec.lua on a MongoDB-wire server: secantusd-py, started here, or the
one that KONTOR_TEST_MONGODB_URL names. BENCH_N rows each (20,000). Not a test."""
import os
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pymongo

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from mongo_server import Server  # noqa: E402

N = int(os.environ.get("BENCH_N", "20000"))
DAYS, AGENTS, MODELS, ACTORS = 365, 12, 8, 40
BASE = datetime(2023, 11, 14, tzinfo=timezone.utc)
SUMS = ["input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "output_tokens",
        "reasoning_tokens", "searches", "cost_nano"]
STATUS = ["completed"] * 7 + ["failed", "cancelled", "timed_out"]


def at(i):
    return BASE + timedelta(milliseconds=i * (DAYS * 86400000 // N))


def usage(i):
    t = at(i)
    return {"_id": f"exec_7_{i:032x}:4", "execution_id": f"exec_7_{i:032x}", "instance_id": f"inst_{i % 30}", "agent_id": f"agent-{i % AGENTS}",
            "at": t, "day": f"{t:%Y-%m-%d}", "hour": f"{t:%Y-%m-%dT%H}", "kind": "model", "provider": f"p{i % 3}", "model_config_id": f"m{i % MODELS}",
            "model": f"model-{i % MODELS}", "input_tokens": i % 5000, "cache_read_tokens": 0, "cache_write_5m_tokens": 0, "cache_write_1h_tokens": 0,
            "output_tokens": i % 900, "reasoning_tokens": 0, "requests": 1, "searches": 0, "cost_nano": None if i % 7 == 0 else i * 13 % 900000,
            "cost_source": "prices", "duration_ms": i % 9000, "ok": True}


def result(i):
    t, status = at(i), STATUS[i % 10]
    return {"_id": f"exec_7_{i:032x}:1", "execution_id": f"exec_7_{i:032x}", "project_id": "bench", "instance_id": f"inst_{i % 30}",
            "agent_id": f"agent-{i % AGENTS}", "status": status, "partial": False, "output": {"summary": "text " * 20},
            "metrics": {"duration_ms": i % 60000, "steps": 3, "findings": i % 40}, "created_at": t, "day": f"{t:%Y-%m-%d}",
            "error": {"code": f"code_{i % 6}", "message": "it failed"} if status == "failed" else None,
            "duration_bucket": int(8 * (i % 60000 + 1).bit_length()), "findings_count": i % 40,
            "counts": {"invoices": {"high": i % 5, "low": i % 3}, "procurement": {"high": i % 2, "low": i % 9}}}


def audit(i):
    return {"_id": f"aud_{i:032x}", "at": at(i), "actor": f"user-{i % ACTORS}", "actor_name": "Somebody", "role": "admin", "via": "key",
            "action": "execution." + ("create" if i % 3 == 0 else "cancel"), "target_type": "execution", "target_id": f"exec_7_{i:032x}",
            "outcome": "ok", "code": None, "request_id": f"{i:032x}", "count": 1}


def fill(c, make):
    start = time.monotonic()
    for first in range(0, N, 1000):
        c.insert_many([make(i) for i in range(first, min(first + 1000, N))], ordered=False)
    print(f"{'fill ' + c.name:34} {N / (time.monotonic() - start):8.0f} rows/s", flush=True)


def timed(name, fn):
    best, rows = 1e9, 0
    for _ in range(2):
        start = time.monotonic()
        rows = len(list(fn()))
        best = min(best, time.monotonic() - start)
    print(f"{name:34} {best * 1000:9.1f} ms {rows:7} rows", flush=True)


def group(c, match, keys, values):
    stage = {"_id": {k: "$" + p for k, p in keys.items()} or None, **values}
    return c.aggregate([{"$match": match}, {"$group": stage}], maxTimeMS=300000)


def main():
    url = os.environ.get("KONTOR_TEST_MONGODB_URL")
    server = None if url else Server().start()
    try:
        db = pymongo.MongoClient(url or server.url)["kontor-bench"]
        u, r, a = db.kt_p_token_usage, db.kt_p_results, db.kt_p_audit_log
        u.create_index([("day", 1), ("agent_id", 1), ("model", 1)])
        r.create_index([("day", 1)])
        a.create_index([("at", -1), ("_id", -1)])
        a.create_index([("actor", 1), ("at", -1)])
        fill(u, usage)
        fill(r, result)
        fill(a, audit)
        sums = {"calls": {"$sum": 1}, **{s: {"$sum": "$" + s} for s in SUMS}}
        count = {"n": {"$sum": 1}}
        for label, days in (("30 days", 30), ("a year", 366)):
            m = {"day": {"$gte": f"{at(N) - timedelta(days=days - 1):%Y-%m-%d}"}}
            timed("usage by day, agent, model; " + label, lambda: group(u, m, {"d": "day", "a": "agent_id", "m": "model"}, sums))
            timed("usage totals; " + label, lambda: group(u, m, {}, sums))
            timed("usage of one agent by day; " + label, lambda: group(u, {**m, "agent_id": "agent-3"}, {"d": "day"}, sums))
            timed("results by day and status; " + label, lambda: group(r, m, {"d": "day", "s": "status"}, {**count, "f": {"$sum": "$findings_count"}}))
            timed("results by day and bucket; " + label, lambda: group(r, m, {"d": "day", "b": "duration_bucket"}, {**count, "m": {"$max": "$metrics.duration_ms"}}))
            timed("errors by code; " + label, lambda: group(r, {**m, "status": "failed"}, {"c": "error.code"}, {**count, "l": {"$max": "$created_at"}}))
        newest = [("at", -1), ("_id", -1)]
        middle = at(N // 2)
        after = {"$or": [{"at": {"$lt": middle}}, {"at": middle, "_id": {"$lt": "aud_f"}}]}
        timed("audit, first page", lambda: a.find({}, sort=newest, limit=50))
        timed("audit, a page in the middle", lambda: a.find(after, sort=newest, limit=50))
        timed("audit, same, with a leading bound", lambda: a.find({"at": {"$lte": middle}, **after}, sort=newest, limit=50))
        timed("audit of one actor", lambda: a.find({"actor": "user-7"}, sort=newest, limit=50))
        timed("audit of one action, 1 day", lambda: a.find(
            {"at": {"$gte": middle, "$lt": middle + timedelta(days=1)}, "action": "execution.create"}, sort=newest, limit=50))
        db.client.drop_database("kontor-bench")
    finally:
        if server:
            server.stop()


if __name__ == "__main__":
    main()
