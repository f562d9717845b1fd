"""What the tests of `kontor analyze` share."""
import csv
import json
import subprocess
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import duckdb
import pytest

from conftest import KONTOR, ROOT

RULES = sorted(p.stem for p in (ROOT / "agents/erp-exception-management/rules").glob("*.lua"))
CATEGORIES = ["financial", "procurement", "inventory", "order_fulfillment", "production", "invoice_matching"]


def shared_data():
    for folder in ROOT.parents:
        if (folder / "shared/erp-data/adventureworks").is_dir():
            return folder / "shared/erp-data"
    return None


ERP_DATA = shared_data()
needs_data = pytest.mark.skipif(ERP_DATA is None, reason="../shared/erp-data is not here")


def kontor(*args, code=0):
    done = subprocess.run([KONTOR, *map(str, args)], capture_output=True, text=True, timeout=300)
    assert done.returncode == code, f"{args}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done


def demo(folder, *args):
    kontor("demo-data", "--out", folder, *args)
    return folder


def analyze(folder, *args):
    """The report, from its file."""
    report = Path(folder) / ".." / f"report-{Path(folder).name}.json"
    done = kontor("analyze", "--data", folder, "--report", report, *args)
    return json.loads(report.read_text()), done.stdout


def rows(path):
    with open(path, newline="") as f:
        return list(csv.DictReader(f))


def write(path, header, *lines):
    path.write_text("\n".join([header, *lines]) + "\n")


def findings(report, rule_id=None):
    return {(f["rule_id"], f["finding_key"]): f for c in report["categories"] for r in c["rules"] for f in r["findings"]
            if rule_id in (None, f["rule_id"])}


def coverage(report):
    return {c["rule_id"]: c for c in report["data"]["coverage"]}


def rule_of(report, rule_id):
    return next(r for c in report["categories"] for r in c["rules"] if r["rule_id"] == rule_id)


@pytest.fixture(scope="session")
def adventureworks(tmp_path_factory):
    if ERP_DATA is None:
        pytest.skip("../shared/erp-data is not here")
    path = tmp_path_factory.mktemp("aw") / "report.json"
    text = kontor("analyze", "--data", ERP_DATA / "adventureworks", "--mapping", "adventureworks", "--report", path).stdout
    db = duckdb.connect()
    for file in (ERP_DATA / "adventureworks").glob("*.csv"):
        db.execute(f"CREATE VIEW {file.stem} AS SELECT * FROM read_csv('{file}', all_varchar=true, header=true)")
    return json.loads(path.read_text()), text, db


def cents(value):
    return Decimal(value).quantize(Decimal("0.01"), ROUND_HALF_UP)


def band(amount):
    return 0 if amount < 1000 else 1 if amount < 10000 else 2 if amount < 100000 else 3


SEVERITY = ["low", "medium", "high", "critical"]
