"""The proxies that are compared: the same two decisions, each in its own language."""

import contextlib
import dataclasses
import pathlib
import subprocess
import sys
from collections.abc import Iterator

from .processes import LOAD_CORE, PROXY_CORE, compile_c, free_ports, start, stop, tree, wait_for_port, which

NGINX = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections {sockets}; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
    uwsgi_temp_path {folder}; scgi_temp_path {folder};
    # By default it would put bodies of more than 32 KiB and 16 KiB into files.
    proxy_buffers 8 32k; proxy_busy_buffers_size 64k; client_body_buffer_size 32k;
    split_clients "$connection-$connection_requests" $drawn {{ 5% green; * blue; }}
    map $http_canary $pool {{ "true" green; default $drawn; }}
    upstream blue  {{ server 127.0.0.1:{blue};  keepalive 256; keepalive_requests 1000000000; }}
    upstream green {{ server 127.0.0.1:{green}; keepalive 256; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://$pool;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            {forwarded}
        }}
    }}
}}
"""
NGINX_FORWARDED = """\
proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $host;
            proxy_set_header X-Request-Id $request_id;"""

HAPROXY = """\
global
    nbthread 1
    maxconn {clients}
    no strict-limits
defaults
    mode http
    http-reuse always
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend main
    bind 127.0.0.1:{port} backlog 4096
    maxconn {clients}
    {forwarded}
    acl canary hdr(canary) true
    acl drawn rand(100) lt 5
    use_backend green if canary or drawn
    default_backend blue
backend blue
    server blue 127.0.0.1:{blue}
backend green
    server green 127.0.0.1:{green}
"""
HAPROXY_FORWARDED = """\
option forwardfor
    unique-id-format %[uuid()]
    unique-id-header X-Request-Id
    http-request set-header X-Forwarded-Proto http
    http-request set-header X-Forwarded-Host %[req.hdr(host)]"""

CROSSFADE = """\
threads: 1
{engine}
listeners:
  - address: 127.0.0.1:{port}
admin:
  address: 127.0.0.1:{admin}
services:
  shop:
    pools:
      blue: {{ version: v1, weight: 95, backends: ["127.0.0.1:{blue}"] }}
      green: {{ version: v2, weight: 5, backends: ["127.0.0.1:{green}"] }}
    pins:
      - {{ headers: {{ canary: "true" }}, pool: green }}
routes:
  - {{ name: all, match: {{ path_prefix: / }}, service: shop }}
"""

# What crossfade may do beside its work, in the keys of its file: of the service, and of the whole.
EXTRAS = {
    "rollout": ("    rollout: {{}}\n", ""),
    "observed": (
        "",
        "access_log: {{ to: {folder}/log/access.log }}\n"
        # Nobody listens there: spans are made all the same.
        "tracing: {{ otlp: 'http://127.0.0.1:9', sample: 1% }}\n",
    ),
}

# How each is told to speak HTTP/2: in the clear, and over TLS on a port of its own.
HTTP2 = {
    "nginx": (
        "listen 127.0.0.1:{port} backlog=4096;",
        "listen 127.0.0.1:{port} http2 backlog=4096; listen 127.0.0.1:{tls} ssl http2 backlog=4096;\n"
        "        ssl_certificate {folder}/edge.crt; ssl_certificate_key {folder}/edge.key;",
    ),
    "haproxy": (
        "bind 127.0.0.1:{port} backlog 4096",
        "bind 127.0.0.1:{port} proto h2 backlog 4096\n"
        "    bind 127.0.0.1:{tls} ssl crt {folder}/edge.pem alpn h2 backlog 4096",
    ),
    "crossfade": (
        "  - address: 127.0.0.1:{port}\n",
        "  - address: 127.0.0.1:{port}\n"
        "  - {{ address: 127.0.0.1:{tls}, tls: {{ certificates: [{{ cert: edge.crt, key: edge.key }}] }} }}\n",
    ),
}

MAX_CLIENTS = 4096


@dataclasses.dataclass(frozen=True)
class Stage:
    """What all proxies stand on: a folder for their files, and the backends' ports."""

    folder: pathlib.Path
    blue: int
    green: int


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a proxy is started. In `command` and `text`, {port} and the like are filled in at each start."""

    name: str
    command: list[str]
    text: str
    values: dict[str, str]
    # What keeps it from having more processes than one, where a tool is to count what it does.
    alone: list[str]
    # Whether it decides anything: the raw forwarder does not.
    splits: bool = True
    # Somebody has its dashboard open meanwhile.
    is_watched: bool = False

    @contextlib.contextmanager
    def run(
        self, stage: Stage, under: list[str] | None = None, clients: int = MAX_CLIENTS
    ) -> Iterator["Running"]:
        """The proxy, running until the end of the block; `under` is the command of a tool that runs it."""
        port, tls, admin = free_ports(3)
        config = stage.folder / f"{self.name}.conf"
        values = self.values | {
            "config": str(config), "folder": str(stage.folder), "port": str(port), "tls": str(tls), "admin": str(admin),
            "blue": str(stage.blue), "green": str(stage.green),
            "clients": str(clients), "sockets": str(2 * clients),
        }  # fmt: skip
        config.write_text(self.text.format(**values))
        # For a log: what is written beside the configuration wakes who watches that.
        (stage.folder / "log").mkdir(exist_ok=True)
        command = [word.format(**values) for word in self.command]
        log = config.with_suffix(".log")
        process = start(PROXY_CORE, [*(under or []), *command, *(self.alone if under else [])], log)
        # strace is the parent of what it looks at and does not hand a signal on; valgrind is the process itself.
        try:
            wait_for_port(port, process, log)
            with self.watched(admin, process, log):
                yield Running(self.name, port, process, tls)
        finally:
            children = tree(process.pid)[1:]
            stop(process, children[0] if under and children else None)

    @contextlib.contextmanager
    def watched(self, admin: int, process: subprocess.Popen, log: pathlib.Path) -> Iterator[None]:
        if not self.is_watched:
            yield
            return
        wait_for_port(admin, process, log)
        url = f"http://127.0.0.1:{admin}/v1/events?live=true"
        events = log.with_suffix(".events")
        browser = start(LOAD_CORE, ["curl", "-sN", url], events)
        try:
            yield
            if "event: live" not in events.read_text():
                sys.exit(f"{self.name}: its dashboard was told nothing")
        finally:
            stop(browser)


@dataclasses.dataclass(frozen=True)
class Running:
    name: str
    port: int
    process: subprocess.Popen
    # Where it speaks HTTP/2 over TLS, if it was told to.
    tls: int


def crossfade(name: str, binary: str, engine: str | None) -> Recipe:
    values = {"engine": f"engine: {engine}" if engine else ""}
    return Recipe(name, [str(pathlib.Path(binary).resolve()), "serve", "{config}"], CROSSFADE, values, [])


def with_extra(recipe: Recipe, extra: str) -> Recipe:
    """The same crossfade, which also does this."""
    service, whole = EXTRAS[extra]
    text = recipe.text.replace("routes:\n", f"{service}{whole}routes:\n")
    return dataclasses.replace(recipe, name=f"{recipe.name}+{extra}", text=text, is_watched=extra == "observed")


def nginx(forwarded: bool) -> Recipe | None:
    values = {"forwarded": NGINX_FORWARDED if forwarded else ""}
    path = which("nginx")
    command = [path or "", "-c", "{config}", "-p", "{folder}"]
    return Recipe("nginx", command, NGINX, values, ["-g", "master_process off;"]) if path else None


def haproxy(forwarded: bool) -> Recipe | None:
    values = {"forwarded": HAPROXY_FORWARDED if forwarded else ""}
    path = which("haproxy")
    return Recipe("haproxy", [path, "-db", "-f", "{config}"], HAPROXY, values, []) if path else None


def rawtcp(folder: pathlib.Path) -> Recipe:
    return Recipe("rawtcp", [compile_c("rawtcp", folder), "{port}", "{blue}"], "", {}, [], splits=False)


def over_http2(recipe: Recipe) -> Recipe:
    """The same for clients that speak HTTP/2; what it is for is decided in the same way."""
    kind = recipe.name if recipe.name in HTTP2 else "crossfade"
    before, after = HTTP2[kind]
    if before not in recipe.text:
        sys.exit(f"{recipe.name}: nothing to be told to speak HTTP/2")
    return dataclasses.replace(recipe, text=recipe.text.replace(before, after))


def make_certificate(folder: pathlib.Path) -> None:
    """edge.crt and edge.key, and edge.pem with both, which is how HAProxy wants them."""
    script = pathlib.Path(__file__).parent.parent.parent / "config" / "make-certs.sh"
    subprocess.run([script, folder], check=True, capture_output=True)
    (folder / "edge.pem").write_text((folder / "edge.crt").read_text() + (folder / "edge.key").read_text())
