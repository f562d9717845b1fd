"""The same data give the same report: whatever the order of rows, the format of the files, the number of workers, and whoever
asks. Of all rules, with their evidence; only where a row was found (`source`) and what the files' bytes are may differ."""
import csv
import gzip
import json
import random
import re

import pytest

from analysis import RULES, demo, findings, kontor, rows, write

P = "/api/v1/projects/acme"
IDS = re.compile(r'"(project_id|run_id)": ?("[^"]*"|null)')


def report_of(folder, name="report.json", *args):
    path = folder.parent / name
    kontor("analyze", "--data", folder, "--as-of", "2025-06-30", "--report", path, *args)
    return path.read_text()


@pytest.fixture(scope="module")
def company(tmp_path_factory):
    folder = demo(tmp_path_factory.mktemp("stable") / "company", "--n", 600, "--seed", 21)
    return folder, report_of(folder)


def unplaced(value):
    """Without the places of rows."""
    if isinstance(value, dict):
        return {k: unplaced(v) for k, v in value.items() if k != "source"}
    return [unplaced(v) for v in value] if isinstance(value, list) else value


def content(text):
    """What must not depend on the files' bytes, in the order of the report."""
    report = json.loads(text)
    for table in report["data"]["tables"]:
        del table["sha256"]
        table["name"] = table["name"].partition(".")[0]
    for category in report["categories"]:
        for rule in category["rules"]:
            del rule["input_hash"]
    return json.dumps(unplaced(report), indent=1)


def shuffled(folder, to, seed):
    """A copy with the rows and the columns of each table in another order."""
    to.mkdir()
    draw = random.Random(seed)
    for path in sorted(folder.glob("*.csv")):
        lines = rows(path)
        names = list(lines[0]) if lines else path.read_text().strip().split(",")
        draw.shuffle(lines)
        draw.shuffle(names)
        write(to / path.name, ",".join(names), *(",".join(line[name] for name in names) for line in lines))
    return to


def test_all_rules_find_something(company):
    assert {rule for rule, _ in findings(json.loads(company[1]))} == set(RULES)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_order_of_rows_and_columns_changes_nothing(company, tmp_path, seed):
    folder, text = company
    assert content(report_of(shuffled(folder, tmp_path / "shuffled", seed))) == content(text)


def test_ndjson_tells_the_same_as_csv(company, tmp_path):
    folder, text = company
    other = tmp_path / "ndjson"
    other.mkdir()
    for path in folder.glob("*.csv"):
        with open(other / f"{path.stem}.ndjson", "w") as f:
            for row in rows(path):
                f.write(json.dumps({name: cell or None for name, cell in row.items()}) + "\n")
    assert content(report_of(other)) == content(text)


def test_bom_crlf_and_quotes_tell_the_same(company, tmp_path):
    folder, text = company
    other = tmp_path / "excel"
    other.mkdir()
    for path in folder.glob("*.csv"):
        with open(path, newline="") as f, open(other / path.name, "w", newline="", encoding="utf-8-sig") as g:
            csv.writer(g, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerows(csv.reader(f))
    assert content(report_of(other)) == content(text)


def test_the_key_of_a_finding_does_not_depend_on_other_rows(company, tmp_path):
    folder, text = company
    other = tmp_path / "fewer"
    other.mkdir()
    # Without the rows of the other cases of one table the findings that are left keep key and evidence.
    before = {k: unplaced(f) for k, f in findings(json.loads(text)).items()}
    for path in folder.glob("*.csv"):
        lines = path.read_text().splitlines()
        keep = lines if path.name != "inspection_lot.csv" else [lines[0]] + [x for i, x in enumerate(lines[1:]) if i % 2]
        write(other / path.name, *keep)
    after = {k: unplaced(f) for k, f in findings(json.loads(report_of(other))).items()}
    assert {k for k in before if k[0] != "PRD-003"} <= set(after) < set(before)
    assert after == {k: before[k] for k in after}


@pytest.mark.parametrize("workers", ["1", "3"])
def test_the_service_gives_the_bytes_of_the_command(company, make_service, workers):
    folder, text = company
    service = make_service(KONTOR_WORKERS=workers).start()
    instance = service.erp()
    dataset = service.made(f"{P}/datasets", {"name": "d", "mapping": "identity", "as_of": "2025-06-30"})["dataset_id"]
    for i, path in enumerate(sorted(folder.glob("*.csv"), reverse=True)):
        data, headers = path.read_bytes(), {"Content-Type": "text/csv"}
        if i % 2:  # compressed or not: the table is what is in it
            data, headers["Content-Encoding"] = gzip.compress(data), "gzip"
        answer = service.request("PUT", f"{P}/datasets/{dataset}/tables/{path.name}", data, headers)
        assert answer.status == 200, answer.body
    service.made(f"{P}/datasets/{dataset}/seal", {})
    for _ in range(2):  # the second run has a trend
        run = service.execute(instance, input_data={"dataset_id": dataset})
        assert run["status"] == "completed", run["error"]
        body = service.get(f"{P}/executions/{run['execution_id']}/report").body.decode()
        trend = re.compile(r'"trend_vs_previous_run": ?\{[^}]*\}')
        assert trend.sub("", IDS.sub("", body)).strip() == trend.sub("", IDS.sub("", text)).strip()
