"""A project as files: kontor db export beside the running service."""
import hashlib
import json
import os
import subprocess
import threading

import bson

from conftest import KONTOR

BASE = "/api/v1/projects/acme/agent-instances"


def db(service, *args):
    return subprocess.run([KONTOR, "db", *args], cwd=service.tmp, env=service.env, capture_output=True, text=True, timeout=120)


def test_export_while_the_project_works(make_service, tmp_path):
    service = make_service().start()
    service.erp()
    acknowledged, stop = [], threading.Event()

    def write():
        while not stop.is_set():
            made = service.made(BASE, {"agent_id": "erp-exception-management", "name": f"n{len(acknowledged)}"})
            acknowledged.append(made["instance_id"])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while len(acknowledged) < 20 and writer.is_alive():
            pass
        before = list(acknowledged)
        done = db(service, "export", "acme", str(tmp_path / "out"))
    finally:
        stop.set()
        writer.join()
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["format"] == 1 and manifest["project"]["project_id"] == "acme"
    assert manifest["database"] == service.prefix + "acme" and manifest["migrations"]
    folder = tmp_path / "out" / manifest["database"]
    found = {}
    for c in manifest["collections"]:
        data = (folder / f"{c['name']}.bson").read_bytes()
        meta = (folder / f"{c['name']}.metadata.json").read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (c["bytes"], c["sha256"])
        assert (len(meta), hashlib.sha256(meta).hexdigest()) == (c["metadata_bytes"], c["metadata_sha256"])
        found[c["name"]] = bson.decode_all(data)
        assert len(found[c["name"]]) == c["documents"]
        assert [i["name"] for i in json.loads(meta)["indexes"]][0] == "_id_"
    assert {p.name for p in folder.iterdir()} == {c["name"] + end for c in manifest["collections"] for end in (".bson", ".metadata.json")}
    heads = {d["_id"] for d in found["kt_p_agent_instances"]}
    assert set(before) <= heads, "what was acknowledged before is in it"
    # An instance, its version and its line in the audit log are one commit: all of them are there, or none.
    assert heads <= {d["target_id"] for d in found["kt_p_audit_log"]}
    assert {d["target_id"] for d in found["kt_p_audit_log"] if d["action"] == "agent_instance.create"} <= heads
    assert os.listdir(tmp_path / "out") and not list(tmp_path.glob("out.part*"))


def test_export_refuses(make_service, tmp_path):
    service = make_service().start()
    service.erp()
    there = tmp_path / "there"
    there.mkdir()
    for args, code, word in ((("acme", str(there)), 1, "there already"), (("nobody", str(tmp_path / "x")), 1, "nobody"),
                             (("NO!", str(tmp_path / "x")), 2, "no id"), (("acme",), 2, "DIR is missing"),
                             (("acme", "/proc/no/where"), 1, "/proc/no")):
        done = db(service, "export", *args)
        assert done.returncode == code and word in done.stderr, (args, done)
    assert not any(there.iterdir()) and not (tmp_path / "x").exists()
