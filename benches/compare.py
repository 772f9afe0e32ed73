#!/usr/bin/env python3
"""What a request costs in crossfade, nginx and HAProxy: CPU microseconds, on the same work in one run.

    CROSSFADE=target/release/crossfade benches/compare.py

The work: GET of 1 KiB over keep-alive on both sides, 95/5 over two backends drawn per request, a
`canary: true` header that pins to the second, access log off. Each proxy has one worker on core 0; the
load generator (wrk) and the backend (compare/origin.c) share core 1. Single numbers move by 10 to 15 %
from run to run, so the proxies take turns, the order is reversed every second round, and what counts is
the median of the ratios within a round. Rounds in which the host stole more than --steal of the CPU are
measured again.

Needs wrk, gcc, taskset and at least one of nginx and haproxy. CPU time is user + system of the whole
process tree, read from /proc.
"""

import argparse
import dataclasses
import http.client
import os
import pathlib
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

TICK_US = 1_000_000 / os.sysconf("SC_CLK_TCK")
PROXY_CORE, LOAD_CORE = "0", "1"

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
    split_clients "$connection-$connection_requests" $drawn {{ 5% green; * blue; }}
    map $http_canary $pool {{ "true" green; default $drawn; }}
    upstream blue  {{ server 127.0.0.1:{blue};  keepalive 256; keepalive_requests 1000000000; }}
    upstream green {{ server 127.0.0.1:{green}; keepalive 256; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port};
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
    maxconn 4096
defaults
    mode http
    http-reuse always
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend main
    bind 127.0.0.1:{port}
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


@dataclasses.dataclass
class Sample:
    """One proxy in one round."""

    requests: int
    seconds: float
    user_us: float
    system_us: float

    @property
    def cost(self) -> float:
        """CPU microseconds a request."""
        return (self.user_us + self.system_us) / self.requests


class Proxy:
    def __init__(self, name: str, command: list[str], config: pathlib.Path, text: str, port: int):
        self.name, self.port = name, port
        config.write_text(text)
        self.log = config.with_suffix(".log").open("w")
        self.process = start(PROXY_CORE, command, self.log)
        wait_for_port(port, self.process, pathlib.Path(self.log.name))
        self.samples: list[Sample] = []

    def measure(self, seconds: float, connections: int) -> Sample:
        before, began = cpu_us(self.process.pid), time.monotonic()
        requests = load(self.port, seconds, connections)
        elapsed = time.monotonic() - began
        after = cpu_us(self.process.pid)
        return Sample(requests, elapsed, after[0] - before[0], after[1] - before[1])


def start(core: str, command: list[str], log) -> subprocess.Popen:
    return subprocess.Popen(["taskset", "-c", core, *command], stdout=log, stderr=log)


def stop(process: subprocess.Popen) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [held.getsockname()[1] for held in sockets]
    for held in sockets:
        held.close()
    return ports


def wait_for_port(port: int, process: subprocess.Popen, log: pathlib.Path) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    sys.exit(f"nothing listens on port {port}; its log says:\n{log.read_text()}")


def tree(root: int) -> list[int]:
    """A process and all that descend from it."""
    found = [root]
    for pid in found:
        for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
            found.extend(int(child) for child in task.read_text().split())
    return found


def cpu_us(root: int) -> tuple[float, float]:
    """User and system time of a process tree, children that have ended included."""
    user = system = 0
    for pid in tree(root):
        # The name, in parentheses, may hold blanks; the state that follows it is field 3.
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        utime, stime, cutime, cstime = (int(value) for value in fields[11:15])
        user, system = user + utime + cutime, system + stime + cstime
    return user * TICK_US, system * TICK_US


def stolen() -> tuple[int, int]:
    """Ticks that the host took from this machine, and all ticks."""
    fields = [int(value) for value in pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return fields[7], sum(fields)


def load(port: int, seconds: float, connections: int) -> int:
    """Requests that wrk got good answers to; ends the program when any failed."""
    command = ["taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s"]
    output = subprocess.run(
        [*command, f"http://127.0.0.1:{port}/"], capture_output=True, text=True, check=True
    ).stdout
    if "Non-2xx" in output or "Socket errors" in output:
        sys.exit(f"the load met errors:\n{output}")
    return int(re.search(r"(\d+) requests in", output).group(1))


def verify(proxy: Proxy) -> None:
    """Both decisions are really made: about 5 % of draws go to green, and every canary does."""
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=10)

    def version(headers: dict[str, str]) -> str:
        connection.request("GET", "/", headers=headers)
        answer = connection.getresponse()
        if answer.status != 200 or len(answer.read()) != 1024:
            sys.exit(f"{proxy.name}: wrong answer, status {answer.status}")
        return answer.headers["x-version"]

    drawn = sum(version({}) == "green" for _ in range(600))
    pinned = sum(version({"canary": "true"}) == "green" for _ in range(20))
    connection.close()
    if not 8 <= drawn <= 62 or pinned != 20:
        sys.exit(f"{proxy.name}: {drawn} of 600 drawn and {pinned} of 20 pinned went to green")


def run_round(proxies: list[Proxy], arguments: argparse.Namespace) -> tuple[dict[str, Sample], float]:
    stolen_before, all_before = stolen()
    samples = {proxy.name: proxy.measure(arguments.seconds, arguments.connections) for proxy in proxies}
    stolen_after, all_after = stolen()
    return samples, (stolen_after - stolen_before) / max(1, all_after - all_before)


def run_rounds(proxies: list[Proxy], arguments: argparse.Namespace) -> list[dict[str, Sample]]:
    run_round(proxies, arguments)  # fills caches and connection pools
    rounds, noisy = [], 0
    while len(rounds) < arguments.rounds:
        order = proxies if (len(rounds) + noisy) % 2 == 0 else proxies[::-1]
        samples, steal = run_round(order, arguments)
        if steal > arguments.steal and noisy < 2 * arguments.rounds:
            noisy += 1
            continue
        rounds.append(samples)
        costs = "  ".join(f"{proxy.name} {samples[proxy.name].cost:.1f}" for proxy in proxies)
        print(f"round {len(rounds):2}: us/request  {costs}  (steal {steal:.1%})", file=sys.stderr)
    if noisy:
        print(f"{noisy} rounds were measured again because of the host", file=sys.stderr)
    return rounds


def ratios(rounds: list[dict[str, Sample]], name: str, reference: str) -> list[float]:
    return [samples[name].cost / samples[reference].cost for samples in rounds]


def report(proxies: list[Proxy], rounds: list[dict[str, Sample]]) -> None:
    references = [proxy.name for proxy in proxies if proxy.name != "crossfade"]
    head = f"{'':10} {'us/request':>10} {'user':>6} {'system':>6} {'req/s':>8}"
    print(head + "".join(f"  {'/ ' + name + ' [min-max]':>26}" for name in references))
    for proxy in proxies:
        samples = [samples[proxy.name] for samples in rounds]
        line = (
            f"{proxy.name:10} {statistics.median(sample.cost for sample in samples):10.1f}"
            f" {statistics.median(sample.user_us / sample.requests for sample in samples):6.1f}"
            f" {statistics.median(sample.system_us / sample.requests for sample in samples):6.1f}"
            f" {statistics.median(sample.requests / sample.seconds for sample in samples):8.0f}"
        )
        for reference in references:
            values = ratios(rounds, proxy.name, reference)
            text = f"{statistics.median(values):.2f} [{min(values):.2f}-{max(values):.2f}]"
            line += f"  {text:>26}"
        print(line)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crossfade", default=os.environ.get("CROSSFADE"), help="its binary (default: $CROSSFADE)")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=1, help="of load for each proxy in a round")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--steal", type=float, default=0.06, help="measure a round again above this share")
    parser.add_argument("--forwarded", action="store_true", help="the peers add x-forwarded-* and a request id too")
    parser.add_argument("--at-most", type=float, help="fail when crossfade's median ratio to nginx is above this")
    arguments = parser.parse_args()
    if arguments.at_most and not arguments.crossfade:
        parser.error("--at-most needs crossfade's binary")
    return arguments


def start_proxies(arguments: argparse.Namespace, folder: pathlib.Path, blue: int, green: int) -> list[Proxy]:
    *ports, admin = free_ports(4)
    values = {"folder": folder, "blue": blue, "green": green, "admin": admin}

    def proxy(name: str, command: list[str], text: str, port: int, forwarded: str) -> Proxy:
        config = folder / f"{name}.{'yaml' if name == 'crossfade' else 'conf'}"
        extra = forwarded if arguments.forwarded else ""
        text = text.format(**values, port=port, forwarded=extra)
        return Proxy(name, [word.format(config=config) for word in command], config, text, port)

    proxies = []
    if arguments.crossfade:
        command = [str(pathlib.Path(arguments.crossfade).resolve()), "serve", "{config}"]
        proxies.append(proxy("crossfade", command, CROSSFADE, ports[0], ""))
    path = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
    if nginx := shutil.which("nginx", path=path):
        proxies.append(proxy("nginx", [nginx, "-c", "{config}", "-p", str(folder)], NGINX, ports[1], NGINX_FORWARDED))
    if haproxy := shutil.which("haproxy", path=path):
        proxies.append(proxy("haproxy", [haproxy, "-db", "-f", "{config}"], HAPROXY, ports[2], HAPROXY_FORWARDED))
    return proxies


def main() -> None:
    arguments = parse()
    if (os.cpu_count() or 1) < 2:
        sys.exit("needs two cores: one for the proxy, one for the load")
    proxies: list[Proxy] = []
    origin = None
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        try:
            binary = folder / "origin"
            source = pathlib.Path(__file__).parent / "compare" / "origin.c"
            subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-o", binary, source], check=True)
            blue, green = free_ports(2)
            log = folder / "origin.log"
            origin = start(LOAD_CORE, [str(binary), str(blue), str(green)], log.open("w"))
            wait_for_port(green, origin, log)
            proxies = start_proxies(arguments, folder, blue, green)
            if not proxies:
                sys.exit("found neither crossfade nor nginx nor haproxy")
            for proxy in proxies:
                verify(proxy)
            rounds = run_rounds(proxies, arguments)
        finally:
            for process in [proxy.process for proxy in proxies] + ([origin] if origin else []):
                stop(process)
    report(proxies, rounds)
    if arguments.at_most:
        median = statistics.median(ratios(rounds, "crossfade", "nginx"))
        if median > arguments.at_most:
            sys.exit(f"crossfade costs {median:.2f} times nginx, more than {arguments.at_most:g}")


if __name__ == "__main__":
    main()
