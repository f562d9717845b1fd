"""kill -9 of the service and of MongoDB at random points of a load of writes, and what must hold then."""
import random
import threading
import time

from conftest import eventually
from crash import WORKFLOW, check_store, ready
from engine_client import Engine

WRITES = 200  # acknowledged ones in a round


class Writers:
    """Clients that make instances and start executions until they are stopped; what was acknowledged is remembered."""

    def __init__(self, service, instance, rng, clients=4):
        self.service, self.instance, self.documents, self.executions = service, instance, [], []
        self.ends, self.faults = threading.Event(), []
        self.threads = [threading.Thread(target=self.run, args=(random.Random(rng.random()), n)) for n in range(clients)]
        for thread in self.threads:
            thread.start()

    def count(self):
        return len(self.documents) + len(self.executions)

    def run(self, rng, n):
        while not self.ends.is_set():
            engine = Engine(self.service.port)
            try:
                if n == 0 and rng.random() < 0.3:
                    answer = engine.post(f"{engine.base}/executions", {"instance_id": self.instance, "input_data": {"n": rng.randrange(4)}})
                    kept, want = self.executions, 202
                else:
                    answer = engine.post(f"{engine.base}/agent-instances", {"agent_id": "busy", "name": "written"})
                    kept, want = self.documents, 201
            except Exception:  # noqa: BLE001 - nobody answers, or half: nothing was promised
                time.sleep(0.05)
                continue
            if answer.status == want:
                kept.append(answer.json["execution_id" if want == 202 else "instance_id"])
            # 409: secantusd-py forgets in a crash which transactions it committed and says of one that it was not; it is
            # then made again and meets itself. MongoDB remembers.
            elif answer.status not in (409, 429, 503, 504):
                self.faults.append(answer)
            else:
                time.sleep(0.05)

    def stop(self):
        self.ends.set()
        for thread in self.threads:
            thread.join()


def storm(make_service, server, rounds, seed):
    """Of `rounds` kills each second one is the database's. Gives how many writes were acknowledged."""
    rng = random.Random(seed)
    print(f"seed {seed}")
    service = make_service(MONGODB_URL=server.url, KONTOR_DRAIN_SECONDS=2).start()
    engine = Engine(service.port).unlimited()
    instance = engine.make_agent("busy", WORKFLOW)
    documents, executions = set(), set()
    for number in range(rounds):
        load = Writers(service, instance, rng)
        point = rng.randrange(WRITES)
        eventually(lambda: load.count() >= point, "the writes go on")
        if number % 2:
            server.kill()
            time.sleep(rng.random())
            server.start()
        else:
            service.kill_supervisor()
            time.sleep(rng.random())
            service.start()
        eventually(lambda: ready(Engine(service.port)), "it is ready again")
        eventually(lambda: load.count() >= WRITES, "the writes go on")
        load.stop()
        assert not load.faults, load.faults[:3]
        documents |= set(load.documents)
        executions |= set(load.executions)
        engine = Engine(service.port)
        there = [d["instance_id"] for d in engine.pages(f"{engine.base}/agent-instances", 500)]
        assert len(there) == len(set(there)) and documents <= set(there), "an acknowledged document is lost"
        for execution in load.executions:
            doc = engine.ended(execution)  # 404 when it was lost
            engine.check_ended(doc)  # its journal has no gap
            assert (doc["status"], doc["stop_reason"]) in (("completed", "done"), ("failed", "worker_lost")), doc
    service.stop()
    check_store(service)
    unique(service)
    print(f"{rounds} kills, {len(documents)} documents and {len(executions)} executions, none lost")
    return len(documents) + len(executions)


def unique(service):
    """What a unique index says is true of the documents."""
    with service.mongo() as client:
        for name in service.databases():
            for coll in client[name].list_collection_names():
                for index in client[name][coll].list_indexes():
                    if index.get("unique"):
                        keys = {"k%d" % i: "$" + path for i, path in enumerate(index["key"])}
                        twice = list(client[name][coll].aggregate([{"$group": {"_id": keys, "n": {"$sum": 1}}}, {"$match": {"n": {"$gt": 1}}}]))
                        assert not twice, (name, coll, index["name"], twice[:3])
