"""Sets the stage for the other tools: backends in other software, and crossfade in front of them.

Give a tool `--binary target/release/crossfade` and it starts everything itself, on free ports; or
start things by hand and give it `--proxy`, `--admin`, `--origin` and `--config`.
"""

import argparse
import contextlib
import dataclasses
import http.server
import json
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from email.message import Message

from keepalive_client import Connection

TOOLS = pathlib.Path(__file__).parent
SERVICE = "shop"
READY_SECONDS = 20

_HELD: list[socket.socket] = []

CONFIG = """\
threads: {threads}
listeners:
  - address: 127.0.0.1:{proxy}
admin:
  address: 127.0.0.1:{admin}
services:
  shop:
    pools:
      blue: {{ version: v1, weight: 100, backends: [{blue}] }}
      green: {{ version: v2, weight: 0, backends: [{green}] }}
    pins:
      - {{ headers: {{ canary: "true" }}, pool: green }}
    health_check: {{ path: /health/ready, interval: 1s, timeout: 1s }}
    timeouts: {{ response: 30s, drain: 60s }}
routes:
  - {{ name: all, match: {{ path_prefix: / }}, service: shop }}
"""

NGINX = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
    uwsgi_temp_path {folder}; scgi_temp_path {folder};
    {servers}
}}
"""
NGINX_SERVER = 'server {{ listen 127.0.0.1:{port}; add_header x-version {version}; return 200 "{version}\\n"; }}'


class Refused(Exception):
    """The admin API said no."""


@dataclasses.dataclass
class Stage:
    proxy: str
    admin: str
    origin: str | None = None
    config: pathlib.Path | None = None
    service: str = SERVICE
    process: subprocess.Popen | None = None
    blue: list[str] = dataclasses.field(default_factory=list)
    green: list[str] = dataclasses.field(default_factory=list)
    spare: list[str] = dataclasses.field(default_factory=list)
    # To which each origin.py adds what it gets.
    journal: pathlib.Path | None = None

    def path(self, rest: str = "") -> str:
        return f"/v1/services/{self.service}{rest}"

    def call(self, method: str, path: str, value: object = None) -> dict:
        """One request to the admin API.

        Raises Refused with what it said."""
        body = None if value is None else json.dumps(value).encode()
        request = urllib.request.Request(self.admin + path, body, {"content-type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=90) as answer:
                return json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            raise Refused(f"{method} {path}: {error.code} {error.read().decode()}") from error

    def versions(self) -> dict[str, str]:
        """Which version each pool of the service runs."""
        return {pool["name"]: pool["version"] for pool in self.call("GET", self.path())["pools"]}

    def edit_config(self, pattern: str, replacement: str) -> None:
        """Replaces the file the way editors do: whole and at once."""
        text, found = re.subn(pattern, replacement, self.config.read_text())
        if not found:
            sys.exit(f"{self.config} has nothing like {pattern}")
        fresh = self.config.with_suffix(".new")
        fresh.write_text(text)
        fresh.rename(self.config)

    def forget_posts(self) -> None:
        request = urllib.request.Request(self.origin + "/posts", method="DELETE")
        urllib.request.urlopen(request, timeout=10).close()

    def posts(self) -> dict:
        with urllib.request.urlopen(self.origin + "/posts", timeout=10) as answer:
            return json.loads(answer.read())


async def admin_call(connection: Connection, method: str, path: str, value: object) -> dict:
    """As Stage.call, in the event loop of the load: what is sent next is sent after this answer."""
    body = json.dumps(value).encode()
    answer = await connection.request(method, path, {"content-type": "application/json"}, body)
    if answer.status not in (200, 201):
        raise Refused(f"{method} {path}: {answer.status} {answer.body.decode()}")
    return json.loads(answer.body)


def add_arguments(parser: argparse.ArgumentParser, threads: int | None = None) -> None:
    parser.add_argument("--binary", type=pathlib.Path, help="start this crossfade, and backends for it")
    parser.add_argument("--threads", type=int, default=threads or 2, help="of the crossfade that is started")
    parser.add_argument("--backends", choices=["python", "nginx"], default="python", help="which to start")
    parser.add_argument("--proxy", help="URL of a proxy that runs already")
    parser.add_argument("--admin", help="URL of its admin API")
    parser.add_argument("--origin", help="URL of the origin.py behind it, to count POSTs")
    parser.add_argument("--config", type=pathlib.Path, help="its config file, to change it")
    parser.add_argument("--service", default=SERVICE)


@contextlib.contextmanager
def stage(arguments: argparse.Namespace, journal: bool = False):
    if not arguments.binary:
        if not (arguments.proxy and arguments.admin):
            sys.exit("give --binary, or --proxy and --admin")
        yield Stage(arguments.proxy, arguments.admin, arguments.origin, arguments.config, arguments.service)
        return
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = pathlib.Path(name)
        yield build(arguments, folder, stack, folder / "journal" if journal else None)


def build(
    arguments: argparse.Namespace, folder: pathlib.Path, stack: contextlib.ExitStack, journal: pathlib.Path | None
) -> Stage:
    proxy, admin, *backends = free_ports(8)
    blue, green = [f"127.0.0.1:{port}" for port in backends[:2]], [f"127.0.0.1:{port}" for port in backends[2:4]]
    spare = [f"127.0.0.1:{port}" for port in backends[4:]]
    # The spare backends run v1: they are added to blue.
    versions = [(address, "v1") for address in blue + spare] + [(address, "v2") for address in green]
    if arguments.backends == "nginx":
        start_nginx(folder, versions, stack)
    else:
        listeners = [f"{version}={address}" for address, version in versions]
        run(origin_command(listeners, journal), folder / "origin.log", stack)
    for address, _ in versions:
        wait_for(f"http://{address}/", folder / "origin.log")
    config = folder / "crossfade.yaml"
    quoted = {"blue": ", ".join(f'"{address}"' for address in blue), "green": ", ".join(f'"{a}"' for a in green)}
    config.write_text(CONFIG.format(threads=arguments.threads, proxy=proxy, admin=admin, **quoted))
    log = folder / "crossfade.log"
    process = run([arguments.binary.resolve(), "serve", config], log, stack)
    wait_for(f"http://127.0.0.1:{admin}/readyz", log)
    origin = f"http://{blue[0]}" if arguments.backends == "python" else None
    urls = f"http://127.0.0.1:{proxy}", f"http://127.0.0.1:{admin}", origin
    return Stage(*urls, config, SERVICE, process, blue, green, spare, journal)


def origin_command(listeners: list[str], journal: pathlib.Path | None) -> list:
    return [sys.executable, TOOLS / "origin.py", *listeners, *(["--journal", journal] if journal else [])]


def start_nginx(folder: pathlib.Path, versions: list[tuple[str, str]], stack: contextlib.ExitStack) -> None:
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin") or sys.exit("nginx is not installed")
    servers = [NGINX_SERVER.format(port=address.rpartition(":")[2], version=version) for address, version in versions]
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, servers="\n    ".join(servers)))
    run([nginx, "-c", config, "-p", folder], folder / "origin.log", stack)


def run(command: list, log: pathlib.Path, stack: contextlib.ExitStack) -> subprocess.Popen:
    """Starts a program that is ended, by its id, when the stage is taken down."""
    with log.open("w") as output:
        process = subprocess.Popen([str(word) for word in command], stdout=output, stderr=output)
    stack.callback(end, process, log)
    return process


def end(process: subprocess.Popen, log: pathlib.Path) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.returncode != 0:
        sys.exit(f"{process.args[0]} ended with {process.returncode}:\n{log.read_text()[-4000:]}")


def receiver(take: Callable[[Message, bytes], None], stack: contextlib.ExitStack) -> int:
    """Hands on the headers and the body of every POST until the stage is taken down; at which port."""

    class Taker(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            take(self.headers, self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_) -> None:
            pass

    server = stack.enter_context(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Taker))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stack.callback(server.shutdown)
    return server.server_port


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on, bound until the end so that no connection is given one meanwhile."""
    ports = []
    for _ in range(count):
        held = socket.socket()
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        _HELD.append(held)
        ports.append(held.getsockname()[1])
    return ports


def wait_for(url: str, log: pathlib.Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"{url} does not answer; the log says:\n{log.read_text()[-4000:]}")


def verdict(problems: list[str]) -> int:
    """Prints what went wrong, or that nothing did; the exit code."""
    for problem in problems:
        print(f"FAILED: {problem}")
    if not problems:
        print("passed")
    return int(bool(problems))

