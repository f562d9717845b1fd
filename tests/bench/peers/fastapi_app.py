"""The reference: what one would write with FastAPI and SQLite to get the same answers with the same
guarantees. Input is checked by pydantic models; every change and its audit entry are one commit of
a WAL file with synchronous=FULL, which is on disk before the answer; documents are kept as the JSON
text that is answered, and given as they are (no second validation on the way out).

aiosqlite: one connection that writes, one that reads. Environment: DB_FILE, STEP_URL (what a step of
/durable posts to)."""
import asyncio
import hashlib
import os
import time
from contextlib import asynccontextmanager
from typing import Annotated

import aiohttp
import aiosqlite
from documents import INSTANCE_ID, ExecutionIn, InstanceIn, RequestId, Slug, audit_of, end_of, execution_of, instance_of, now, text_of
from fastapi import FastAPI, HTTPException, Request, Response
from pydantic import Field

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
app.add_middleware(RequestId)


def audit(*args, **kw):
    entry = audit_of(*args, **kw)
    return ("insert into audit values(?,?,?,?,?,?,?)", (entry.audit_id, entry.at, entry.actor, entry.action, entry.target_id,
                                                        entry.request_id, entry.model_dump_json(by_alias=True)))


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
async def get_instance(project_id: Slug, instance_id: Annotated[str, Field(pattern=INSTANCE_ID)]):
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
    doc, changes = instance_of(project_id, body)
    key, text = doc["instance_id"], text_of(doc)
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
    doc = execution_of(project_id, number, body, row[0], agent[0], row[1])
    key = doc["execution_id"]
    await store.commit(("insert into execution values(?,?,?,?,?,?)", (key, project_id, "running", 1, doc["created_at"], text_of(doc))),
                       audit(request, "execution.create", "execution", key, execution=key))
    return doc


def event(doc, kind, data):
    doc["last_seq"] += 1
    return ("insert into event values(?,?,?,?,?)", (doc["execution_id"], doc["last_seq"], kind, now(), text_of(data)))


async def finish(doc, output, events, began, tool_calls=0):
    """Result, last events and the execution's end in one commit that fails when it is no longer ours."""
    result, said = end_of(doc, output, began, tool_calls)
    last = event(doc, "execution.completed", said)
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
