"""A project moves: the analysis of AdventureWorks, from the embedded store to MongoDB and back."""
import json
import subprocess

from analysis import ERP_DATA, needs_data
from conftest import KONTOR, shared_url
from test_analysis_api import plain, upload

P = "/api/v1/projects/acme"


def kontor(service, *args):
    done = subprocess.run([KONTOR, "db", *map(str, args)], cwd=service.tmp, env=service.env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, (args, done.stdout, done.stderr)


def report(service, run):
    answer = service.get(f"{P}/executions/{run}/report")
    assert answer.status == 200, answer.body
    return answer.body


def analyse(service, instance, dataset):
    """As text: what must be the same is the same byte for byte."""
    run = service.execute(instance, input_data={"dataset_id": dataset})
    assert run["status"] == "completed", run["error"]
    return run["execution_id"], json.dumps(plain(json.loads(report(service, run["execution_id"])), "trend"))


@needs_data
def test_there_and_back(make_service, tmp_path):
    key = "5" * 64
    here = make_service("here", MONGODB_URL="", KONTOR_MASTER_KEY=key).start()
    instance = here.erp("acme")
    dataset = upload(here, ERP_DATA / "adventureworks", "adventureworks")
    run, first = analyse(here, instance, dataset)
    here.request("PUT", f"{P}/secrets/token", {"value": "hush"})
    bytes_of = report(here, run)
    kontor(here, "export", "acme", tmp_path / "out")

    there = make_service("there", MONGODB_URL=shared_url(), KONTOR_MASTER_KEY=key).start()
    there.made("/api/v1/master/setup/erp-defaults", {})
    kontor(there, "import", "acme", tmp_path / "out")
    assert report(there, run) == bytes_of
    again, second = analyse(there, instance, dataset)
    assert second == first and again != run
    kontor(there, "export", "acme", tmp_path / "back")

    here.job("POST", f"{P}/erase", {"confirm": "acme"})
    kontor(here, "import", "acme", tmp_path / "back")
    assert report(here, run) == bytes_of
    assert json.dumps(plain(json.loads(report(here, again)), "trend")) == first
    third, back = analyse(here, instance, dataset)
    assert back == first and third not in (run, again)
    assert here.get("/api/v1/master/projects/acme").json()["number"] == there.get("/api/v1/master/projects/acme").json()["number"]
    for service in (here, there):
        kontor(service, "check")
