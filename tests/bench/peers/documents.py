"""What both references on FastAPI share: the checks of a body, the documents made of it, the id of a request.
They differ in their store: fastapi_app.py on SQLite, fastapi_motor.py on MongoDB."""
import json
import time
import uuid
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

INSTANCE_ID = r"^inst_[0-9a-f]{32}$"
Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Settings(BaseModel):
    """An open map whose known keys are checked."""
    model_config = ConfigDict(extra="allow")
    timeout: Annotated[float, Field(ge=1, le=86400)] | None = None
    max_steps: Annotated[int, Field(ge=1, le=1000)] | None = None
    max_attempts: Annotated[int, Field(ge=1, le=20)] | None = None
    budget_usd: Decimal | None = None
    model_config_id: Slug | None = None
    categories: list[str] | None = None
    rules: list[str] | None = None
    rule_params: dict[str, Any] = {}
    mapping: str | None = None
    as_of: date | None = None


class InstanceIn(Strict):
    agent_id: Slug
    agent_ref: str = "latest"
    name: Annotated[str, Field(min_length=1, max_length=200)]
    description: Annotated[str, Field(max_length=2000)] = ""
    system_prompt_variables: dict[str, Any] = {}
    custom_settings: Settings = Settings()
    tools: list[Slug] | None = None
    mcp_servers: list[Slug] | None = None
    created_by: str | None = None
    metadata: dict[str, Any] = {}


class InputData(BaseModel):
    model_config = ConfigDict(extra="allow")
    prompt: Annotated[str, Field(max_length=262144)] | None = None
    dataset_id: str | None = None
    categories: list[str] | None = None
    rules: list[str] | None = None


class ExecutionIn(Strict):
    instance_id: Annotated[str, Field(pattern=INSTANCE_ID)]
    input_data: InputData = InputData()
    variables: dict[str, Any] = {}
    async_execution: bool = True
    run_at: datetime | None = None
    priority: Annotated[int, Field(ge=0, le=9)] = 5
    budget_usd: Decimal | None = None
    timeout_seconds: Annotated[float, Field(ge=1, le=86400)] | None = None
    metadata: dict[str, Any] = {}


class Change(BaseModel):
    pointer: str
    from_: Any = Field(None, serialization_alias="from")
    to: Any


class Audit(BaseModel):
    audit_id: str
    at: str
    actor: str = "dev"
    actor_name: str = "dev"
    role: Literal["viewer", "operator", "author", "admin"] = "admin"
    via: str = "dev"
    action: str
    target_type: str
    target_id: str
    outcome: str = "ok"
    code: str | None = None
    request_id: str
    execution_id: str | None = None
    address: str
    changes: list[Change] = []
    count: int = 1


def now():
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def text_of(doc):
    return json.dumps(doc, separators=(",", ":"), ensure_ascii=False)


class RequestId:
    """Pure ASGI: the id of the client, or one of ours, in every answer."""
    def __init__(self, inner):
        self.inner = inner

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.inner(scope, receive, send)
        given = next((v for k, v in scope["headers"] if k == b"x-request-id"), None)
        scope["request_id"] = given.decode("latin-1") if given else uuid.uuid4().hex

        async def send_with_id(message):
            if message["type"] == "http.response.start":
                message["headers"] += [(b"x-request-id", scope["request_id"].encode("latin-1")), (b"cache-control", b"no-store"),
                                       (b"x-content-type-options", b"nosniff")]
            await send(message)
        await self.inner(scope, receive, send_with_id)


def audit_of(request, action, kind, target, changes=(), execution=None):
    return Audit(audit_id="aud_" + uuid.uuid4().hex, at=now(), action=action, target_type=kind, target_id=target,
                 request_id=request.scope["request_id"], address=request.client.host, changes=list(changes), execution_id=execution)


def instance_of(project_id, body):
    """(its document, what the audit says of it)."""
    given = body.model_dump(mode="json", exclude_none=True)
    at = now()
    doc = {"instance_id": "inst_" + uuid.uuid4().hex, "version": 1, "project_id": project_id, "agent_id": body.agent_id,
           "agent_ref": body.agent_ref, "name": body.name, "description": body.description,
           "system_prompt_variables": body.system_prompt_variables, "custom_settings": given["custom_settings"], "tools": body.tools,
           "mcp_servers": body.mcp_servers, "labels": {}, "archived": False, "created_by": body.created_by or "dev",
           "updated_by": "dev", "created_at": at, "updated_at": at, "metadata": body.metadata}
    return doc, [Change(pointer="/" + name, to=value) for name, value in given.items()]


def execution_of(project_id, number, body, agent_id, agent_version, instance_version):
    given = body.model_dump(mode="json")
    key, at = f"exec_{number}_{uuid.uuid4().hex}", now()
    path = f"/api/v1/projects/{project_id}/executions/{key}"
    return {"execution_id": key, "project_id": project_id, **given,
            "input_data": body.input_data.model_dump(mode="json", exclude_none=True),
            "agent_id": agent_id, "status": "running", "stop_reason": None, "attempt": 1, "max_attempts": 3, "created_by": "dev",
            "created_at": at, "started_at": at, "finished_at": None, "duration_ms": None, "last_seq": 0, "cancel_requested": False,
            "error": None, "usage": None,
            "snapshot": {"bundle": "0" * 64, "agent_version": agent_version, "instance_version": instance_version,
                         "prompt_version": None, "model_config_version": None, "price_version": None, "door": 1},
            "parent": None, "links": {"self": path, "result": path + "/result", "events": path + "/events", "ws": "/ws/execution/" + key},
            "result": None}


def end_of(doc, output, began, tool_calls=0):
    """The execution's document ends; (its result, what its last event says)."""
    at, took = now(), round((time.monotonic() - began) * 1000)
    metrics = {"duration_ms": took, "queued_ms": 0, "steps": tool_calls, "model_calls": 0, "tool_calls": tool_calls, "input_tokens": 0,
               "output_tokens": 0, "cost_usd": None, "rows": 0, "findings": 0}
    result = {"execution_id": doc["execution_id"], "project_id": doc["project_id"], "instance_id": doc["instance_id"],
              "agent_id": doc["agent_id"], "status": "completed", "stop_reason": "done", "partial": False, "output": output,
              "report": None, "artifacts": [], "metrics": metrics, "warnings": [], "error": None, "created_at": at}
    doc.update(status="completed", stop_reason="done", finished_at=at, duration_ms=took,
               usage={"model_calls": 0, "tool_calls": tool_calls, "input_tokens": 0, "output_tokens": 0, "cost_usd": None})
    return result, {"status": "completed", "stop_reason": "done", "partial": False, "metrics": metrics}
