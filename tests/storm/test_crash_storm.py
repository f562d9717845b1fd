"""kill -9 at random points, 100 rounds."""
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "integration"))

from conftest import make_service  # noqa: E402,F401
from crash import storm  # noqa: E402


def test_nothing_is_lost_without_a_word(make_service):  # noqa: F811
    storm(make_service, 100, seed=int(time.time()))
