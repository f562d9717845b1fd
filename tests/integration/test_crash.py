"""kill -9 at random points: 20 rounds here, 100 in tests/storm (make storm)."""
import time

from crash import storm


def test_nothing_is_lost_without_a_word(make_service):
    storm(make_service, 20, seed=int(time.time()))
