"""kontor score: precision, recall and exactness of every rule against the labels of the generator."""
import csv
import json

import pytest

from analysis import RULES, demo, kontor, rows


def scored(text):
    """{rule: {column: text}} of the table; lines that begin with blanks say what is wrong."""
    head, *lines = [line for line in text.splitlines() if not line.startswith(" ")]
    names = head.split()
    return {line.split()[0]: dict(zip(names[1:], line.split()[1:])) for line in lines}


@pytest.fixture(scope="module")
def company(tmp_path_factory):
    folder = demo(tmp_path_factory.mktemp("score") / "company", "--n", 600, "--seed", 3)
    report = folder.parent / "report.json"
    kontor("analyze", "--data", folder, "--report", report)
    return folder, report


@pytest.mark.parametrize("seed", [1, 7, 18446744073709551615])
def test_every_rule_is_exact(tmp_path, seed):
    folder, report = demo(tmp_path / "company", "--n", 3000, "--seed", seed), tmp_path / "report.json"
    kontor("analyze", "--data", folder, "--report", report)
    table = scored(kontor("score", "--findings", report, "--labels", folder / "labels.csv").stdout)
    assert set(table) == {*RULES, "all"}
    assert len(RULES) == 16
    for rule, line in table.items():
        shares = {name: line[name] for name in ("precision", "recall", "reason", "severity", "impact")}
        assert shares == dict.fromkeys(shares, "1.000"), rule
        assert int(line["tp"]) >= 5 and (line["fp"], line["fn"]) == ("0", "0"), rule


def test_what_is_wrong_is_counted_and_named(company, tmp_path):
    folder, path = company
    report = json.loads(path.read_text())
    found = [f for c in report["categories"] for r in c["rules"] if r["rule_id"] == "PRD-004" for f in r["findings"]]
    rule = next(r for c in report["categories"] for r in c["rules"] if r["rule_id"] == "PRD-004")
    trap = next(x for x in rows(folder / "labels.csv") if x["rule_id"] == "PRD-004" and x["must"] == "must_not")
    found[0]["severity"] = "critical" if found[0]["severity"] != "critical" else "low"
    found[1]["impact"]["amount"] = "0.01"
    rule["findings"].remove(found[2])
    rule["findings"].append(dict(found[3], finding_key=trap["finding_key"]))
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps(report))
    text = kontor("score", "--findings", changed, "--labels", folder / "labels.csv", code=1).stdout
    table, n = scored(text), len(found)
    assert table["PRD-004"] == {"tp": str(n - 1), "fp": "1", "fn": "1", "precision": f"{(n - 1) / n:.3f}", "recall": f"{(n - 1) / n:.3f}",
                                "reason": "1.000", "severity": f"{(n - 2) / (n - 1):.3f}", "impact": f"{(n - 2) / (n - 1):.3f}"}
    assert table["INV-002"]["precision"] == "1.000"
    for said in (f"{trap['finding_key']} found, {trap['trap']}", f"{found[2]['finding_key']} (", "not found", "severity ", "impact 0.01 "):
        assert said in text


def test_a_label_more_is_a_finding_less(company, tmp_path):
    folder, path = company
    labels = tmp_path / "labels.csv"
    with open(folder / "labels.csv", newline="") as f:
        header, *lines = csv.reader(f)
    labels.write_text("\n".join(",".join(x) for x in [header, *lines, ["PRO-001", "nobody", "fire", "role", "low", "1", "USD", "X", "1", ""]]) + "\n")
    text = kontor("score", "--findings", path, "--labels", labels, code=1).stdout
    assert scored(text)["PRO-001"]["fn"] == "1"
    assert "nobody (X) not found" in text


def test_bad_input_is_named(company, tmp_path):
    folder, path = company
    assert "--report" in kontor("score", "--report", path, "--labels", folder / "labels.csv", code=2).stderr
    assert "--findings" in kontor("score", "--labels", folder / "labels.csv", code=2).stderr
    assert "nowhere.json" in kontor("score", "--findings", tmp_path / "nowhere.json", "--labels", folder / "labels.csv", code=1).stderr
    other = tmp_path / "other.json"
    other.write_text('{"a": 1}')
    assert "is no report" in kontor("score", "--findings", other, "--labels", folder / "labels.csv", code=1).stderr
