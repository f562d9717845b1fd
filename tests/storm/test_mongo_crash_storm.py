"""kill -9 of the service and of MongoDB at random points, 50 and 100 rounds."""
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "integration"))

from conftest import make_service  # noqa: E402,F401
from mongo_crash import storm  # noqa: E402
from mongo_server import Server  # noqa: E402


@pytest.mark.parametrize("rounds", [50, 100])
def test_nothing_acknowledged_is_lost(make_service, rounds):  # noqa: F811
    with Server("--sync-on-commit") as server:
        storm(make_service, server, rounds, seed=int(time.time()))
