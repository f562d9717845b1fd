"""One service for a whole module of API tests, and services that a test starts itself."""
from pathlib import Path

import pytest

from conftest import Service


def _started(tmp, keep=None, env=None):
    made = Service(tmp, **(env or {}))
    if keep:
        made.env["KONTOR_DATA_DIR"] = str(keep)
    made.data = Path(made.env["KONTOR_DATA_DIR"])
    try:
        return made.start()
    except BaseException:
        made.kill_all()
        raise


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    made = _started(tmp_path_factory.mktemp("api"))
    try:
        yield made
        made.stop()
    finally:
        made.kill_all()


@pytest.fixture
def start_service(tmp_path):
    """start_service(env=, keep=data folder of an earlier one) -> a started Service."""
    made = []

    def start(env=None, keep=None):
        made.append(_started(tmp_path / f"service{len(made)}", keep, env))
        return made[-1]
    try:
        yield start
        for one in made:
            one.stop()
    finally:
        for one in made:
            one.kill_all()
