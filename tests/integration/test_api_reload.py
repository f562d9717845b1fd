"""HUP and TERM under load: what was accepted is answered, and streams come back."""
import json
import signal
import threading

import websockets.sync.client
from client import Client
from conftest import eventually
from engine_client import Engine

INSTANCE = "inst_legacy_erp-exception-management"
BASE = "/api/v1/projects/default/executions"


def test_hup_under_load_fails_no_request(make_service):
    service = make_service().start()
    Engine(service.port).unlimited().ok("POST", "/api/v1/master/setup/erp-defaults", {}, want=(200,))
    stop, failed, done = threading.Event(), [], [0, 0]

    def load(n):
        api = Client(service.port)
        while not stop.is_set():
            try:
                if n % 2:
                    answer, want = api.post("/api/v1/projects/default/datasets", {"name": "x"}), (201, 403)
                else:
                    answer, want = api.get("/api/v1/projects/default/agent-instances"), (200,)
                if answer.status not in want:
                    failed.append(answer)
                done[n % 2] += 1
            except OSError as e:
                failed.append(e)
    threads = [threading.Thread(target=load, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    try:
        for turn in (2, 3):
            service.signal(signal.SIGHUP)
            eventually(lambda: len(service.events("worker.started")) >= turn and len(service.workers()) == 1, "a new set alone")
            before = list(done)
            eventually(lambda: done[0] > before[0] + 20 and done[1] > before[1] + 5, "the load goes on")
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert failed == [] and min(done) > 10
    # Everything that was accepted is there, once.
    made = Client(service.port).pages("/api/v1/projects/default/datasets", 200)
    assert len(made) == len({d["dataset_id"] for d in made})


def test_followers_of_a_drained_worker_come_back(make_service):
    service = make_service().start()
    api = Client(service.port)
    api.ok("POST", "/api/v1/master/setup/erp-defaults", {}, want=(200,))
    run = api.ok("POST", BASE, {"instance_id": INSTANCE, "run_at": "2099-01-01T00:00:00Z"}, want=(202,))
    url = f"ws://127.0.0.1:{service.port}/ws/execution/{run['execution_id']}"
    with websockets.sync.client.connect(url) as ws:
        assert json.loads(ws.recv())["type"] == "hello"
        assert json.loads(ws.recv())["type"] == "execution.status"
        service.signal(signal.SIGHUP)
        try:
            while True:
                ws.recv(timeout=60)
        except websockets.ConnectionClosed as closed:
            assert closed.rcvd.code == 1001
    with websockets.sync.client.connect(f"{url}?since=0") as ws:
        assert json.loads(ws.recv())["status"] == "delayed"
        api.ok("POST", f"{BASE}/{run['execution_id']}/cancel", {})
        types = []
        try:
            while True:
                types.append(json.loads(ws.recv(timeout=60))["type"])
        except websockets.ConnectionClosed as closed:
            assert closed.rcvd.code == 1000
    assert types[-1] == "execution.cancelled"


def test_term_ends_open_streams(make_service):
    """stop() of the fixture asserts exit 0 and that nothing is left."""
    service = make_service().start()
    api = Client(service.port)
    api.ok("POST", "/api/v1/master/setup/erp-defaults", {}, want=(200,))
    run = api.ok("POST", BASE, {"instance_id": INSTANCE, "run_at": "2099-01-01T00:00:00Z"}, want=(202,))
    texts = []

    def follow():
        texts.append(api.get(f"{BASE}/{run['execution_id']}/events").body.decode())
    t = threading.Thread(target=follow)
    t.start()
    eventually(lambda: b"events" in service.stderr.read_bytes() or t.is_alive(), "the stream is open")
    with websockets.sync.client.connect(f"ws://127.0.0.1:{service.port}/ws/execution/{run['execution_id']}") as ws:
        ws.recv()
        service.stop()
    t.join(60)
    assert not t.is_alive() and texts and texts[0].startswith("retry: 2000")
