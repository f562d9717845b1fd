"""kill -9 of the service and of MongoDB at random points of 2,000 writes: 10 rounds here, 50 and 100 in tests/storm."""
import time

from mongo_crash import WRITES, storm
from mongo_server import Server

ROUNDS = 10


def test_nothing_acknowledged_is_lost(make_service):
    # Without the option secantusd-py loses transactions that it has acknowledged with j: true, which MongoDB does not.
    with Server("--sync-on-commit") as server:
        assert storm(make_service, server, ROUNDS, seed=int(time.time())) >= ROUNDS * WRITES
