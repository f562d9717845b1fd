"""Loads 4 and 5: every rule over a million rows against DuckDB on two threads (the findings are compared first),
three of them against sqlite3, and reading the CSV files against DuckDB's reader."""
import resource
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
        found.append(row(r["rule"], f"{r['kontor']} ms", "DuckDB", f"{r['duckdb']:.0f} ms", r["duckdb"] / max(r["kontor"], 1), 1,
                         f"{r['findings']:,} findings; DuckDB by the clock {r['clock']:.0f} ms"))
    ours, theirs = sum(r["kontor"] for r in out), sum(r["duckdb"] for r in out)
    found.append(row(f"all {len(out)} rules", f"{ours:,} ms", "DuckDB", f"{theirs:,.0f} ms", theirs / ours, 1,
                     f"{rows:,} rows; the analyst in all {seconds:.1f} s (reading, checking, mapping, rules)"))
    return found


SQLITE = ("PRO-001", "PRD-005", "IMT-007")


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
