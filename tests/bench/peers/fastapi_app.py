"""The reference: what one would write with FastAPI and SQLite to get the same answers with the same
guarantees. Input is checked by pydantic models; every change and its audit entry are one commit of
a WAL file with synchronous=FULL, which is on disk before the answer; documents are kept as the JSON
text that is answered, and given as they are (no second validation on the way out).

aiosqlite: one connection that writes, one that reads. Environment: DB_FILE, STEP_URL (what a step of
/durable posts to)."""
import asyncio
import hashlib
import json
import os
import time
import uuid
from contextlib import asynccontextmanager
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Annotated, Any, Literal

import aiohttp
import aiosqlite
from fastapi import FastAPI, HTTPException, Request, Response
from pydantic import BaseModel, ConfigDict, Field

TABLES = """
pragma journal_mode=wal;
create table if not exists project(id text primary key, number integer, status text, doc text) without rowid;
create table if not exists agent(id text primary key, version integer, doc text) without rowid;
create table if not exists instance(id text primary key, project_id text, agent_id text, version integer, archived integer, doc text) without rowid;
create table if not exists version(id text primary key, sha256 text, doc text) without rowid;
create table if not exists audit(id text primary key, at text, actor text, action text, target text, request_id text, doc text) without rowid;
create index if not exists audit_at on audit(at, id);
create index if not exists audit_actor on audit(actor, at);
create table if not exists execution(id text primary key, project_id text, status text, token integer, created_at text, doc text) without rowid;
create index if not exists execution_status on execution(status, created_at);
create table if not exists event(execution text, seq integer, type text, at text, data text, primary key(execution, seq)) without rowid;
create table if not exists result(id text primary key, doc text) without rowid;
"""
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
    instance_id: Annotated[str, Field(pattern=r"^inst_[0-9a-f]{32}$")]
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


class Store:
    async def open(self):
        self.write_db = await aiosqlite.connect(os.environ["DB_FILE"], isolation_level=None)
        self.read_db = await aiosqlite.connect(os.environ["DB_FILE"], isolation_level=None)
        self.lock = asyncio.Lock()
        await self.write_db.executescript(TABLES)
        await self.write_db.execute("pragma synchronous=full")

    async def close(self):
        await self.write_db.close()
        await self.read_db.close()

    async def one(self, sql, *args):
        async with self.read_db.execute(sql, args) as cursor:
            return await cursor.fetchone()

    async def commit(self, *statements):
        """One transaction, on disk when this returns. In one hop to the connection's thread."""
        def run(db):
            db.execute("begin immediate")
            try:
                for sql, args in statements:
                    db.execute(sql, args)
                db.execute("commit")
            except BaseException:
                db.execute("rollback")
                raise
        async with self.lock:
            await self.write_db._execute(run, self.write_db._conn)


store = Store()


@asynccontextmanager
async def life(app):
    await store.open()
    app.state.http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=256))
    yield
    await app.state.http.close()
    await store.close()


app = FastAPI(lifespan=life)


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


app.add_middleware(RequestId)


def audit(request, action, kind, target, changes=(), execution=None):
    entry = Audit(audit_id="aud_" + uuid.uuid4().hex, at=now(), action=action, target_type=kind, target_id=target,
                  request_id=request.scope["request_id"], address=request.client.host, changes=list(changes), execution_id=execution)
    return ("insert into audit values(?,?,?,?,?,?,?)", (entry.audit_id, entry.at, entry.actor, action, target, entry.request_id,
                                                        entry.model_dump_json(by_alias=True)))


async def open_project(project_id):
    row = await store.one("select number, status from project where id=?", project_id)
    if not row or row[1] in ("creating", "erasing"):
        raise HTTPException(404)
    return row


@app.get("/health")
async def health():
    return {"status": "ok", "version": "0.1.0"}


@app.put("/seed", status_code=204)
async def seed():
    """A project and an agent."""
    await store.commit(("insert or ignore into project values('bench', 1, 'active', '{}')", ()),
                       ("insert or ignore into agent values('erp-exception-management', 1, '{}')", ()),
                       ("insert or ignore into agent values('plain', 1, '{}')", ()))


@app.get("/api/v1/projects/{project_id}/agent-instances/{instance_id}")
async def get_instance(project_id: Slug, instance_id: Annotated[str, Field(pattern=r"^inst_[0-9a-f]{32}$")]):
    await open_project(project_id)
    row = await store.one("select doc, version from instance where id=? and project_id=?", instance_id, project_id)
    if not row:
        raise HTTPException(404)
    return Response(row[0], media_type="application/json", headers={"ETag": f'"v{row[1]}"'})


@app.post("/api/v1/projects/{project_id}/agent-instances", status_code=201)
async def post_instance(project_id: Slug, body: InstanceIn, request: Request):
    await open_project(project_id)
    if not await store.one("select version from agent where id=?", body.agent_id):
        raise HTTPException(422, "agent_id does not exist")
    given = body.model_dump(mode="json", exclude_none=True)
    at, key = now(), "inst_" + uuid.uuid4().hex
    doc = {"instance_id": key, "version": 1, "project_id": project_id, "agent_id": body.agent_id, "agent_ref": body.agent_ref,
           "name": body.name, "description": body.description, "system_prompt_variables": body.system_prompt_variables,
           "custom_settings": given["custom_settings"], "tools": body.tools, "mcp_servers": body.mcp_servers, "labels": {},
           "archived": False, "created_by": body.created_by or "dev", "updated_by": "dev", "created_at": at, "updated_at": at,
           "metadata": body.metadata}
    text = text_of(doc)
    changes = [Change(pointer="/" + name, to=value) for name, value in given.items()]
    await store.commit(
        ("insert into instance values(?,?,?,?,?,?)", (key, project_id, body.agent_id, 1, 0, text)),
        ("insert into version values(?,?,?)", (f"agent_instance/{key}/1", hashlib.sha256(text.encode()).hexdigest(), text)),
        audit(request, "agent_instance.create", "agent_instance", key, changes))
    return Response(text, 201, {"Location": f"/api/v1/projects/{project_id}/agent-instances/{key}", "ETag": '"v1"'}, "application/json")


async def accept(project_id, body, request):
    """The execution, accepted durably with its audit entry; its document."""
    number, status = await open_project(project_id)
    if status != "active":
        raise HTTPException(409)
    row = await store.one("select agent_id, version, archived from instance where id=? and project_id=?", body.instance_id, project_id)
    if not row:
        raise HTTPException(422, "instance_id does not exist")
    if row[2]:
        raise HTTPException(409, "archived")
    agent = await store.one("select version from agent where id=?", row[0])
    given = body.model_dump(mode="json")
    key, at = f"exec_{number}_{uuid.uuid4().hex}", now()
    path = f"/api/v1/projects/{project_id}/executions/{key}"
    doc = {"execution_id": key, "project_id": project_id, **given, "input_data": body.input_data.model_dump(mode="json", exclude_none=True),
           "agent_id": row[0], "status": "running", "stop_reason": None, "attempt": 1, "max_attempts": 3, "created_by": "dev",
           "created_at": at, "started_at": at, "finished_at": None, "duration_ms": None, "last_seq": 0, "cancel_requested": False,
           "error": None, "usage": None,
           "snapshot": {"bundle": "0" * 64, "agent_version": agent[0], "instance_version": row[1], "prompt_version": None,
                        "model_config_version": None, "price_version": None, "door": 1},
           "parent": None, "links": {"self": path, "result": path + "/result", "events": path + "/events", "ws": "/ws/execution/" + key},
           "result": None}
    await store.commit(("insert into execution values(?,?,?,?,?,?)", (key, project_id, "running", 1, at, text_of(doc))),
                       audit(request, "execution.create", "execution", key, execution=key))
    return doc


def event(doc, kind, data):
    doc["last_seq"] += 1
    return ("insert into event values(?,?,?,?,?)", (doc["execution_id"], doc["last_seq"], kind, now(), text_of(data)))


async def finish(doc, output, events, began, tool_calls=0):
    """Result, last events and the execution's end in one commit that fails when it is no longer ours."""
    at, took = now(), round((time.monotonic() - began) * 1000)
    metrics = {"duration_ms": took, "queued_ms": 0, "steps": tool_calls, "model_calls": 0, "tool_calls": tool_calls, "input_tokens": 0,
               "output_tokens": 0, "cost_usd": None, "rows": 0, "findings": 0}
    result = {"execution_id": doc["execution_id"], "project_id": doc["project_id"], "instance_id": doc["instance_id"],
              "agent_id": doc["agent_id"], "status": "completed", "stop_reason": "done", "partial": False, "output": output,
              "report": None, "artifacts": [], "metrics": metrics, "warnings": [], "error": None, "created_at": at}
    last = event(doc, "execution.completed", {"status": "completed", "stop_reason": "done", "partial": False, "metrics": metrics})
    doc.update(status="completed", stop_reason="done", finished_at=at, duration_ms=took,
               usage={"model_calls": 0, "tool_calls": tool_calls, "input_tokens": 0, "output_tokens": 0, "cost_usd": None})
    await store.commit(
        *events, last, ("insert into result values(?,?)", (doc["execution_id"] + ":1", text_of(result))),
        ("update execution set status='completed', doc=? where id=? and token=1 and status='running'", (text_of(doc), doc["execution_id"])))
    return Response(text_of({**doc, "result": result}), 200, {"Location": doc["links"]["self"]}, "application/json")


@app.post("/api/v1/projects/{project_id}/executions")
async def post_execution(project_id: Slug, body: ExecutionIn, request: Request):
    """A run that calls nothing: accepted, begun, ended."""
    began = time.monotonic()
    doc = await accept(project_id, body, request)
    started = event(doc, "execution.started", {"attempt": 1, "worker": "0", "snapshot": doc["snapshot"]})
    return await finish(doc, {"done": True}, [started], began)


@app.post("/durable/{project_id}/executions")
async def post_durable(project_id: Slug, body: ExecutionIn, request: Request):
    """A run of three steps; each posts to a service, its answer is on disk before the next begins."""
    began = time.monotonic()
    doc = await accept(project_id, body, request)
    pending = [event(doc, "execution.started", {"attempt": 1, "worker": "0", "snapshot": doc["snapshot"]})]
    out = []
    for n in (1, 2, 3):
        arguments = {"n": n}
        pending.append(event(doc, "tool.started", {"call_id": n, "tool_id": "step", "arguments": arguments}))
        async with request.app.state.http.post(os.environ["STEP_URL"], json=arguments) as answer:
            answer.raise_for_status()
            got = await answer.json()
        pending.append(event(doc, "tool.completed", {"call_id": n, "tool_id": "step", "ok": True, "result": got}))
        await store.commit(*pending, ("update execution set token=token where id=? and token=1 and status='running'", (doc["execution_id"],)))
        pending = []
        out.append(got["id"])
    return await finish(doc, {"out": out}, [], began, 3)
