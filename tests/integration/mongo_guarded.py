"""A MongoDB server that wants to know who is there, and services on it with KONTOR_PROJECT_USERS."""
import contextlib
import hashlib
import hmac

import pymongo
from mongo_server import Server

from conftest import Service

PASSWORD = "S3cret:of/all words"
KEY, OTHER_KEY = "7" * 64, "8" * 64
# The least that the user of the URL needs: docs/store.md. It reads and writes no document of a project.
SERVICE_ACTIONS = ["listCollections", "createCollection", "dropDatabase", "validate", "createUser", "changePassword", "grantRole",
                   "revokeRole", "dropUser"]
# secantusd-py asks for these two where MongoDB asks for validate and changePassword.
SECANTUS_ACTIONS = ["collStats", "changeOwnPassword"]
ROOT = ("all of it", ["root"])


@contextlib.contextmanager
def guarded():
    """A started one with the users root, kontor (the service's) and plain, which may read and write everywhere."""
    with Server() as server:
        # On MongoDB readWriteAnyDatabase lists databases too; on secantusd-py it is clusterMonitor.
        yield server.guard(root=ROOT, plain=(PASSWORD, ["readWriteAnyDatabase", "clusterMonitor"]),
                           kontor=(PASSWORD, ["readWriteAnyDatabase", "dbAdminAnyDatabase", "userAdminAnyDatabase", "clusterMonitor"]))


def through(proxy, server):
    """The service's URL by way of the proxy."""
    return server.url_of("kontor", PASSWORD).replace(f"{server.address}/?replicaSet=secantus", f"127.0.0.1:{proxy.port}/?directConnection=true")


def as_root(server):
    return pymongo.MongoClient(server.url_of("root", ROOT[0]))


def as_user(server, database, password):
    """As a project's user."""
    return pymongo.MongoClient(server.url, username="kontor", password=password, authSource=database, authMechanism="SCRAM-SHA-256")


def password_of(database, key=KEY):
    """What the service derives."""
    return hmac.new(bytes.fromhex(key), b"kontor password 1\nproject user of " + database.encode(), hashlib.sha256).hexdigest()


def users_of(server, database):
    """[(name, [(role, database)])] of those that are kept in the database."""
    with as_root(server) as client:
        return [(u["user"], [(r["role"], r["db"]) for r in u["roles"]]) for u in client[database].command("usersInfo", 1)["users"]]


class Guarded(Service):
    """Its user in MONGODB_URL is kontor; tests look at the documents as root."""

    def __init__(self, tmp, server, **env):
        self.server = server
        super().__init__(tmp, **{"MONGODB_URL": server.url_of("kontor", PASSWORD), "KONTOR_PROJECT_USERS": "1", "KONTOR_MASTER_KEY": KEY, **env})

    def mongo(self):
        return as_root(self.server)
