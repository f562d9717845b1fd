"""What must not change the findings, and rules that misbehave (erp-rules.md 5, mutation checks)."""
import csv
import datetime
import json
import re
import shutil
import subprocess
from decimal import Decimal
from pathlib import Path

import pytest

from analysis import RULES
from conftest import KONTOR, ROOT

AGENT = ROOT / "agents/erp-exception-management"
DATE = re.compile(r"^\d{4}-\d{2}-\d{2}$")
MONEY = {
    "purchase_order": ["net_value"], "po_line": ["price", "net_value"], "invoice": ["gross", "tax"], "invoice_line": ["amount"],
    "sales_line": ["net_price", "net_value"], "material_plant": ["unit_cost"], "work_center": ["cost_rate"],
    "vendor_price": ["price"], "goods_receipt": ["amount_cc"], "customer": ["credit_limit"], "approval_policy": ["min_amount", "approver_limit"],
    "contract": ["price"],
}


def analyze(folder, *args, code=0):
    report = Path(folder).parent / f"{Path(folder).name}.json"
    done = subprocess.run([KONTOR, "analyze", "--data", folder, "--report", report, *map(str, args)], capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stderr[-3000:]
    return json.loads(report.read_text()) if code == 0 else None, done.stdout


def findings(report):
    return {(f["rule_id"], f["finding_key"]): f for c in report["categories"] for r in c["rules"] for f in r["findings"]}


def facts(report, key=lambda k: k):
    return {key(k): (f["reason"], f["severity"], f["impact"]["amount"], f["impact"]["currency"], f["impact"]["kind"])
            for k, f in findings(report).items()}


@pytest.fixture(scope="module")
def company(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "company"
    subprocess.run([KONTOR, "demo-data", "--out", folder, "--n", "600", "--seed", "11"], check=True, capture_output=True, timeout=60)
    return folder, analyze(folder)[0]


def changed(folder, to, change):
    """A copy whose tables went through change(name, header, rows)."""
    to.mkdir()
    shutil.copy(folder / "manifest.json", to)
    for path in folder.glob("*.csv"):
        with open(path, newline="") as f:
            header, *rows = csv.reader(f)
        rows = change(path.stem, header, rows)
        with open(to / path.name, "w", newline="") as f:
            csv.writer(f, lineterminator="\n").writerows([header, *rows])
    return to


def test_a_week_later_finds_the_same(company, tmp_path):
    folder, report = company
    week = datetime.timedelta(7)

    def later(text):
        return (datetime.date.fromisoformat(text) + week).isoformat() if DATE.match(text) else text

    moved = changed(folder, tmp_path / "moved", lambda name, header, rows: [[later(c) for c in row] for row in rows])

    def key(k):
        rule_id, finding = k
        if rule_id != "PRD-005":
            return k
        center, iso = finding.split("|")
        monday = datetime.date.fromisocalendar(int(iso[:4]), int(iso[6:]), 1) + week
        return rule_id, f"{center}|{monday.isocalendar()[0]:04d}-W{monday.isocalendar()[1]:02d}"

    later_report, _ = analyze(moved, "--as-of", "2025-07-07")
    assert facts(later_report) == facts(report, key)


def test_ten_times_the_amounts(company, tmp_path):
    folder, report = company

    def tenfold(name, header, rows):
        at = [header.index(c) for c in MONEY.get(name, [])]
        return [[str(Decimal(c) * 10) if i in at and c else c for i, c in enumerate(row)] for row in rows]

    big, _ = analyze(changed(folder, tmp_path / "big", tenfold), "--param", "PRO-001.one_time_limit=10000", "--param", "PRO-009.abs=1000",
                     *(arg for rule in RULES for arg in ("--param", f"{rule}.sev_bands=[\"10000\",\"100000\",\"1000000\"]")))

    def amounts(rep):
        # The tolerance of FIN-008 is the smallest unit of a currency, which does not grow.
        return {k: v for k, v in facts(rep).items() if k[0] != "FIN-008"}

    want = {k: (r, s, c, kind) for k, (r, s, _, c, kind) in amounts(report).items()}
    assert {k: (r, s, c, kind) for k, (r, s, _, c, kind) in amounts(big).items()} == want
    for k, (_, _, amount, currency, _) in amounts(big).items():
        before = Decimal(facts(report)[k][2])
        # Rounded once, after the multiplication: a rest of half a unit may show tenfold.
        assert abs(Decimal(amount) - before * 10) <= (5 if currency == "JPY" else Decimal("0.05")), k


def test_a_posted_and_reversed_pair_more_changes_nothing(company, tmp_path):
    folder, report = company

    def pair(name, header, rows):
        if name != "invoice":
            return rows
        first = dict(zip(header, next(r for r in rows if dict(zip(header, r))["status"] == "posted")))
        wrong = dict(first, invoice_id="9900000001", reversed_by="9900000002", status="cancelled")
        undo = dict(first, invoice_id="9900000002", reverses="9900000001", kind="credit_memo", gross="-" + first["gross"], tax="-" + first["tax"])
        return rows + [[d[c] for c in header] for d in (wrong, undo)]

    assert facts(analyze(changed(folder, tmp_path / "pair", pair))[0]) == facts(report)


def test_a_table_more_of_another_company_changes_nothing(company, tmp_path):
    folder, report = company
    other = tmp_path / "other"
    subprocess.run([KONTOR, "demo-data", "--out", other, "--n", "300", "--seed", "12", "--rate", "0"], check=True, capture_output=True, timeout=60)
    ids = re.compile(r"^(?:[VMC]\d{6,}|CT\d+|WC\w+|P[123]00|[1-8]\d{7,}|[123]000)$")

    def joined(name, header, rows):
        if name in ("labels", "fx_rate", "currency", "tax_code", "calendar_day"):
            return rows
        with open(other / f"{name}.csv", newline="") as f:
            _, *more = csv.reader(f)
        plain = {"qty", "gross", "tax", "net_value", "credit_limit", "min_amount", "approver_limit", "amount", "amount_cc", "reference", "base_doc", "tax_doc"}
        return rows + [["Z" + c if ids.match(c) and header[i] not in plain else c for i, c in enumerate(row)] for row in more]

    assert facts(analyze(changed(folder, tmp_path / "both", joined))[0]) == facts(report)


# ── Rules that misbehave ──


def agents(folder, **rules):
    """The agent with these rules put in place of its own."""
    shutil.copytree(AGENT, folder)
    for name, body in rules.items():
        rule_id = name.replace("_", "-")
        (folder / "rules" / f"{rule_id}.lua").write_text(f"""rule {{ id = "{rule_id}", title = "T", category = "c", params = {{}},
  requires = {{ "purchase_order.vendor_id" }}, reasons = {{ {{ "r" }} }}, run = function(t, p, emit)
  {body}
  end }}""")
    return folder


def coverage(report):
    return {c["rule_id"]: c["status"] for c in report["data"]["coverage"]}


@pytest.mark.parametrize("body, said", [
    ("while true do end", "did not end within 1 s"),
    ("local s = 'x' while true do s = s .. s end", "PRD-005 error"),
    ("local t = {} while true do t[#t + 1] = {} end", "PRD-005 error"),
    ("error('no such luck')", "PRD-005.lua:3: no such luck"),
    ("io.open('/etc/passwd')", "PRD-005.lua:3"),
    ("emit { key = { 'a' }, reason = 'other', kind = 'cash', impact = t.decimal '1' }", "no such reason"),
    ("emit { key = { 'a' }, reason = 'r', kind = 'cash', impact = 1.5 }", "impact"),
    ("emit { key = { 'a' }, reason = 'r', kind = 'cash', impact = t.decimal '1' } error('late')", "late"),
    ("local x = t.invoice", "invoice"),
])
def test_a_rule_that_misbehaves_costs_only_itself(company, tmp_path, body, said):
    folder, report = company
    other, text = analyze(folder, "--agents", agents(tmp_path / "agents", PRD_005=body), "--rule-deadline", "1")
    assert coverage(other) == dict(coverage(report), **{"PRD-005": "error"})
    assert said in text
    want = {k: f for k, f in facts(report).items() if k[0] != "PRD-005"}
    assert facts(other) == want


def test_a_broken_script_is_named_with_its_line(company, tmp_path):
    scripts = agents(tmp_path / "agents")
    (scripts / "rules/PRD-005.lua").write_text("rule {\n  id = \n}")
    report, text = analyze(company[0], "--agents", scripts)
    assert coverage(report)["PRD-005"] == "error"
    assert "PRD-005 error" in text
    (scripts / "mappings/identity.lua").write_text("mapping {\n name = 'identity', company = 'C', currency = 'USD', tables = { vendors = {} } }")
    done = subprocess.run([KONTOR, "analyze", "--data", company[0], "--agents", scripts], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "vendors" in done.stderr
