"""Independent readers of what the service says: an OpenAPI linter and a WebSocket client."""
import json
from pathlib import Path

HERE = Path(__file__).resolve().parent


def test_the_openapi_document_is_valid_for_redocly(service, node, tmp_path):
    document = tmp_path / "openapi.json"
    document.write_bytes(service.get("/openapi.json").body)
    code, output = node(node.modules / "@redocly/cli/bin/cli.js", "lint", "--extends=spec", document)
    assert code == 0, output[-3000:]


def test_a_foreign_websocket_client_follows_an_execution(service, node):
    run = service.execute(service.erp(), wait=False)["execution_id"]
    code, output = node(HERE / "follow.cjs", f"ws://127.0.0.1:{service.port}/ws/execution/{run}", node.modules)
    assert code == 0, output[-3000:]
    events = [json.loads(line) for line in output.splitlines()]
    numbered = [e["seq"] for e in events if e.get("seq") is not None]
    assert numbered == list(range(1, len(numbered) + 1))
    assert events[-1]["type"].startswith("execution.")
