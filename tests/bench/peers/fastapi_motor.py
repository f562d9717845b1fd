"""The reference on MongoDB: what one would write with FastAPI and motor to get the same answers with the same guarantees.
The checks and documents are those of fastapi_app.py (documents.py); what belongs together is one transaction with
w: majority and j: true, reads are majority reads. The project and the agents are read at the start and kept, as Kontor
keeps them, so a GET is one find. Environment: MONGODB_URL, DATABASE."""
import hashlib
import os
import time
from contextlib import asynccontextmanager
from typing import Annotated

from documents import INSTANCE_ID, ExecutionIn, InstanceIn, RequestId, Slug, audit_of, end_of, execution_of, instance_of, now, text_of
from fastapi import FastAPI, HTTPException, Request, Response
from motor.motor_asyncio import AsyncIOMotorClient
from pydantic import Field
from pymongo.errors import CollectionInvalid
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

MAJORITY, SNAPSHOT = WriteConcern(w="majority", j=True, wtimeout=5000), ReadConcern("snapshot")
PROJECTS = {"bench": {"number": 1, "status": "active"}}
AGENTS = {"erp-exception-management": 1, "plain": 1}
COLLECTIONS = {"instances": [], "versions": [], "audit": [[("at", -1), ("_id", -1)], [("actor", 1), ("at", -1)]],
               "executions": [[("status", 1), ("created_at", 1)]], "events": [], "results": []}


class Store:
    async def open(self):
        self.client = AsyncIOMotorClient(os.environ["MONGODB_URL"], w="majority", journal=True, wTimeoutMS=5000,
                                         readConcernLevel="majority")
        self.db = self.client[os.environ["DATABASE"]]
        for name, indexes in COLLECTIONS.items():
            try:
                await self.db.create_collection(name)
            except CollectionInvalid:  # it is there
                pass
            for keys in indexes:
                await self.db[name].create_index(keys)

    async def commit(self, change):
        """change(session) in a transaction, which the driver runs again when it has to."""
        async with await self.client.start_session(causal_consistency=False) as session:
            await session.with_transaction(change, read_concern=SNAPSHOT, write_concern=MAJORITY)


store = Store()


@asynccontextmanager
async def life(app):
    await store.open()
    yield
    store.client.close()


app = FastAPI(lifespan=life)
app.add_middleware(RequestId)


def audit(*args, **kw):
    entry = audit_of(*args, **kw).model_dump(by_alias=True)
    return {"_id": entry.pop("audit_id"), **entry}


def stored(doc, key):
    """Under its id as `_id`."""
    return {"_id": doc[key], **{name: value for name, value in doc.items() if name != key}}


def answered(doc, key):
    return {key: doc.pop("_id"), **doc}


def open_project(project_id):
    project = PROJECTS.get(project_id)
    if not project:
        raise HTTPException(404)
    return project


@app.put("/seed", status_code=204)
async def seed():
    """What it needs is made at the start."""


@app.get("/api/v1/projects/{project_id}/agent-instances/{instance_id}")
async def get_instance(project_id: Slug, instance_id: Annotated[str, Field(pattern=INSTANCE_ID)]):
    open_project(project_id)
    doc = await store.db.instances.find_one({"_id": instance_id})
    if not doc:
        raise HTTPException(404)
    return Response(text_of(answered(doc, "instance_id")), media_type="application/json", headers={"ETag": f'"v{doc["version"]}"'})


@app.post("/api/v1/projects/{project_id}/agent-instances", status_code=201)
async def post_instance(project_id: Slug, body: InstanceIn, request: Request):
    open_project(project_id)
    if body.agent_id not in AGENTS:
        raise HTTPException(422, "agent_id does not exist")
    doc, changes = instance_of(project_id, body)
    key, text = doc["instance_id"], text_of(doc)
    entry = audit(request, "agent_instance.create", "agent_instance", key, changes)
    head = stored(doc, "instance_id")
    version = {**head, "_id": f"agent_instance/{key}/1", "sha256": hashlib.sha256(text.encode()).hexdigest()}

    async def change(session):
        await store.db.instances.insert_one(head, session=session)
        await store.db.versions.insert_one(version, session=session)
        await store.db.audit.insert_one(entry, session=session)
    await store.commit(change)
    return Response(text, 201, {"Location": f"/api/v1/projects/{project_id}/agent-instances/{key}", "ETag": '"v1"'}, "application/json")


async def accept(project_id, body, request):
    """The execution, accepted durably with its audit entry; its document."""
    project = open_project(project_id)
    if project["status"] != "active":
        raise HTTPException(409)
    instance = await store.db.instances.find_one({"_id": body.instance_id})
    if not instance:
        raise HTTPException(422, "instance_id does not exist")
    if instance["archived"]:
        raise HTTPException(409, "archived")
    doc = execution_of(project_id, project["number"], body, instance["agent_id"], AGENTS[instance["agent_id"]], instance["version"])
    entry = audit(request, "execution.create", "execution", doc["execution_id"], execution=doc["execution_id"])
    head = {**stored(doc, "execution_id"), "token": 1}

    async def change(session):
        await store.db.executions.insert_one(head, session=session)
        await store.db.audit.insert_one(entry, session=session)
    await store.commit(change)
    return doc


def event(doc, kind, data):
    doc["last_seq"] += 1
    return {"seq": doc["last_seq"], "type": kind, "at": now(), "data": data}


@app.post("/api/v1/projects/{project_id}/executions")
async def post_execution(project_id: Slug, body: ExecutionIn, request: Request):
    """A run that calls nothing: accepted, begun, ended. Its events are one document, as Kontor's are."""
    began = time.monotonic()
    doc = await accept(project_id, body, request)
    started = event(doc, "execution.started", {"attempt": 1, "worker": "0", "snapshot": doc["snapshot"]})
    result, said = end_of(doc, {"done": True}, began)
    key = doc["execution_id"]
    chunk = {"_id": f"{key}:{started['seq']:010d}", "n": 2, "events": [started, event(doc, "execution.completed", said)]}
    ended = {name: doc[name] for name in ("status", "stop_reason", "finished_at", "duration_ms", "usage", "last_seq")}

    async def change(session):
        await store.db.events.insert_one(chunk, session=session)
        await store.db.results.insert_one({"_id": key + ":1", **result}, session=session)
        done = await store.db.executions.update_one({"_id": key, "token": 1, "status": "running"}, {"$set": ended}, session=session)
        if not done.matched_count:
            raise HTTPException(409, "no longer ours")
    await store.commit(change)
    return Response(text_of({**doc, "result": result}), 200, {"Location": doc["links"]["self"]}, "application/json")
