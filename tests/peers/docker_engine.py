"""A Docker Engine for tests: the one that answers, else one of our own that leaves nothing behind.

Our own has its images, sockets and containers in a folder that goes with it; what it changes of the machine's network
is put back. Of an engine that was there before, the tests take back what they made, but for its cache of builds.
"""
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PEERS = ROOT / ".peers"
BASE = "debian:bookworm-slim"
MADE = ("agent-orchestration:latest", "kontor-test-mongodb:latest")
NO_ENGINE = "NO DOCKER ENGINE, the image and docker-compose.yml are not tested"
SUDO = [] if os.getuid() == 0 else ["sudo", "-n"]
DOCKER0, FORWARD = Path("/sys/class/net/docker0"), Path("/proc/sys/net/ipv4/ip_forward")
START = 60  # seconds for dockerd to answer


def call(*argv, **more):
    """Run it as root; it must succeed. Returns what it wrote."""
    if "input" not in more:
        more["stdin"] = subprocess.DEVNULL
    done = subprocess.run([*SUDO, *map(str, argv)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
    assert done.returncode == 0, f"{argv}: ended with {done.returncode}\n{done.stdout[-4000:]}"
    return done.stdout


class Network:
    """What dockerd changes of this machine: the packet filter, forwarding, a bridge."""

    def __init__(self):
        self.rules, self.forward = call("iptables-save"), FORWARD.read_text().strip()
        self.bridge = DOCKER0.exists()

    def restore(self):
        if not self.bridge and DOCKER0.exists():
            call("ip", "link", "delete", "docker0")
        for table in ("nat", "filter"):  # one that was not there is in no saved rules
            call("iptables", "-t", table, "-F")
            call("iptables", "-t", table, "-X")
        call("iptables", "-P", "FORWARD", "ACCEPT")
        call("iptables-restore", input=self.rules)
        call("sysctl", "-qw", f"net.ipv4.ip_forward={self.forward}")


class Engine:
    """with Engine() as engine: it runs, and has the base image."""

    def __init__(self):
        path = os.environ["PATH"] + ":/usr/sbin:/sbin"
        self.env = dict(os.environ, PATH=path, DOCKER_CONFIG=str(PEERS / "docker"), COMPOSE_INTERACTIVE_NO_CLI="1")
        self.docker, self.dockerd = shutil.which("docker", path="/usr/bin:" + path), shutil.which("dockerd", path=path)
        self.daemon = self.folder = self.network = None
        self.made, self.kept = [], {}

    def __enter__(self):
        try:
            if not self.docker or not shutil.which("docker-compose"):
                pytest.fail(f"{NO_ENGINE}: docker and docker-compose are not installed")
            if not self.answers():
                self.start()
            # What the owner of this machine calls so is given back at the end.
            self.kept = {name: self.id_of(name) for name in MADE}
            self.make_base()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    # --- The daemon

    def answers(self):
        return self.run("info", check=False).returncode == 0

    def start(self):
        if not self.dockerd:
            pytest.fail(f"{NO_ENGINE}: none runs, and dockerd is not installed")
        self.network = Network()
        self.folder = Path(tempfile.mkdtemp(prefix="kt-docker-"))
        self.env["DOCKER_HOST"] = f"unix://{self.folder}/docker.sock"
        with open(self.folder / "log", "wb") as log:
            self.daemon = subprocess.Popen(
                [*SUDO, self.dockerd, "--host", self.env["DOCKER_HOST"], "--data-root", self.folder / "data",
                 "--exec-root", self.folder / "exec", "--pidfile", self.folder / "pid"],
                env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        end = time.monotonic() + START
        while not self.answers():
            if self.daemon.poll() is not None or time.monotonic() > end:
                said = (self.folder / "log").read_text("utf-8", "replace")[-3000:]
                pytest.fail(f"{NO_ENGINE}: dockerd does not come up here:\n{said}")
            time.sleep(0.1)

    def close(self):
        if not self.daemon:
            for name in [*self.kept, *self.made]:
                self.run("image", "rm", "-f", name, check=False)
            for name, image in self.kept.items():
                if image:
                    self.run("tag", image, name)
            return
        pid = self.folder / "pid"
        if self.daemon.poll() is None and pid.exists():
            call("kill", "-TERM", pid.read_text())
        self.daemon.wait(START)
        call("rm", "-rf", "--one-file-system", self.folder)
        self.network.restore()

    # --- What is run on it

    @staticmethod
    def argv(*words):
        """A command line for someone who may use the engine; its environment says which."""
        return [*SUDO, *(["--preserve-env"] if SUDO else []), *map(str, words)]

    def command(self, *words, check=True, **more):
        """Run it. It must succeed, unless check is False."""
        done = subprocess.run(self.argv(*words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True,
                              **{"cwd": ROOT, "env": self.env, "timeout": 900, **more})
        assert not check or done.returncode == 0, f"{words}: ended with {done.returncode}\n{done.stdout[-4000:]}"
        return done

    def run(self, *words, **more):
        """`docker …`"""
        return self.command(self.docker, *words, **more)

    def out(self, *words):
        return self.run(*words).stdout.strip()

    def id_of(self, image):
        return self.out("images", "-q", "--no-trunc", image)

    # --- The base image

    def make_base(self):
        """Debian's slim image as mmdebstrap makes it, under the name that the Dockerfile asks for. No registry of images
        is asked; the file system is kept in .peers like every other peer."""
        if self.id_of(BASE):
            return
        tar = PEERS / "debian-slim.tar"
        if not tar.exists():
            PEERS.mkdir(exist_ok=True)
            part = PEERS / "part-of-debian-slim.tar"
            call("mmdebstrap", "-q", "--variant=minbase", "--hook-dir=/usr/share/mmdebstrap/hooks/maybe-merged-usr",
                 *[f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")],
                 '--customize-hook=rm -f "$1/etc/hostname" "$1/etc/resolv.conf"', "bookworm", part, timeout=600)
            call("mv", part, tar)
        self.run("import", "-c", 'CMD ["bash"]', tar, BASE)
        self.made.append(BASE)
