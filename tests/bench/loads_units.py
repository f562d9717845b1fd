"""A project as a unit: export, check and import of one, in MB of BSON for a second of processor time, beside pymongo's bson
doing the same to the same documents; and what a commit waits for while an export goes on. The steps on Kontor's side are in
units_spec.lua, each in a process of its own; both sides take turns."""
import hashlib
import itertools
import json
import os
import shutil
import sqlite3
import subprocess
import tempfile
import time
from pathlib import Path

import bson
import pymongo
from bson.codec_options import DEFAULT_CODEC_OPTIONS, CodecOptions
from bson.raw_bson import RawBSONDocument
from kontor_service import KONTOR, ROOT
from loads_mongodb import server
from machine import median
from row import row

MB = {"SQLite": 300, "MongoDB": 40}
BATCH = 1000  # documents that pymongo sends or encodes at a time


def step(name, folder, mb, **env):
    """What a step of units_spec.lua printed: {what: numbers}."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("KONTOR") and k != "MONGODB_URL"}
    done = subprocess.run([KONTOR, "test", str(ROOT / "tests/bench/units_spec.lua")], cwd=ROOT, text=True, capture_output=True, check=False,
                          env={**clean, "UNITS_STEP": name, "UNITS_DIR": str(folder), "UNITS_MB": str(mb), **env})
    if done.returncode != 0:
        raise RuntimeError(f"{name}: {done.stdout[-2000:]}{done.stderr[-500:]}")
    fields = [line.split() for line in done.stdout.splitlines()]
    return {f[0]: [float(n) for n in f[1:]] for f in fields if len(f) > 1 and f[1].replace(".", "").isdigit()}


class Watch:
    """Processor and wall seconds of this process while it runs; other work can be left out between."""

    def __init__(self):
        self.cpu = self.wall = 0.0

    def __enter__(self):
        self.began = time.process_time(), time.monotonic()

    def __exit__(self, *_):
        self.cpu += time.process_time() - self.began[0]
        self.wall += time.monotonic() - self.began[1]


def batches(documents):
    while batch := list(itertools.islice(documents, BATCH)):
        yield batch


def write(path, lists, watch):
    """The documents into a file with its hash, synced, as an export does it."""
    digest, lists = hashlib.sha256(), iter(lists)
    with open(path, "wb") as out:
        while batch := next(lists, None):
            with watch:
                for document in batch:
                    data = bson.encode(document)
                    digest.update(data)
                    out.write(data)
        with watch:
            out.flush()
            os.fsync(out.fileno())


def read(path, options=DEFAULT_CODEC_OPTIONS):
    """Every document of a file, and its hash."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while data := file.read(1 << 20):
            digest.update(data)
    with open(path, "rb") as file:
        yield from bson.decode_file_iter(file, options)


def store(db, path):
    """A file's documents into a table as they are, in commits of the size of ours, and its indexes afterwards. (Keys are
    plain columns: less than the order of BSON values that Kontor's have.)"""
    indexes = json.loads(path.with_suffix(".metadata.json").read_text())["indexes"][1:]
    fields = sorted({field for index in indexes for field in index["key"]} - {"_id"})
    columns = "".join(f', "{field}"' for field in fields)
    db.execute(f"create table {path.stem}(_id primary key, doc blob{columns})")
    insert = f"insert into {path.stem} values(?,?{',?' * len(fields)})"
    waiting = 0
    db.execute("begin")
    for raw in read(path, CodecOptions(document_class=RawBSONDocument)):
        db.execute(insert, (raw["_id"], raw.raw, *[str(raw.get(field)) for field in fields]))
        waiting += len(raw.raw)
        if waiting > 8 << 20:
            db.execute("commit")
            db.execute("begin")
            waiting = 0
    for index in indexes:
        keys = ", ".join(f'"{field}"{" desc" * (int(way["$numberInt"]) < 0)}' for field, way in index["key"].items())
        db.execute(f"create index {path.stem}_{index['name']} on {path.stem}({keys})")
    db.execute("commit")


def on_files(folder):
    """pymongo's bson on the exported files: what it takes to write them, to read them, and with sqlite3 to store them."""
    written, seen, stored = Watch(), Watch(), Watch()
    with stored:
        db = sqlite3.connect(folder / "peer.db", isolation_level=None)
        db.execute("pragma journal_mode=wal")
        db.execute("pragma synchronous=full")
    for path in sorted(folder.glob("*.bson")):
        write(folder / "peer.out", batches(read(path)), written)
        (folder / "peer.out").unlink()
        with seen:
            for _ in read(path):
                pass
        with stored:
            store(db, path)
    with stored:
        db.close()
    (folder / "peer.db").unlink()
    return {"export": written, "verify": seen, "import": stored}


def on_server(folder, url):
    """pymongo against the server: find and write, read and insert."""
    out, back = Watch(), Watch()
    client = pymongo.MongoClient(url, w="majority", journal=True, readConcernLevel="majority")
    source, copy = client["ktern-project-bench"], client["ktern-project-peer"]
    for path in sorted(folder.glob("*.bson")):
        with out:
            write(folder / "peer.out", batches(source[path.stem].find({}, sort=[("_id", 1)], batch_size=BATCH)), Watch())
        with back:
            for batch in batches(read(path)):
                copy[path.stem].insert_many(batch)
            for name, index in source[path.stem].index_information().items():
                if name != "_id_":
                    copy[path.stem].create_index(index["key"], name=name, unique=index.get("unique", False))
    client.drop_database("ktern-project-peer")
    client.close()
    return {"export": out, "import": back}


def engine(name, folder, rounds, peer, peer_name, **env):
    """Rows of one engine. `peer`: () -> {what: Watch}."""
    step("fill", folder, MB[name], **env)
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(step("round", folder, MB[name], **env))
        theirs.append(peer())
    mb = ours[0]["bytes"][0] / 1e6
    return [compared(f"{what} of a project on {name}", mb, [o[what][:2] for o in ours], [(t[what].cpu, t[what].wall) for t in theirs], peer_name)
            for what in ("export", "verify", "import") if what in theirs[0]]


def compared(name, mb, ours, theirs, peer):
    a, b = (mb / median([cpu for cpu, _ in side]) for side in (ours, theirs))
    clock = [mb / median([wall for _, wall in side]) for side in (ours, theirs)]
    return row(name, f"{a:,.0f} MB/s", peer, f"{b:,.0f} MB/s", a / b, None, f"{mb:,.0f} MB; by the clock {clock[0]:,.0f} MB/s against {clock[1]:,.0f}")


def pauses(folder):
    """A row: a commit's time with an export going on, beside the same with none."""
    found = step("pause", folder, MB["SQLite"])
    alone, beside = found["alone"], found["beside"]
    return row("a commit while exports go on", f"{beside[0]:.1f} ms", "no export", f"{alone[0]:.1f} ms", alone[0] / beside[0], None,
               f"p99 {beside[1]:.0f} against {alone[1]:.0f} ms, longest {beside[2]:.0f} against {alone[2]:.0f} ms; "
               f"{beside[3]:.0f} commits beside {found['exports'][0]:.0f} exports")


def units(options):
    """Export, verify, import on both engines; the pause of a writer."""
    folder = Path(tempfile.mkdtemp(prefix="kt-units-"))
    try:
        sqlite, mongodb = folder / "sqlite", folder / "mongodb"
        sqlite.mkdir()
        mongodb.mkdir()
        found = engine("SQLite", sqlite, options.rounds, lambda: on_files(sqlite / "export"), "bson, sqlite3")
        found.append(pauses(sqlite))
        with server() as db:
            return found + engine("MongoDB", mongodb, options.rounds, lambda: on_server(mongodb / "export", db.url), "pymongo", MONGODB_URL=db.url)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
