"""kontor demo-data and kontor analyze: the generator's truth, the report, choices, bad input."""
import hashlib
import json
import re
import shutil
import subprocess
from collections import Counter, defaultdict
from decimal import Decimal

import pytest

from analysis import CATEGORIES, RULES, analyze, coverage, demo, findings, kontor, rows, rule_of, write
from conftest import KONTOR, ROOT


@pytest.fixture(scope="module")
def company(tmp_path_factory):
    """Seed 1, n = 3,000, and its report."""
    folder = demo(tmp_path_factory.mktemp("demo") / "company", "--n", 3000)
    return folder, *analyze(folder)


# ── The generator's truth ──


@pytest.mark.parametrize("seed", [1, 2, 18446744073709551615])
def test_finds_what_was_planted_and_nothing_else(tmp_path, seed):
    folder = demo(tmp_path / "company", "--n", 3000, "--seed", seed)
    report, _ = analyze(folder)
    labels = rows(folder / "labels.csv")
    fire = {(x["rule_id"], x["finding_key"]): x for x in labels if x["must"] == "fire"}
    traps = {(x["rule_id"], x["finding_key"]): x["trap"] for x in labels if x["must"] == "must_not"}
    found = findings(report)
    assert {r for r, _ in fire} == set(RULES)
    assert {k: traps.get(k, "unlabelled") for k in found.keys() - fire.keys()} == {}, "false positives"
    assert fire.keys() - found.keys() == set(), "not found"
    for key, label in fire.items():
        finding = found[key]
        case = (key, label["case_id"], finding["evidence"])
        assert finding["reason"] == label["reason"], case
        assert finding["severity"] == label["severity"], case
        assert finding["impact"]["currency"] == label["impact_currency"], case
        assert Decimal(finding["impact"]["amount"]) == Decimal(label["impact_amount"]), case


def test_a_clean_world_has_no_findings(tmp_path):
    folder = demo(tmp_path / "company", "--n", 3000, "--rate", "0")
    report, text = analyze(folder)
    assert findings(report) == {}
    assert {c["rule_id"]: c["status"] for c in report["data"]["coverage"]} == dict.fromkeys(RULES, "ok")
    assert all(c["population"] > 0 for c in report["data"]["coverage"])
    assert len(rows(folder / "labels.csv")) == 0
    assert "The ten worst" not in text


def test_same_seed_same_bytes_other_seed_other_data(tmp_path):
    a, b, c = (demo(tmp_path / name, "--n", 300, "--seed", seed) for name, seed in (("a", 5), ("b", 5), ("c", 6)))
    names = sorted(p.name for p in a.iterdir())
    assert names == sorted(p.name for p in b.iterdir())
    for name in names:
        assert (a / name).read_bytes() == (b / name).read_bytes(), name
    assert (a / "purchase_order.csv").read_bytes() != (c / "purchase_order.csv").read_bytes()


def test_manifest_tells_the_files(company):
    folder = company[0]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["seed"], manifest["n"], manifest["as_of"]) == ("1", 3000, "2025-06-30")
    assert {f["name"] for f in manifest["files"]} == {p.name for p in folder.glob("*.csv")}
    for entry in manifest["files"]:
        data = (folder / entry["name"]).read_bytes()
        assert entry["sha256"] == hashlib.sha256(data).hexdigest()
        assert entry["bytes"] == len(data)
        assert entry["rows"] == data.count(b"\n") - 1


# ── The report ──


def test_report_is_the_same_bytes_again(company, tmp_path):
    folder, report, _ = company
    again = tmp_path / "again.json"
    kontor("analyze", "--data", folder, "--report", again)
    printed = kontor("analyze", "--data", folder, "--format", "json").stdout
    first = (folder / ".." / "report-company.json").read_text()
    assert again.read_text() == first
    assert printed.strip() == first.strip()
    assert list(report) == ["report_version", "project_id", "run_id", "as_of", "report_currency", "data", "summary", "categories",
                            "business_impact", "narrative"]
    assert [c["id"] for c in report["categories"]] == CATEGORIES
    assert list(report["summary"]["by_category"]) == CATEGORIES


def test_shuffled_rows_and_folder_order_change_no_finding(company, tmp_path):
    folder, report, _ = company
    other = tmp_path / "shuffled"
    other.mkdir()
    shutil.copy(folder / "manifest.json", other)
    for path in folder.glob("*.csv"):
        header, *lines = path.read_text().splitlines()
        lines = [line for _, line in sorted((hashlib.sha256(f"{i}{line}".encode()).digest(), line) for i, line in enumerate(lines))]
        write(other / path.name, header, *lines)
    shuffled, _ = analyze(other)
    strip = {k: {n: v for n, v in f.items() if n not in ("evidence", "explanation")} for k, f in findings(report).items()}
    assert {k: {n: v for n, v in f.items() if n not in ("evidence", "explanation")} for k, f in findings(shuffled).items()} == strip
    assert shuffled["summary"] == report["summary"]


def test_totals_are_sums_of_written_amounts(company):
    report = company[1]
    by_kind, seen = defaultdict(Decimal), {}
    facts = [f for f in findings(report).values() if f["rule_id"] != "PRD-006"]  # made of the facts of other rules
    for f in sorted(facts, key=lambda f: (-abs(Decimal(f["impact"]["amount_rc"])), f["rule_id"], f["finding_key"])):
        key = (f["impact"]["kind"], f["overlap_key"])
        if key not in seen:
            seen[key] = f
            by_kind[f["impact"]["kind"]] += Decimal(f["impact"]["amount_rc"])
    impact = report["business_impact"]
    assert {k: Decimal(impact[k]["amount"]) for k in by_kind} == dict(by_kind)
    assert {k: Decimal(v) for k, v in report["summary"]["total"]["impact_by_kind"].items() if Decimal(v)} == {
        k: v for k, v in by_kind.items() if v}
    assert Counter(f["severity"] for f in findings(report).values()) == Counter(
        {k: n for k, n in report["summary"]["total"]["by_severity"].items() if n})
    assert impact["trend_vs_previous_run"] == {"new": None, "resolved": None, "unchanged": None}
    ranks = {"critical": 0, "high": 1, "medium": 2, "low": 3}
    top = [findings(report)[t["rule_id"], t["finding_key"]] for t in report["summary"]["top"]]
    assert len(top) == 10
    assert [ranks[f["severity"]] for f in top] == sorted(ranks[f["severity"]] for f in top)
    assert {"vendor", "plant"} <= {c["dimension"] for c in impact["concentration"]}


def test_explanations_name_only_what_the_evidence_has(company):
    def numbers(value):
        if isinstance(value, dict):
            return set().union(*map(numbers, value.values()), set())
        if isinstance(value, list):
            return set().union(*map(numbers, value), set())
        if isinstance(value, bool) or value is None:
            return set()
        return {w.strip(".,;:()|%").replace(",", "") for w in str(value).replace("|", " ").split()} | {str(value)}

    for key, f in findings(company[1]).items():
        known = numbers(f["evidence"]) | numbers(f["finding_key"]) | numbers(f["impact"])
        normal = set()
        for k in known:
            try:
                normal.add(Decimal(k).normalize())
            except ArithmeticError:
                pass
        for word in f["explanation"].split():
            word = word.strip(".,;:()%'\"")
            try:
                value = Decimal(word.replace(",", ""))
            except ArithmeticError:
                continue
            assert value.normalize() in normal, (key, word, f["explanation"], f["evidence"])


def test_trend_against_an_earlier_report(company, tmp_path):
    folder, report, _ = company
    previous = dict(report)
    gone = next(c for c in previous["categories"] if c["id"] == "procurement")["rules"][0]["findings"].pop()
    gone_too = dict(gone, finding_key="4700009999")
    next(c for c in previous["categories"] if c["id"] == "procurement")["rules"][0]["findings"].append(gone_too)
    path = tmp_path / "previous.json"
    path.write_text(json.dumps(previous))
    now = json.loads(kontor("analyze", "--data", folder, "--previous", path, "--format", "json").stdout)
    total = now["summary"]["total"]["count"]
    assert now["business_impact"]["trend_vs_previous_run"] == {"new": 1, "resolved": 1, "unchanged": total - 1}
    report["categories"][1]["rules"][0]["findings"][-1] = gone


def test_input_hash_can_be_recomputed(company):
    folder, report, _ = company
    agent = ROOT / "agents/erp-exception-management"
    mapping = hashlib.sha256((agent / "mappings/identity.lua").read_bytes()).hexdigest()
    assert report["data"]["mapping_sha256"] == mapping
    files = {t["name"]: t["sha256"] for t in report["data"]["tables"]}
    assert all(hashlib.sha256((folder / n).read_bytes()).hexdigest() == h for n, h in files.items())
    assert "labels.csv" not in files
    rule = rule_of(report, "PRO-001")
    params = json.dumps(rule["params"], sort_keys=True, separators=(",", ":"))
    script = hashlib.sha256((agent / "rules/PRO-001.lua").read_bytes()).hexdigest()
    # The tables that the declaration names, and the currencies by which amounts are rounded.
    declaration = (agent / "rules/PRO-001.lua").read_text().split("rule {")[1].split("run =")[0]
    names = {w for w in re.findall(r'"(\w+)(?:\.\w+)?"', declaration) if f"{w}.csv" in files} | {"currency"}
    lines = ["as_of 2025-06-30", f"mapping {mapping}", f"params {hashlib.sha256(params.encode()).hexdigest()}", f"rule PRO-001 {script}",
             *(f"table {n}.csv {files[n + '.csv']}" for n in sorted(names))]
    assert {"purchase_order", "vendor", "po_line"} <= names
    assert rule["input_hash"] == hashlib.sha256("".join(line + "\n" for line in lines).encode()).hexdigest()


def test_table_is_what_a_controller_reads(company):
    text = company[2]
    assert "Exceptions at 2025-06-30" in text
    for title in ("Procurement", "Inventory", "Production", "Invoice matching", "The ten worst:"):
        assert title in text
    assert "invoice.csv: " in text and "duplicate rows removed" in text


# ── Choices ──


def test_rules_parameters_and_key_date(company):
    folder = company[0]
    report, _ = analyze(folder, "--rules", "PRO-001,IMT-007", "--param", "PRO-001.one_time_limit=100000000")
    assert [r["rule_id"] for c in report["categories"] for r in c["rules"]] == ["PRO-001", "IMT-007"]
    assert rule_of(report, "PRO-001")["params"]["one_time_limit"] == "100000000"
    assert "one_time" not in {f["reason"] for f in findings(report, "PRO-001").values()}
    _, text = analyze(folder, "--as-of", "2025-06-29", "--rules", "INV-001,PRO-001")
    assert "The stock is of another day than the key date: read INV-001 with care." in text
    early, _ = analyze(folder, "--as-of", "2020-01-01", "--rules", "PRO-001")
    assert (early["as_of"], coverage(early)["PRO-001"]["population"]) == ("2020-01-01", 0)


@pytest.mark.parametrize("args, named", [
    (["--rules", "PRO-999"], "PRO-999"),
    (["--rules", ","], "--rules names no rule"),
    (["--param", "PRO-001.limit=3"], 'kontor analyze: PRO-001 has no parameter "limit"'),
    (["--param", "XYZ-001.limit=3"], "XYZ-001"),
    (["--param", "PRO-001.one_time_limit=many"], "one_time_limit"),
    (["--param", "one_time_limit=3"], "RULE.name=VALUE"),
    (["--mapping", "sap"], "'sap'"),
    (["--as-of", "2024-02-30"], "2024-02-30"),
    (["--format", "xml"], "xml"),
    (["--nothing"], "--nothing"),
])
def test_a_wrong_choice_is_named(company, args, named):
    done = kontor("analyze", "--data", company[0], *args, code=2)
    assert named in done.stderr


@pytest.mark.parametrize("args, named", [
    (["--n", "5"], "--n"), (["--n", "x"], "--n"), (["--seed", "-1"], "--seed"), (["--rate", "2"], "--rate"),
    (["--rules", "FIN-001"], "FIN-001"), (["--as-of", "soon"], "--as-of"),
])
def test_demo_data_names_a_wrong_choice(tmp_path, args, named):
    assert named in kontor("demo-data", "--out", tmp_path / "x", *args, code=2).stderr
    assert not (tmp_path / "x").exists()


def test_no_folder_is_a_failure(tmp_path):
    assert "nowhere" in kontor("analyze", "--data", tmp_path / "nowhere", code=1).stderr
    kontor("analyze", code=2)
    kontor("demo-data", code=2)


@pytest.mark.parametrize("args", [("--version",), ("--help",), ("analyze", "--format", "table"), ("analyze", "--format", "json")])
def test_output_that_cannot_be_written_is_a_failure(company, args):
    if args[0] == "analyze":
        args = (*args, "--data", company[0])
    with open("/dev/full", "w") as full:
        done = subprocess.run([KONTOR, *args], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, "cannot write to standard output" in done.stderr) == (1, True), done.stderr
    # A reader that has seen enough is no complaint.
    head = subprocess.Popen(["head", "-c", "1"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    done = subprocess.run([KONTOR, *args], stdout=head.stdin, stderr=subprocess.PIPE, text=True, timeout=60)
    head.stdin.close()
    assert head.wait(10) == 0 and done.stderr == ""


# ── Bad data ──


INVOICES = "invoice_id,fiscal_year,company_id,vendor_id,reference,doc_date,currency,gross,status"


def test_no_data_evaluates_nothing(tmp_path):
    report, text = analyze(tmp_path)
    assert {c["status"] for c in report["data"]["coverage"]} == {"not_evaluable"}
    assert report["as_of"] is None and report["data"]["tables"] == []
    assert "There is no data" in text
    for rule_id in RULES:
        assert f"{rule_id} not_evaluable" in text


def test_missing_columns_are_named(tmp_path):
    write(tmp_path / "invoice.csv", "invoice_id,vendor_id,doc_date,gross", "1,V1,2025-01-01,10.00")
    report, text = analyze(tmp_path, "--as-of", "2025-06-30")
    entry = coverage(report)["IMT-007"]
    assert entry["status"] == "not_evaluable"
    assert "invoice.currency" in {m for n in entry["not_run"] for m in n["missing"]}
    assert "invoice.currency" in text


def test_bad_cells_are_reported_by_line_and_the_rest_is_kept(tmp_path):
    write(tmp_path / "invoice.csv", INVOICES,
          "1,2025,C,V1,R1,2025-01-01,USD,100.00,posted",
          "2,2025,C,V1,R1,2025-01-01,USD,100.00,posted",
          "3,2025,C,V1,R1,2025-13-01,USD,100.00,posted",
          "4,2025,C,V1,R1,2025-01-01,USD,hundred,posted",
          "5,2025,C,V1,R1,2025-01-01,USD,100.00,unheard",
          "2,2025,C,V1,R1,2025-01-01,USD,100.00,posted")
    report, text = analyze(tmp_path, "--as-of", "2025-06-30", "--rules", "IMT-007")
    (finding,) = findings(report).values()
    assert finding["finding_key"] == "1|2025"
    assert Decimal(finding["impact"]["amount"]) == 100  # of 1 and 2: a document of unknown status does not count
    assert "invoice.csv:4 doc_date" in text
    assert "invoice.csv:5 gross" in text
    assert "invoice.csv:6 status" in text
    assert "invoice.csv: 1 duplicate rows removed" in text


def test_documents_without_a_company_compare(tmp_path):
    """A data set of one company need not name it."""
    write(tmp_path / "invoice.csv", "invoice_id,vendor_id,reference,doc_date,currency,gross",
          "100,V7,RE-55,2026-01-10,EUR,1200.00", "104,V7,re 55,2026-01-10,EUR,1200.00")
    report, _ = analyze(tmp_path, "--as-of", "2026-01-31")
    assert [f["finding_key"] for f in findings(report, "IMT-007").values()] == ["100|"]


def test_one_key_with_two_values_is_an_error_of_the_data(tmp_path):
    write(tmp_path / "invoice.csv", INVOICES,
          "1,2025,C,V1,R1,2025-01-01,USD,100.00,posted", "1,2025,C,V1,R1,2025-01-01,USD,200.00,posted")
    report, text = analyze(tmp_path, "--as-of", "2025-06-30", "--rules", "IMT-007")
    assert findings(report) == {}
    assert "invoice.csv:3" in text


@pytest.mark.parametrize("content, named", [
    (b"invoice_id,gross\n1,\x00\n", "invoice.csv:2"),
    (b'invoice_id,gross\n1,"5\n', "invoice.csv"),
    (b"invoice_id,gross\n1,\xff\n", "invoice.csv:2"),
    (b"invoice_id,gross\n1,2,3\n", "invoice.csv:2"),
])
def test_broken_csv_is_named(tmp_path, content, named):
    (tmp_path / "invoice.csv").write_bytes(content)
    done = subprocess.run([KONTOR, "analyze", "--data", tmp_path, "--as-of", "2025-06-30"], capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, 1)
    assert named in done.stdout + done.stderr


def test_a_run_without_key_date_is_refused(tmp_path):
    write(tmp_path / "invoice.csv", INVOICES, "1,2025,C,V1,R1,2025-01-01,USD,100.00,posted")
    assert "as_of" in kontor("analyze", "--data", tmp_path, code=2).stderr
