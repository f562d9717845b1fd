"""No query runs without an index on the embedded store: SQLite's own plan of every statement that the service prepares."""
import os
import re
import subprocess

from exercise import WHOLE, exercise

from conftest import ROOT


def test_every_query_has_its_index(make_service, tmp_path):
    library, plans = tmp_path / "plans.so", tmp_path / "plans"
    subprocess.run(["gcc", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, ROOT / "tests/fault/sqlite_plans.c"], check=True)
    # With ASan its own library is the second then, which it would refuse.
    options = os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
    service = make_service(LD_PRELOAD=library, SQLITE_PLANS=plans, ASAN_OPTIONS=options).start()
    exercise(service)
    service.stop()
    lines = set(plans.read_text().splitlines())
    scans = [line for line in lines for coll in re.findall(r"SCAN c_(\w+) (?!USING (?:COVERING )?INDEX)", line) if coll not in WHOLE]
    assert sum("USING" in line for line in lines) > 60
    assert not scans, "\n".join(scans)
