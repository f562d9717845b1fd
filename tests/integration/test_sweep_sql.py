"""The rules against SQL written from the rule text, on generated data: keys, reasons, amounts,
severities, evidence. The data and the SQL are those of the benchmark (tests/bench/sweep.py)."""
import decimal
import sys
from pathlib import Path

import duckdb
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "bench"))
import sweep  # noqa: E402
import sweep_data  # noqa: E402
import sweep_sql  # noqa: E402


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    decimal.getcontext().prec = 60
    folder = tmp_path_factory.mktemp("sweep")
    db = duckdb.connect(config={"threads": 2})
    sweep_data.make(db, folder, 20000)
    sweep.typed(db)
    results, _ = sweep.kontor(folder, list(sweep_sql.RULES), sweep_data.TABLES)
    return db, results


@pytest.mark.parametrize("rule", sweep_sql.RULES)
def test_finds_what_the_sql_finds(answers, rule):
    db, results = answers
    want = sweep.ask(db, rule)
    assert len(want) >= 20, "the data must have cases"
    assert list(sweep.differences(results[rule][0], want)) == []
