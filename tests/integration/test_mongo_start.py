"""The start on MongoDB: what is wrong is said, within the time that an orchestrator waits, and without the password."""
import subprocess
import time
import urllib.parse

import pytest
from mongo_proxy import Proxy
from mongo_server import Server, free_port

from conftest import eventually

PASSWORD = "S3cret:of/all words"
QUOTED = urllib.parse.quote(PASSWORD, safe="")


@pytest.fixture(scope="module")
def server():
    with Server() as made:
        yield made


@pytest.fixture(scope="module")
def guarded():
    """With access control, and the user kontor."""
    with Server() as made:
        yield made.guard(kontor=(PASSWORD, ["root"]))


@pytest.fixture(scope="module")
def papers(tmp_path_factory):
    """Files of a CA, another CA, a server and a client of the first."""
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*args):
        subprocess.run(["openssl", *map(str, args)], cwd=folder, check=True, capture_output=True)
    for ca in ("ca", "other"):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", 2, "-subj", f"/CN={ca}",
                "-keyout", f"{ca}.key", "-out", f"{ca}.pem")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1")
    for name in ("server", "client"):
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={name}",
                "-keyout", f"{name}.key", "-out", f"{name}.csr")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", 2,
                "-extfile", "names", "-out", f"{name}.crt")
        (folder / f"{name}.pem").write_text((folder / f"{name}.key").read_text() + (folder / f"{name}.crt").read_text())
    return folder


def refused(make_service, url, *told):
    """The service ends with 1 and says each of these; nobody reads the password anywhere."""
    service = make_service(MONGODB_URL=url).launch()
    began = time.monotonic()
    code = service.process.wait(60)
    seconds = time.monotonic() - began
    text = service.text() + "".join(p.read_text("utf-8", "replace") for p in (service.tmp / "logs").glob("*"))
    assert code == 1, text[-2000:]
    assert seconds < 10, "an orchestrator waits 10 s"  # the one bound that the issue names
    for words in (*told, "MONGODB_URL"):
        assert words in text, (words, text[-2000:])
    for secret in (PASSWORD, QUOTED, PASSWORD.split(":")[0]):
        assert secret not in text
    return text


def served(make_service, url):
    """It starts, keeps and gives a document, and ends; all that it said."""
    service = make_service(MONGODB_URL=url).start()
    service.made("/api/v1/master/projects", {"project_id": "kept", "project_name": "P", "customer_name": "C"})
    assert service.get("/api/v1/master/projects/kept").json()["project_name"] == "P"
    assert service.get("/ready").status == 200
    said = service.get("/metrics").body + service.get("/api/v1/master/health").body
    service.stop()
    return said.decode() + service.text()


def test_nobody_is_there(make_service):
    address = f"127.0.0.1:{free_port()}"
    refused(make_service, f"mongodb://kontor:{QUOTED}@{address}/?replicaSet=rs0", address)


def test_a_port_that_says_nothing(make_service, server):
    with Proxy("127.0.0.1", server.port) as proxy:
        for name in ("hello", "isMaster", "ismaster"):
            proxy.add("hang", name, times=-1)
        refused(make_service, f"mongodb://kontor:{QUOTED}@127.0.0.1:{proxy.port}/?directConnection=true", f"127.0.0.1:{proxy.port}")


def test_another_set(make_service, server):
    refused(make_service, f"mongodb://kontor:{QUOTED}@{server.address}/?replicaSet=other", "other", "secantus")


def test_a_standalone_server(make_service):
    with Server("--standalone") as alone:
        refused(make_service, f"mongodb://{alone.address}/", "standalone")


@pytest.mark.parametrize("wire, version", [(6, "3.6"), (8, "4.2"), (2, "2.6")])
def test_a_server_that_is_too_old(make_service, server, wire, version):
    with Proxy("127.0.0.1", server.port) as proxy:
        proxy.hello = {"maxWireVersion": wire, "minWireVersion": 0, "topologyVersion": None}
        refused(make_service, proxy.url, "older than MongoDB 4.4")


def test_a_set_with_another_name_behind_one_address(make_service, server):
    with Proxy("127.0.0.1", server.port) as proxy:
        proxy.hello = {"setName": "theirs", "topologyVersion": None}
        refused(make_service, f"mongodb://127.0.0.1:{proxy.port}/?replicaSet=ours", "theirs", "ours")


def test_users(make_service, guarded):
    """SCRAM: the right one is served; a wrong password, an unknown user and none are told apart from no server."""
    text = served(make_service, guarded.url_of("kontor", PASSWORD))
    assert PASSWORD not in text and QUOTED not in text and PASSWORD.split(":")[0] not in text
    refused(make_service, guarded.url_of("kontor", PASSWORD + "x"), "refuses the user kontor")
    refused(make_service, guarded.url_of("stranger", PASSWORD), "refuses the user stranger")
    refused(make_service, f"mongodb://{guarded.address}/?replicaSet=secantus", "user")


def test_tls(make_service, papers):
    with Server("--tls-cert-file", papers / "server.crt", "--tls-key-file", papers / "server.key") as safe:
        url = f"mongodb://{safe.address}/?replicaSet=secantus"
        served(make_service, f"{url}&tls=true&tlsCAFile={papers}/ca.pem")
        refused(make_service, url, safe.address)
        refused(make_service, f"{url}&tls=true&tlsCAFile={papers}/other.pem", safe.address)


def test_client_certificates(make_service, papers):
    with Server("--tls-cert-file", papers / "server.crt", "--tls-key-file", papers / "server.key", "--tls-ca-file", papers / "ca.pem",
                "--tls-require-client-cert") as strict:
        url = f"mongodb://{strict.address}/?replicaSet=secantus&tls=true&tlsCAFile={papers}/ca.pem"
        served(make_service, f"{url}&tlsCertificateKeyFile={papers}/client.pem")
        refused(make_service, url, strict.address)


def test_a_server_that_goes_and_comes_back(make_service):
    """/ready says why not, requests are told to come back; what was accepted goes on."""
    with Server("--sync-on-commit") as server:
        service = make_service(MONGODB_URL=server.url).start()
        instance = service.erp()
        running = service.execute(instance, wait=False)["execution_id"]
        server.kill()
        answer = eventually(lambda: (a := service.get("/ready")).status == 503 and a, "it is not ready")
        store = answer.json()["checks"]["store"]
        assert (store["ok"], store["error"]) == (False, "store_unavailable")
        for method, path, body in (("GET", "/api/v1/projects/acme/executions", None), ("GET", "/api/v1/master/projects/acme", None),
                                   ("POST", "/api/v1/projects/acme/executions", {"instance_id": instance, "async_execution": True})):
            lost = service.request(method, path, body)
            assert lost.status == 503 and lost.headers["Retry-After"] and lost.json()["retryable"], lost.body
        server.start()
        eventually(lambda: service.get("/ready").status == 200, "it is ready again")
        done = eventually(lambda: (a := service.get(f"/api/v1/projects/acme/executions/{running}")).status == 200
                          and a.json()["status"] in ("completed", "failed") and a.json(), "the run ends")
        assert done["status"] == "completed", done
        service.stop()
