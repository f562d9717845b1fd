"""What a measurement needs of the machine: processor seconds and memory of process trees, pinned
programs, and a load generator (h2load of Debian's nghttp2-client) that runs a fixed number of
requests, each of which must succeed."""
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

HZ = os.sysconf("SC_CLK_TCK")
SERVER_CPU, LOAD_CPU = 0, 1 if (os.cpu_count() or 1) > 1 else 0


class Missing(Exception):
    """A peer that is not installed; its text says why."""


def stat(pid):
    """Fields of /proc/PID/stat after the name: [0] state, [1] parent, [11:15] times. None when it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None


def tree(root):
    """The pid and all that descend from it."""
    children = {}
    for name in os.listdir("/proc"):
        fields = stat(name) if name.isdigit() else None
        if fields:
            children.setdefault(int(fields[1]), []).append(int(name))
    pids, todo = [], [root]
    while todo:
        pid = todo.pop()
        pids.append(pid)
        todo += children.get(pid, [])
    return pids


def cpu_seconds(roots):
    """User and system time of the trees, with that of children that have ended and were waited for."""
    ticks = 0
    for root in roots:
        for pid in tree(root):
            fields = stat(pid)
            ticks += sum(int(n) for n in fields[11:15]) if fields else 0
    return ticks / HZ


def memory(pid, key="Pss"):
    """KiB of one process: Pss, Rss, Private_Dirty …"""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(rf"^{key}:\s+(\d+)", text, re.M)[1])


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_port(port, process, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise Missing(f"ended with {process.returncode} instead of listening")
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise Missing(f"does not listen on its port after {seconds} s")


def launch(argv, cpu=SERVER_CPU, **kw):
    """A program pinned to one processor, with its output in no one's way. argv's first must exist."""
    if not Path(argv[0]).exists():
        raise Missing(f"{argv[0]} is not there")
    argv = ["taskset", "-c", str(cpu), *[str(a) for a in argv]] if cpu is not None else [str(a) for a in argv]
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True,
                            **{"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **kw})


def stop(process, seconds=15):
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def load(url, n, clients=64, body=None, limit=120):
    """n requests over `clients` kept connections; seconds that it took. All must answer 2xx. Several urls: each is asked
    by connections of its own, in a program of its own (those of one program would ask for the same at the same time)."""
    urls = [url] if isinstance(url, str) else url[:clients]
    runs = [h2load(one, n // len(urls), clients // len(urls), body) for one in urls]
    return max(finished(run, one, n // len(urls), limit) for run, one in zip(runs, urls))


def h2load(url, n, clients, body):
    argv = ["taskset", "-c", str(LOAD_CPU), "h2load", "--h1", "-n", str(n), "-c", str(min(clients, n)), "-t1"]
    if body is not None:
        argv += ["-d", str(body), "-H", "content-type: application/json"]
    return subprocess.Popen([*argv, url], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finished(run, url, n, limit):
    out, _ = run.communicate(timeout=limit)
    counted = re.search(r"(\d+) total, .* (\d+) succeeded, .*\n.*: (\d+) 2xx", out)
    if not counted or not int(counted[1]) == int(counted[2]) == int(counted[3]) == n:
        raise RuntimeError(f"{url}: not all of {n} requests went well:\n{out[-1200:]}")
    took = re.search(r"finished in ([\d.]+)(ms|s|us)", out)
    return float(took[1]) * {"s": 1, "ms": 1e-3, "us": 1e-6}[took[2]]


class Side:
    """One side of a comparison: what to load and whose processor time counts."""

    def __init__(self, name, url, roots, body=None):
        self.name, self.url, self.roots, self.body = name, url, roots, body
        self.n = 0
        self.micros, self.rates = [], []

    def calibrate(self, seconds, first):
        """Warm it up, and find how many requests take about so long."""
        load(self.url, first, body=self.body)
        took = load(self.url, first, body=self.body)
        n = max(first, min(int(first / took * seconds), 400000))
        self.n = n if isinstance(self.url, str) else n - n % len(self.url)

    def measure(self):
        before = cpu_seconds(self.roots)
        took = load(self.url, self.n, body=self.body)
        self.micros.append((cpu_seconds(self.roots) - before) / self.n * 1e6)
        self.rates.append(self.n / took)


def median(values):
    values = sorted(values)
    mid = len(values) // 2
    return values[mid] if len(values) % 2 else (values[mid - 1] + values[mid]) / 2


def compare(sides, seconds=3.0, rounds=3, first=500):
    """Interleaved: each side once a round. Fills micros (processor time a request) and rates."""
    for side in sides:
        side.calibrate(seconds, first)
    for _ in range(rounds):
        for side in sides:
            side.measure()
    return [median(side.micros) for side in sides]
