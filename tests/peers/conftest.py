"""The fixtures of the integration tests, and the peers that tests/run-peers installed."""
import importlib.util
import subprocess
from pathlib import Path

import docker_engine
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
spec = importlib.util.spec_from_file_location("integration", ROOT / "tests/integration/conftest.py")
integration = importlib.util.module_from_spec(spec)
spec.loader.exec_module(integration)
make_service, service = integration.make_service, integration.service


@pytest.fixture
def node():
    """node(*arguments, timeout=) -> (exit code, output); module names resolve in .peers."""
    modules = ROOT / ".peers/node_modules"
    assert modules.is_dir(), "the npm peers are not installed"

    def run(*arguments, timeout=120, **more):
        done = subprocess.run(["node", *map(str, arguments)], cwd=ROOT / ".peers", timeout=timeout, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **more)
        return done.returncode, done.stdout
    run.modules = modules
    return run


@pytest.fixture(scope="session")
def engine():
    """A Docker Engine that has the base image; where none can run, whoever asks for it fails."""
    with docker_engine.Engine() as engine:
        yield engine
