"""The service against schemathesis: requests made from /openapi.json, valid ones and others."""
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def test_schemathesis_finds_no_fault(service, tmp_path):
    """No 5xx, and every answer is one that the description has. Streams, NDJSON and tars are not its business."""
    assert service.post("/api/v1/master/setup/erp-defaults", {}).status == 200
    # It makes keys, and from the first one on nobody is served without one.
    key = service.made("/api/v1/master/api-keys", {"name": "root", "role": "admin"})["api_key"]
    run = subprocess.run([ROOT / ".peers/venv/bin/schemathesis", "run", f"{service.url}/openapi.json", "--url", service.url,
                          "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
                          "--phases", "examples,coverage,fuzzing", "--max-examples", "20", "--generation-deterministic",
                          "--exclude-path-regex", "events$|tables/|projects/import$", "--request-timeout", "20", "--workers", "1",
                          "--header", f"X-API-Key: {key}",
                          "--no-color"],
                         capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
