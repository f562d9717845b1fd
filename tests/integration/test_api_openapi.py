"""The API document: valid, complete, and its examples can be sent as they stand."""
import gzip
import re

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from client import Client
from conftest import eventually

DEFAULT = "default"


@pytest.fixture(scope="module")
def api(service):
    # One of the examples makes a key, and from then on nobody is served without one.
    key = Client(service.port).ok("POST", "/api/v1/master/api-keys", {"name": "root", "role": "admin"})["api_key"]
    return Client(service.port, key=key)


@pytest.fixture(scope="module")
def document(api):
    return api.ok("GET", "/openapi.json", want=(200,))


def operations(document):
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def validator(document, schema):
    resource = Resource(contents=document, specification=DRAFT202012)
    registry = Registry().with_resource("urn:doc", resource)

    def absolute(node):
        if isinstance(node, dict):
            return {k: "urn:doc" + v if k == "$ref" else absolute(v) for k, v in node.items()}
        return [absolute(x) for x in node] if isinstance(node, list) else node
    resource = Resource(contents=absolute(document), specification=DRAFT202012)
    registry = Registry().with_resource("urn:doc", resource)
    return Draft202012Validator(absolute(schema), registry=registry)


def binary(content):
    """A body that is no text, of which no example can be written down."""
    return content["schema"].get("format") == "binary"


def wait_completed(api, job_id):
    def ended():
        job = api.ok("GET", f"/api/v1/master/jobs/{job_id}", want=(200,))
        return job if job["status"] != "running" else None
    job = eventually(ended, f"{job_id} has ended")
    assert job["status"] == "completed", job
    return job


def test_valid(document):
    validate(document)


def test_every_operation_is_documented(document):
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(ids) == len(set(ids)) and len(ids) >= 40
    for method, path, operation in operations(document):
        assert operation["summary"] and operation["responses"], (method, path)
        named = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
        assert named == set(re.findall(r"{([^}]+)}", path))
        if method in ("POST", "PUT"):
            for media, content in operation["requestBody"]["content"].items():
                assert "example" in content or binary(content), (method, path, media)


def test_examples_fit_their_schemas(document):
    for method, path, operation in operations(document):
        for media, content in operation.get("requestBody", {}).get("content", {}).items():
            if media == "application/json":
                faults = list(validator(document, content["schema"]).iter_errors(content["example"]))
                assert not faults, (method, path, faults)


def test_every_example_can_be_sent_after_setup(api, document):
    """Each POST and PUT of the document, with its own example, in an order that a reader would take."""
    api.ok("POST", "/api/v1/master/setup/erp-defaults", {}, want=(200,))
    made = {"project_id": DEFAULT, "agent_id": "erp-exception-management", "prompt_id": "erp-exception-management",
            "instance_id": "inst_legacy_erp-exception-management", "name": "invoice.csv", "n": "1",
            "path": "lib%2Fexample.lua", "tool_id": "ticket-search"}
    prompts = api.ok("GET", "/api/v1/master/system-prompts")["data"]
    made["prompt_id"] = prompts[0]["prompt_id"]
    order = {"createDataset": 0, "putTable": 1, "sealDataset": 2, "createExecution": 3, "cancelExecution": 4, "archiveDataset": 5,
             "createBackup": 6, "restoreProject": 7, "cloneProject": 8, "importProject": 9, "eraseProject": 10}
    todo = [o for o in operations(document) if o[0] in ("POST", "PUT")]
    for method, path, operation in sorted(todo, key=lambda o: order.get(o[2]["operationId"], -1)):
        name = operation["operationId"]
        if name == "eraseProject":  # of the one that createProject's example made
            made["project_id"] = operation["requestBody"]["content"]["application/json"]["example"]["confirm"]
        target = re.sub(r"{([^}]+)}", lambda m: made[m.group(1)], path)
        for media, content in operation["requestBody"]["content"].items():
            if name == "restoreProject":  # its example names a backup that setup does not make
                answer = api.send(method, target, {"backup_id": made["backup_id"]})
            elif media == "application/json":
                answer = api.send(method, target, content["example"])
            elif binary(content):
                data = api.get(f"/api/v1/projects/{DEFAULT}/export").body
                answer = api.send(method, f"{target}?project_id=by-{media.split('/')[1]}",
                                  raw=gzip.compress(data) if media == "application/gzip" else data, headers={"Content-Type": media})
            else:
                answer = api.send(method, target, raw=content["example"].encode(), headers={"Content-Type": media})
            # A short run may have ended before it is cancelled.
            ended = name == "cancelExecution" and answer.status == 409
            assert answer.status in (200, 201, 202, 204) or ended, (name, media, answer)
            if ended or answer.status == 204:
                continue
            doc = answer.json
            declared = operation["responses"][str(answer.status)]["content"]["application/json"]["schema"]
            faults = list(validator(document, declared).iter_errors(doc))
            assert not faults, (name, [f.message for f in faults], doc)
            if "job_id" in doc:
                job = wait_completed(api, doc["job_id"])
                made.update(job["result"] if name == "createBackup" else {})
            if name == "createDataset":
                made["dataset_id"] = doc["dataset_id"]
            if name == "createExecution":
                made["execution_id"] = doc["execution_id"]


def test_reads_answer_as_declared(api, document):
    """Every GET of a thing that is there fits its schema."""
    api.ok("POST", "/api/v1/master/setup/erp-defaults", {}, want=(200,))
    run = api.ok("POST", f"/api/v1/projects/{DEFAULT}/executions", {"instance_id": "inst_legacy_erp-exception-management"})
    api.wait_ended(DEFAULT, run["execution_id"])
    dataset = api.ok("POST", f"/api/v1/projects/{DEFAULT}/datasets", {})
    prompts = api.ok("GET", "/api/v1/master/system-prompts")["data"]
    made = {"project_id": DEFAULT, "agent_id": "erp-exception-management", "prompt_id": prompts[0]["prompt_id"],
            "instance_id": "inst_legacy_erp-exception-management", "n": "1", "execution_id": run["execution_id"],
            "dataset_id": dataset["dataset_id"], "tool_id": "read-it"}
    made["key_id"] = api.ok("POST", f"/api/v1/projects/{DEFAULT}/api-keys", {"name": "k", "role": "viewer"})["key_id"]
    api.ok("POST", "/api/v1/master/tools", {"tool_id": "read-it", "name": "Read", "description": "Reads.", "kind": "http",
                                            "http": {"method": "GET", "url": "https://tickets.example/"}}, want=(201,))
    made["job_id"] = api.ok("POST", f"/api/v1/projects/{DEFAULT}/backups", {})["job_id"]
    made.update(wait_completed(api, made["job_id"])["result"])
    made["name"] = "invoice.csv"
    assert api.upload(DEFAULT, dataset["dataset_id"], made["name"], b"invoice_id\n1\n").status == 200
    for base in ("/api/v1/master", f"/api/v1/projects/{DEFAULT}"):
        api.ok("PUT", f"{base}/secrets/{made['name']}", {"value": "x"}, want=(204,))
    for method, path, operation in operations(document):
        if method != "GET" or operation["operationId"] == "followExecution":
            continue
        target = re.sub(r"{([^}]+)}", lambda m: made[m.group(1)], path)
        headers = {"Accept": "application/json"} if path.endswith("/events") else {}
        answer = api.get(target, headers=headers)
        assert answer.status == 200, (path, answer)
        content = operation["responses"]["200"].get("content", {}).get("application/json")
        if content and answer.headers["content-type"] == "application/json":
            faults = list(validator(document, content["schema"]).iter_errors(answer.json))
            assert not faults, (path, [f.message for f in faults], answer)
        head = api.send("HEAD", target, headers=headers)
        assert (head.status, head.body) == (200, b""), (path, head)
