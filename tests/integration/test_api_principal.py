"""Who asks: the implicit admin over TCP, the service's user over the admin socket."""
import http.client
import json
import os
import socket
import stat

from client import Client, check_problem

MASTER = "/api/v1/master"


class Unix(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=30)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


def over_socket(service, method, path, body, **headers):
    connection = Unix(str(service.data / "kontor.sock"))
    connection.request(method, path, json.dumps(body), {"Content-Type": "application/json", **headers})
    response = connection.getresponse()
    text = response.read()
    connection.close()
    return response.status, json.loads(text)


def prompt(name):
    return {"prompt_id": name, "name": "P", "template": "x"}


def test_the_admin_socket(service):
    mode = os.stat(service.data / "kontor.sock").st_mode
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600
    status, doc = over_socket(service, "POST", f"{MASTER}/system-prompts", prompt("by-socket"), **{"X-Kontor-User": "ann"})
    assert (status, doc["created_by"], doc["updated_by"]) == (201, "ann", "ann")
    # No page reaches it, so Host and Origin say nothing here.
    status, _ = over_socket(service, "PUT", f"{MASTER}/system-prompts/by-socket", {"name": "P", "template": "y"},
                            Host="anything.example", Origin="https://anything.example")
    assert status == 200
    # A name that is none is not taken over.
    status, doc = over_socket(service, "POST", f"{MASTER}/system-prompts", prompt("by-nobody"), **{"X-Kontor-User": "a b/../c"})
    assert status == 201 and doc["created_by"] != "a b/../c"


def test_over_tcp_it_is_dev(service):
    doc = Client(service.port).ok("POST", f"{MASTER}/system-prompts", prompt("by-tcp"), want=(201,), headers={"X-Kontor-User": "ann"})
    assert doc["created_by"] == "dev"
    named = Client(service.port).ok("POST", f"{MASTER}/system-prompts", {**prompt("named"), "created_by": "The team"}, want=(201,))
    assert (named["created_by"], named["updated_by"]) == ("The team", "dev")


def test_further_hosts(make_service):
    service = make_service(KONTOR_HOSTS="kontor.lan,Other.lan:81").start()
    api = Client(service.port)
    for host in ("kontor.lan", "KONTOR.lan:8000", "other.lan:81", "localhost"):
        assert api.get("/health", headers={"Host": host}).status == 200, host
    for host in ("other.lan", "other.lan:82", "evil.example"):
        check_problem(api.get("/health", headers={"Host": host}), 403, "origin_refused")
    assert api.put("/api/v1/master/projects/default", {"project_name": "D", "customer_name": "D"},
                   headers={"Host": "kontor.lan", "Origin": "http://kontor.lan"}).status == 200


def test_one_project_only(make_service):
    service = make_service().start()
    Client(service.port).ok("POST", f"{MASTER}/projects", {"project_id": "second", "project_name": "S", "customer_name": "S"})
    service.stop()
    service = make_service(KONTOR_DATA_DIR=service.data, ENABLE_MULTI_TENANT="0").start()
    api = Client(service.port)
    assert api.get("/api/v1/projects/default/datasets").status == 200
    check_problem(api.get("/api/v1/projects/second/datasets"), 404, "not_found")
    check_problem(api.get(f"{MASTER}/projects/second"), 404, "not_found")
    assert [p["project_id"] for p in api.ok("GET", f"{MASTER}/projects")["data"]] == ["default"]
    check_problem(api.post(f"{MASTER}/projects", {"project_id": "third", "project_name": "S", "customer_name": "S"}), 403, "forbidden")
