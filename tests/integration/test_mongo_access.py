"""Who may do what, route by route, where MongoDB keeps the projects apart too: the tests of test_access on a service with
KONTOR_PROJECT_USERS, whose own user can read no document of a project. So each route's way to a project is the project's user."""
import pytest
from mongo_guarded import PASSWORD, SECANTUS_ACTIONS, SERVICE_ACTIONS, Guarded, as_root, guarded, users_of
from test_access import *  # noqa: F403 - its tests and fixtures

from conftest import serving


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with guarded() as server:
        def made(tmp):
            service = Guarded(tmp, server, MONGODB_URL=server.url_of("narrow", PASSWORD))
            with as_root(server) as client:
                client.admin.command(
                    "createRole", "kontorService", roles=[{"role": "readWrite", "db": service.master}], privileges=[
                        {"resource": {"db": "", "collection": ""}, "actions": [*SERVICE_ACTIONS, *SECANTUS_ACTIONS]},
                        {"resource": {"cluster": True}, "actions": ["listDatabases"]}])
                client.admin.command("createUser", "narrow", pwd=PASSWORD, roles=["kontorService"])
            return service
        with serving(tmp_path_factory.mktemp("service"), made) as service:
            yield service


def test_each_project_has_its_user(world):
    prefix = world.service.prefix
    for project in ("mine", "other"):
        assert users_of(world.service.server, prefix + project) == [("kontor", [("readWrite", prefix + project)])]
