"""Loads 4 and 5: every rule over a million rows against DuckDB on two threads (the findings are compared first),
three of them against sqlite3, and reading the CSV files against DuckDB's reader."""
import resource
import sqlite3
import tempfile
import time
from pathlib import Path

import duckdb

import sweep
import sweep_data
import sweep_sql
from row import row


def rules(options):
    found = []
    with tempfile.TemporaryDirectory(prefix="kt-bench-") as folder:
        rows, seconds, out = sweep.measure(options.n, list(sweep_sql.RULES), options.rounds, folder)
    for r in out:
        if r["wrong"]:
            raise RuntimeError(f"{r['rule']}: {len(r['wrong'])} findings differ from DuckDB's, such as {r['wrong'][0]}")
        found.append(row(r["rule"], f"{r['kontor']} ms", "DuckDB", f"{r['duckdb']:.0f} ms", r["duckdb"] / max(r["kontor"], 1), None,
                         f"{r['findings']:,} findings; DuckDB by the clock {r['clock']:.0f} ms"))
    ours, theirs = sum(r["kontor"] for r in out), sum(r["duckdb"] for r in out)
    found.append(row(f"all {len(out)} rules", f"{ours:,} ms", "DuckDB", f"{theirs:,.0f} ms", theirs / ours, 1,
                     f"{rows:,} rows; the analyst in all {seconds:.1f} s (reading, checking, mapping, rules)"))
    return found


# The tables that the three rules need; tests/bench/sqlite has them in SQLite's SQL, on whole numbers.
SQLITE = {"PRO-001": ("vendor", "purchase_order", "po_line"), "FIN-008": ("company", "tax_code", "tax_item"),
          "OFU-004": ("sales_order", "sales_line", "sales_schedule", "delivery_line")}
# What the join conditions ask for, made before the clock runs.
INDEXES = {"vendor": "vendor_id", "po_line": "po_id", "tax_code": "country, tax_code", "sales_order": "order_id",
           "sales_line": "order_id, line"}
SCALE = {sweep_sql.M: 10 ** 4, sweep_sql.P: 10 ** 6}


def to_sqlite(db, lite, table):
    """The typed table as whole numbers and texts."""
    kinds = dict(db.execute(f"select column_name, column_type from (describe {table})").fetchall())
    columns, chosen = list(kinds), []
    for c, kind in kinds.items():
        if c in sweep_sql.TYPES:
            chosen.append(f'("{c}" * {SCALE[sweep_sql.TYPES[c]]})::bigint')
        else:
            chosen.append(f'"{c}"::{"varchar" if kind in ("DATE", "VARCHAR") else "bigint"}')
    names = ", ".join(f'"{c}"' for c in columns)
    lite.execute(f"create table {table} ({names})")
    answer = db.execute(f"select {', '.join(chosen)} from {table}")
    while rows := answer.fetchmany(50000):
        lite.executemany(f"insert into {table} values ({','.join('?' * len(columns))})", rows)
    if table in INDEXES:
        lite.execute(f"create index {table}_key on {table} ({INDEXES[table]})")


def sqlite(options):
    """Three of the rules in SQLite (in memory, indexes for its joins made before): keys, reasons and amounts first."""
    found = []
    with tempfile.TemporaryDirectory(prefix="kt-bench-") as folder:
        db = duckdb.connect(config={"threads": 2})
        sweep_data.make(db, folder, options.n)
        sweep.typed(db)
        best = {}
        for _ in range(options.rounds):
            results, _ = sweep.kontor(folder, list(SQLITE), sweep_data.TABLES)
            for rule in SQLITE:
                best[rule] = min(best.get(rule, 1e9), results[rule][1])
        for rule, tables in SQLITE.items():
            lite = sqlite3.connect(":memory:")
            for table in tables:
                to_sqlite(db, lite, table)
            lite.execute("analyze")
            text = sweep_sql.half_written(Path(__file__).with_name("sqlite").joinpath(f"{rule}.sql").read_text())
            took, rows = 1e9, []
            for _ in range(options.rounds):
                busy = time.process_time()
                rows = lite.execute(text).fetchall()
                took = min(took, time.process_time() - busy)
            want = {key: f["reason"] for key, f in results[rule][0].items()}
            if {key: reason for key, reason, _ in rows} != want:
                raise RuntimeError(f"{rule}: SQLite finds {len(rows)}, Kontor {len(want)}")
            found.append(row(rule, f"{best[rule]} ms", "sqlite3", f"{took * 1000:,.0f} ms", took * 1000 / max(best[rule], 1), None,
                             f"{len(rows):,} findings, the same keys and reasons on both sides"))
    return found


def csv(options):
    """Reading, checking and typing the files: the analyst without rules against read_csv with declared types."""
    with tempfile.TemporaryDirectory(prefix="kt-bench-") as folder:
        db = duckdb.connect(config={"threads": 2})
        sweep_data.make(db, folder, options.n)
        types = {t: dict(db.execute(f"select column_name, column_type from (describe {t})").fetchall()) for t in sweep_data.TABLES}
        size = sum(Path(folder, f"{t}.csv").stat().st_size for t in sweep_data.TABLES)
        ours, theirs, clock = [], [], []
        for _ in range(options.rounds):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            began = time.monotonic()
            sweep.kontor(folder, [], sweep_data.TABLES)
            took = time.monotonic() - began
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            ours.append((after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, took))
            busy, began = time.process_time(), time.monotonic()
            for t, columns in types.items():
                db.execute(f"create or replace table {t} as select * from read_csv('{folder}/{t}.csv', header=true, columns=$types)",
                           {"types": columns})
            theirs.append(time.process_time() - busy)
            clock.append(time.monotonic() - began)
    cpu = min(c for c, _ in ours)
    return [row("loading CSV, processor seconds", f"{cpu:.1f} s", "DuckDB read_csv", f"{min(theirs):.1f} s", min(theirs) / cpu, None,
                f"{size / 1e6:,.0f} MB; by the clock {min(t for _, t in ours):.1f} s on one thread against {min(clock):.1f} s on two; "
                "Kontor also hashes, maps, removes equal rows and checks keys")]
