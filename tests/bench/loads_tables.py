"""Load 4: every rule over a million rows against DuckDB on two threads; the findings are compared first."""
import tempfile

import sweep
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
