"""The rules against DuckDB: python3 tests/bench/sweep.py [--n 1000000] [--rules A,B] [--keep DIR]

Makes data, loads them on both sides, compares the findings (keys, reasons, amounts, severities) and
only then prints the times: of the rule alone in `kontor analyst` (its duration_ms, best of the
runs) and of the same question in SQL on two threads (best of the runs, tables in memory). Both are
processor time, DuckDB's halved as if its two threads were always busy: so a machine that does other
things at the same time changes nothing, and DuckDB is given more than it gets by the clock."""
import argparse
import decimal
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb

sys.path.insert(0, str(Path(__file__).parent))
import sweep_data  # noqa: E402
import sweep_sql  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent.parent
AGENT = ROOT / "agents/erp-exception-management"
KONTOR = os.environ.get("KONTOR", str(ROOT / "build/kontor"))
SEVERITIES = ["low", "medium", "high", "critical"]
AS_OF = "2014-09-30"


def job(folder, rules, tables):
    def source(path):
        return {"path": str(path.relative_to(ROOT)), "source": path.read_text()}

    return {
        "as_of": AS_OF, "mapping": source(AGENT / "mappings/identity.lua"),
        "rules": [dict(source(AGENT / f"rules/{rule}.lua"), rule_id=rule) for rule in rules],
        "libs": {str(p.relative_to(ROOT)): p.read_text() for p in sorted((AGENT / "lib").glob("*.lua"))},
        "params": {k: v for k, v in sweep_sql.PARAMS.items() if k.partition(".")[0] in rules},
        "tables": [{"name": f"{t}.csv", "path": f"{folder}/{t}.csv", "format": "csv",
                    "sha256": hashlib.sha256(Path(folder, f"{t}.csv").read_bytes()).hexdigest()} for t in tables],
    }


def kontor(folder, rules, tables):
    """{rule: ({key: (reason, amount, severity)}, ms)}, seconds in all."""
    began = time.monotonic()
    child = subprocess.run([KONTOR, "analyst", "--memory", str(16 << 30), "--cpu", "600", "--parent", str(os.getpid())], check=False,
                           input=json.dumps(job(folder, rules, tables)), capture_output=True, text=True)
    seconds = time.monotonic() - began
    found = {rule: {} for rule in rules}
    ms = {}
    for line in child.stdout.splitlines():
        m = json.loads(line)
        if m["type"] == "findings":
            for f in m["items"]:
                found[m["rule_id"]][f["finding_key"]] = {
                    "reason": f["reason"], "impact": decimal.Decimal(f["impact"]["amount"]), "severity": f["severity"],
                    **{"ev_" + name: number(v) for name, v in f["evidence"].items()}}
        elif m["type"] == "rule":
            if m["status"] == "error":
                sys.exit(f"{m['rule_id']}: {m['error']}")
            ms[m["rule_id"]] = m["duration_ms"]
        elif m["type"] == "table" and (m["rejected"] or m["duplicates"]):
            sys.exit(f"{m['name']}: {m['rejected']} rejected, {m['duplicates']} duplicates: {m['errors'][:2]}")
        elif m["type"] == "error":
            sys.exit(m)
    if set(ms) != set(rules):
        sys.exit(f"kontor analyst: exit {child.returncode}: {child.stderr[-2000:]}{child.stdout[-500:]}")
    return {rule: (found[rule], ms[rule]) for rule in rules}, seconds


def number(v):
    """A Decimal where it is one, so that 5 equals 5.0000."""
    try:
        return decimal.Decimal(v) if isinstance(v, (str, int)) else v
    except decimal.InvalidOperation:
        return v


def cents(value):
    return value.quantize(decimal.Decimal("0.01"), decimal.ROUND_HALF_UP)


def ask(db, rule):
    """{key: {"reason":, "impact":, "severity":, "ev_…":}}"""
    answer = db.execute(sweep_sql.RULES[rule])
    names = [d[0] for d in answer.description]
    found = {}
    for row in answer.fetchall():
        out = {}
        for name, value in zip(names, row):
            scale = re.search(r"_e(\d+)$", name)
            if value is not None and scale:
                value = decimal.Decimal(value).scaleb(-int(scale[1]))
            elif not isinstance(value, decimal.Decimal):
                value = number(value) if name.startswith("ev_") else value
            out[re.sub(r"_e\d+$", "", name)] = value
        out["impact"] = cents(out["impact"])
        out["severity"] = SEVERITIES[out["severity"]]
        key = out.pop("finding_key")
        found[key] = {k: v for k, v in out.items() if v is not None}
    return found


def differences(got, want):
    """Keys that only one side has, or whose values differ in what the SQL gives."""
    for key in sorted(set(got) | set(want)):
        a, b = got.get(key), want.get(key)
        if a is None or b is None or any(a.get(name) != value for name, value in b.items()):
            yield key, a and b and {n: a.get(n) for n in b}, b


def typed(db):
    """The tables as they came from the files, in the types of the canonical schema."""
    for name in sweep_data.TABLES:
        columns = [c[0] for c in db.execute(f"describe {name}").fetchall()]
        cast = ", ".join(f'"{c}"::{sweep_sql.TYPES[c]} as "{c}"' if c in sweep_sql.TYPES else f'"{c}"' for c in columns)
        db.execute(f"create or replace table {name} as select {cast} from {name}")


def measure(n, rules, runs, folder):
    """Data of n rows a table in folder, both sides on it: (rows, seconds of the whole analyst, one dict a rule).
    A rule's dict: findings, wrong (differences), kontor and duckdb (best milliseconds), clock (DuckDB's by the clock)."""
    decimal.getcontext().prec = 60
    db = duckdb.connect(config={"threads": 2})
    sweep_data.make(db, folder, n)
    typed(db)
    best, results, seconds = {}, None, 1e9
    for _ in range(runs):
        results, took = kontor(folder, rules, sweep_data.TABLES)
        seconds = min(seconds, took)
        for rule in rules:
            best[rule] = min(best.get(rule, 1e9), results[rule][1])
    rows = sum(db.execute(f"select count(*) from {t}").fetchone()[0] for t in sweep_data.TABLES)
    out = []
    for rule in rules:
        wall, cpu = 1e9, 1e9
        for _ in range(runs):
            began, busy = time.monotonic(), time.process_time()
            db.execute(f"create or replace temp table answer as {sweep_sql.RULES[rule]}")
            wall, cpu = min(wall, time.monotonic() - began), min(cpu, time.process_time() - busy)
        got = results[rule][0]
        out.append({"rule": rule, "findings": len(got), "wrong": list(differences(got, ask(db, rule))), "kontor": best[rule],
                    "duckdb": cpu * 500, "clock": wall * 1000})  # as if both threads were busy all the time
    return rows, seconds, out


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--n", type=int, default=1000000)
    args.add_argument("--rules", default=",".join(sweep_sql.RULES))
    args.add_argument("--keep", help="folder for the data, used again when it is there")
    args.add_argument("--runs", type=int, default=3)
    args = args.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or temporary
        Path(folder).mkdir(exist_ok=True)
        rows, seconds, out = measure(args.n, args.rules.split(","), args.runs, folder)
    print(f"{rows:,} rows; kontor analyst in all {seconds:.1f} s (reading, checking, mapping, the rules)")
    for r in out:
        if r["wrong"]:
            print(f"{r['rule']}: {r['findings']} findings, {len(r['wrong'])} differ from the SQL's")
            for key, a, b in r["wrong"][:5]:
                print(f"  {key}:\n    kontor {a}\n    SQL    {b}")
        else:
            print(f"{r['rule']}  {r['findings']:6} findings, the same on both sides   kontor {r['kontor']:5} ms   "
                  f"DuckDB {r['duckdb']:5.0f} ms ({r['clock']:.0f} ms by the clock)   ratio {r['kontor'] / r['duckdb']:.2f}")
    return 1 if any(r["wrong"] for r in out) else 0


if __name__ == "__main__":
    sys.exit(main())
