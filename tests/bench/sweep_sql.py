"""The rules in SQL (sql/RULE.sql), written from the rule text of erp-rules.md and not from the scripts. Each gives
finding_key, reason, impact, severity, and ev_NAME: what the evidence must hold under NAME. A column
that ends with _eN is a whole number of 10^-N. Money and quantities are whole numbers of
10^-4, prices of 10^-6: DuckDB divides decimals as doubles."""

import re
from pathlib import Path

D = "date '2014-09-30'"

# Types of the columns after the upload, as the canonical schema has them.
M, P = "decimal(19, 4)", "decimal(19, 6)"
TYPES = {
    "hours_per_week": M, "actual_hours": M, "cost_rate": P, "unit_cost": P, "price": P, "qty": M, "net_value": M, "gross": M,
    "amount": M, "reorder_point": M, "req_qty": M, "issued_qty": M, "base_doc": M, "tax_doc": M, "min_amount": M,
    "approver_limit": M, "rate": P, "safety_stock": M, "plan_scrap_pct": P, "yield_qty": M, "scrap_qty": M, "lot_qty": M,
    "inspected_qty": M, "defect_qty": M,
}

# Parameters of the run that the SQL is written for.
PARAMS = {"PRD-005.mode": "history", "PRD-006.mode": "history", "PRD-006.util_pct": "60"}

SEVERITY = """case when abs(impact) >= 100000 then 3 when abs(impact) >= 10000 then 2 when abs(impact) >= 1000 then 1 else 0 end"""


def half_away(num, den):
    """num / den rounded half away from zero, whole numbers, den > 0."""
    return f"(sign({num}) * ((2 * abs({num}) + {den}) // (2 * {den})))"


def expand(sql):
    """D, S and HALF(a, b) written out, for DuckDB."""
    return halves(re.sub(r"\bD\b", D, re.sub(r"\bS\b", f"({SEVERITY})", sql)), half_away)


def half_written(sql):
    """The same for SQLite, whose dates are texts and whose / of whole numbers is whole."""
    return halves(re.sub(r"\bD\b", D.replace("date ", ""), sql), lambda num, den: half_away(num, den).replace("//", "/"))


def halves(out, write):
    while "HALF(" in out:
        at = out.index("HALF(")
        depth, parts, start = 0, [], at + 5
        for i in range(at + 4, len(out)):
            if out[i] == "(":
                depth += 1
            elif out[i] == ")":
                depth -= 1
            if (out[i] == "," and depth == 1) or depth == 0:
                parts.append(out[start:i])
                start = i + 1
            if depth == 0:
                break
        out = out[:at] + write(f"({parts[0].strip()})", f"({parts[1].strip()})") + out[i + 1:]
    return out


RULES = {file.stem: expand(file.read_text()) for file in sorted((Path(__file__).parent / "sql").glob("*.sql"))}
