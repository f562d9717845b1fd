"""kill -9 of the worker or the supervisor at a random moment under load, and what must hold then."""
import os
import random
import signal
import subprocess
import tempfile
import threading
import time

from conftest import KONTOR, eventually
from engine_client import FINAL, Engine

WORKFLOW = """
workflow { name = "busy", run = function(run, input)
  local n = input.n or 1
  local out = { n = n, r = random() }
  for i = 1, n do
    time.sleep(0.01 * i)
    data.get("instance", run.instance_id)
    progress(i, n, "step")
    result.partial(out)
  end
  out.parts = parallel {
    function() time.sleep(0.03) return 1 end,
    function() return #data.list("dataset", {}) end,
  }
  return out
end }
"""


class Load:
    """Clients that start executions until they are stopped; what was accepted is remembered."""

    def __init__(self, engine, instance, rng, clients=2):
        self.engine, self.instance, self.accepted, self.ends = engine, instance, [], threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(random.Random(rng.random()),)) for _ in range(clients)]
        for thread in self.threads:
            thread.start()

    def run(self, rng):
        while not self.ends.is_set():
            try:
                answer = self.engine.post(f"{self.engine.base}/executions",
                                          {"instance_id": self.instance, "input_data": {"n": rng.randrange(6)}})
            except OSError:
                continue  # nobody answers: nothing was promised
            except Exception:  # noqa: BLE001 - a half answer: nothing was promised either
                continue
            if answer.status == 202:
                self.accepted.append(answer.json["execution_id"])
            else:
                assert answer.status in (429, 503), answer
            time.sleep(rng.random() * 0.02)

    def stop(self):
        self.ends.set()
        for thread in self.threads:
            thread.join()


def check_store(service):
    """`kontor db check` on the store of a service that does not run."""
    done = subprocess.run([KONTOR, "db", "check"], cwd=service.tmp, env=service.env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def storm(make_service, rounds, seed):
    with tempfile.TemporaryDirectory(prefix="kt-crash-") as disk:  # tests/run keeps what is a test's in memory
        return storm_on(make_service(KONTOR_DRAIN_SECONDS=2, KONTOR_DATA_DIR=f"{disk}/data").start(), rounds, seed)


def storm_on(service, rounds, seed):
    rng = random.Random(seed)
    print(f"seed {seed}")
    engine = Engine(service.port).unlimited()
    instance = engine.make_agent("busy", WORKFLOW)
    lost = 0
    known = set()
    for number in range(rounds):
        load = Load(engine, instance, rng)
        time.sleep(0.05 + rng.random() * 0.7)
        if rng.random() < 0.5:
            [worker, *_] = eventually(service.workers, "a worker")
            os.kill(worker, signal.SIGKILL)
            time.sleep(rng.random() * 0.3)
            load.stop()
            eventually(lambda: ready(engine), "the next worker serves")
        else:
            service.kill_supervisor()
            load.stop()
            if number % 5 == 0:
                check_store(service)
            service.start()
            engine = Engine(service.port)
        accepted = set(load.accepted)
        for execution in accepted:
            engine.ended(execution)  # 404 when it was lost without a word
        docs = {d["execution_id"]: d for d in engine.all_executions()}
        assert accepted <= docs.keys() and known <= docs.keys()
        for execution in docs.keys() - known:
            doc = docs[execution]
            if doc["status"] not in FINAL:  # accepted by the store, the answer never came
                doc = engine.ended(execution)
            engine.check_ended(doc)
            assert (doc["status"], doc["stop_reason"]) in (("completed", "done"), ("failed", "worker_lost")), doc
            lost += doc["stop_reason"] == "worker_lost"
        known |= docs.keys()
    service.stop()
    check_store(service)
    print(f"{rounds} kills, {len(known)} executions, {lost} lost to a killed worker, none without a word")
    assert lost > 0 and len(known) > lost
    return len(known), lost


def ready(engine):
    try:
        return engine.get("/ready").status == 200
    except Exception:  # noqa: BLE001 - not yet
        return False
