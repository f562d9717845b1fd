"""One meaning on every engine: the cases of store_*.json and random ones, printed as a matrix case × engine.

MongoDB's meaning is the yardstick: each case is first asked of the servers through pymongo (columns
"pymongo@…"), then of the store on SQLite and on each server (mongo_server.servers()), with and without
indexes. What the random cases (SEED=n) must give is what secantusd-py gives. All must be equal.
"""
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import pymongo
from bson.codec_options import CodecOptions, DatetimeConversion

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from meaning import Runner, prepare  # noqa: E402
from mongo_server import CannotStart, servers  # noqa: E402
from random_cases import random_case, record  # noqa: E402

RANDOM_CASES = 120
KONTOR = os.environ.get("KONTOR", str(ROOT / "build/kontor"))


class Matrix:
    def __init__(self):
        self.rows = {}  # case -> {engine: what is wrong, or None}
        self.engines = []
        self.lost = 0  # engines that could not be asked

    def add(self, engine, case, problem):
        if engine not in self.engines:
            self.engines.append(engine)
        self.rows.setdefault(case, {})[engine] = problem

    def print(self):
        width = max(map(len, self.rows)) + 2
        print(" " * width + "  ".join(self.engines))

        def row(name, cells):
            print(name.ljust(width) + "  ".join(c.ljust(len(e)) for c, e in zip(cells, self.engines)))
        chance = [case for case in self.rows if case.startswith("random ")]
        for case, found in self.rows.items():
            cells = ["-" if e not in found else "FAILED" if found[e] else "equal" for e in self.engines]
            if case not in chance or "FAILED" in cells:
                row(case, cells)
        good = [sum(self.rows[case].get(e, True) is None for case in chance) for e in self.engines]
        row(f"random cases ({len(chance)})", [f"{n} equal" for n in good])
        for case, found in self.rows.items():
            for engine, problem in found.items():
                if problem:
                    print(f"FAILED {case} on {engine}: {problem}")

    def summary(self):
        cells = [problem for found in self.rows.values() for problem in found.values()]
        failed = sum(problem is not None for problem in cells) + self.lost
        print(f"{len(cells) + self.lost - failed} passed, {failed} failed")
        return 1 if failed else 0


def files():
    return sorted(HERE.glob("store_*.json"))


def ask_server(matrix, engine, db, chance, recorded):
    """Through pymongo; the random cases are recorded, or asked when they were."""
    runner = Runner(db)
    for path in [*files(), *([chance] if recorded else [])]:
        for case in json.loads(path.read_text())["cases"]:
            prepare(db, "c", case)
            problems = [f"step {i} {s['op']}: {p}" for i, s in enumerate(case["steps"], 1) if (p := runner.step("c", s))]
            matrix.add(engine, case["name"], "; ".join(problems) or None)
    if recorded:
        return
    seed = random.randrange(10**6) if os.environ.get("STORM") else int(os.environ.get("SEED", "7"))
    print(f"SEED={seed}")
    rnd, cases = random.Random(seed), []
    for n in range(RANDOM_CASES):
        case = random_case(rnd, n)
        prepare(db, "c", case)
        record(runner, case)
        cases.append(case)
        matrix.add(engine, case["name"], None)
    chance.write_text(json.dumps({"cases": cases}))
    if keep := os.environ.get("KEEP"):
        shutil.copy(chance, keep)


def peculiar(name, db):
    """Variables for what a server does otherwise than MongoDB's manual says."""
    db.probe.create_index([("v", -1)])
    db.probe.insert_many([{"v": v} for v in ("", "a", "ab")])
    if db.probe.count_documents({"v": {"$gte": "a"}}) == 2:
        return {}
    print(f"{name}: ranges over a descending index miss strings that begin with the bound; its indexes are ascending here")
    return {"STORE_ASCENDING": "1"}


def ask_store(matrix, engine, chance, **variables):
    """The store of this program, in `kontor test`."""
    with tempfile.NamedTemporaryFile("r") as results:
        done = subprocess.run(
            [KONTOR, "test", ROOT / "spec/store/conformance_spec.lua"], cwd=ROOT, stdin=subprocess.DEVNULL, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=dict(os.environ, STORE_CASES=":".join(map(str, [*files(), chance])), STORE_RESULTS=results.name, **variables))
        good = set(results.read().splitlines())
    for path in [*files(), chance]:
        for case in json.loads(path.read_text())["cases"]:
            names = [case["name"]] + ([] if case.get("arrays") else [case["name"] + ", indexed"])
            missing = [n for n in names if n not in good]
            why = re.search(rf"^(?:FAILED|ERROR) [^\n]*/ {re.escape(missing[0])}\n((?:  [^\n]*\n){{0,9}})", done.stdout, re.M) if missing else None
            matrix.add(engine, case["name"], f"{missing[0]}: {why[1] if why else 'not run'}" if missing else None)
    if done.returncode != 0 and not any(found.get(engine) for found in matrix.rows.values()):
        print(done.stdout[-3000:])  # what is wrong is no case
        matrix.lost += 1


def main():
    matrix = Matrix()
    with tempfile.TemporaryDirectory() as folder:
        chance = Path(folder) / "random.json"
        for number, (name, server) in enumerate(servers()):
            tag = uuid.uuid4().hex[:8]
            try:
                with server, pymongo.MongoClient(server.url, serverSelectionTimeoutMS=20000) as client:
                    options = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS)
                    ask_server(matrix, f"pymongo@{name}", client.get_database(f"kt-{tag}-py", codec_options=options), chance, number > 0)
                    peculiarities = peculiar(name, client[f"kt-{tag}-py"])
                    client.drop_database(f"kt-{tag}-py")
                    if number == 0:
                        ask_store(matrix, "sqlite", chance)
                    ask_store(matrix, name, chance, MONGODB_URL=server.url, MASTER_DATABASE_NAME=f"ktm-{tag}",
                              PROJECT_DATABASE_PREFIX=f"kt-{tag}-", **peculiarities)
            except CannotStart as e:
                print(f"FAILED {name}: {e}")
                matrix.lost += 1
    matrix.print()
    return matrix.summary()


if __name__ == "__main__":
    sys.exit(main())
