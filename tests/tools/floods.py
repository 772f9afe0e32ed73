#!/usr/bin/env python3
"""Floods of HTTP/1 and HTTP/2, several connections each, in the clear and over TLS: how much memory crossfade takes
meanwhile, and whether clients that behave well are served. Linux only; exits 1 when a request of theirs fails or is
late, or memory grows by more than `--most`. nginx answers behind it, and a backend that never does.

    tests/tools/floods.py --binary target/release/crossfade --most 16
"""

import argparse
import asyncio
import contextlib
import itertools
import multiprocessing
import pathlib
import select
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time

from http2_client import Http2Connection
from keepalive_client import FAILURES, Connection
from stage import NGINX, TOOLS, run, wait_for

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RESET, SETTINGS, PING, WINDOW, CONTINUATION = 0, 1, 2, 3, 4, 6, 8, 9
END_STREAM, END_HEADERS = 1, 4
LARGEST_WINDOW = 2**31 - 1
LARGE = 600_000
NAME = "shop.example.com"

CONFIG = """\
threads: {threads}
listeners:
  - {{ address: 127.0.0.1:{plain} }}
  - {{ address: 127.0.0.1:{tls}, tls: {{ certificates: [{{ cert: edge.crt, key: edge.key }}] }} }}
admin: {{ address: 127.0.0.1:{admin} }}
services:
  good: {{ pools: {{ v1: {{ backends: [127.0.0.1:{nginx}] }} }} }}
  silent: {{ pools: {{ v1: {{ backends: [127.0.0.1:{silent}] }} }} }}
routes:
  - {{ name: silent, match: {{ path_prefix: /slow }}, service: silent }}
  - {{ name: all, service: good }}
"""
SERVER = 'server {{ listen 127.0.0.1:{port}; root {folder}; location = / {{ return 200 "ok"; }} }}'


def fixed_ports(count):
    """Free ones that no client is given meanwhile."""
    ports = (port for port in range(20_000, 30_000) if not is_taken(port))
    return list(itertools.islice(ports, count))


def is_taken(port):
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return True
    return False


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def field(name, value):
    return b"\0" + b"".join(number(len(text)) + text for text in (name.encode(), value.encode()))


def number(value):
    if value < 127:
        return bytes([value])
    out, value = b"\x7f", value - 127
    while value >= 128:
        out, value = out + bytes([value % 128 + 128]), value // 128
    return out + bytes([value])


def block(path, method="GET", more=b""):
    fields = {":method": method, ":scheme": "https", ":path": path, ":authority": NAME}
    return b"".join(field(*pair) for pair in fields.items()) + more


def get(stream, path="/slow", more=b""):
    return frame(HEADERS, END_STREAM | END_HEADERS, stream, block(path, more=more))


def post(stream, body=b"", more=b""):
    head = frame(HEADERS, END_HEADERS, stream, block("/slow", "POST", more))
    return head + (frame(DATA, 0, stream, body) if body else b"")


def settings(*pairs):
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in pairs))


def streams(count, frames):
    return b"".join(frames(2 * n + 1) for n in range(count))


def reset(stream):
    return frame(RESET, 0, stream, struct.pack(">I", 8))


def window(stream, size):
    return frame(WINDOW, 0, stream, struct.pack(">I", size))


def http1(rest="", path="/slow", method="GET"):
    return f"{method} {path} HTTP/1.1\r\nhost: {NAME}\r\n{rest}".encode()


BOMB = b"\x40" + number(1) + b"a" + number(3000) + b"x" * 3000 + b"\xbe" * 12_000
CRUMBS = b"\x40" + number(6) + b"cookie" + number(0) + b"\xbe" * 3_900
CLOSED = settings((4, 0))
# What is said at once in HTTP/2, then what is said again and again.
HTTP2 = {
    "rapid resets": (streams(20_000, lambda n: get(n) + reset(n)), b""),
    "resets by windows that overflow": (streams(20_000, lambda n: get(n) + window(n, LARGEST_WINDOW)), b""),
    "resets by empty windows": (streams(20_000, lambda n: get(n) + window(n, 0)), b""),
    "resets by lengths that lie": (
        streams(20_000, lambda n: post(n, b"xy", field("content-length", "1"))),
        b"",
    ),
    "resets by DATA behind the end": (streams(20_000, lambda n: get(n) + frame(DATA, 0, n, b"x")), b""),
    "pings": (frame(PING, 0, 0, bytes(8)) * 200_000, b""),
    "settings": (settings((3, 100)) * 100_000, b""),
    "priorities": (frame(PRIORITY, 0, 5, bytes([0, 0, 0, 1, 1])) * 200_000, b""),
    "window updates": (window(0, 1) * 200_000, b""),
    "unknown frames": (frame(0xFA, 0, 0, b"x") * 200_000, b""),
    "empty DATA": (post(1) + frame(DATA, 0, 1) * 200_000, b""),
    "tiny DATA": (post(1) + frame(DATA, 0, 1, b"x") * 60_000, b""),
    "CONTINUATION": (frame(HEADERS, 0, 1, block("/")) + frame(CONTINUATION, 0, 1, field("a", "b")) * 100_000, b""),
    "large CONTINUATION": (
        frame(HEADERS, 0, 1, block("/")) + frame(CONTINUATION, 0, 1, field("a", "x" * 16_000)) * 2_000,
        b"",
    ),
    "empty CONTINUATION": (frame(HEADERS, 0, 1) + frame(CONTINUATION, 0, 1) * 200_000, b""),
    "HPACK bombs": (streams(50, lambda n: get(n, more=BOMB)), b""),
    "crumbs of cookies": (CLOSED + streams(100, lambda n: get(n, more=CRUMBS)), b""),
    "large heads that wait": (CLOSED + streams(100, lambda n: get(n, more=field("a", "x" * 15_000))), b""),
    "many fields that wait": (
        CLOSED + streams(100, lambda n: get(n, more=b"".join(field(f"a{at}", "x" * 90) for at in range(90)))),
        b"",
    ),
    "requests that wait": (streams(100, get), b""),
    "closed windows": (CLOSED + streams(100, lambda n: get(n, "/large")), b""),
    "windows of a byte": (CLOSED + streams(100, lambda n: get(n, "/large")), streams(100, lambda n: window(n, 1))),
    "readers that do not read": (
        settings((4, 2**30)) + window(0, 2**30) + streams(100, lambda n: get(n, "/large")),
        b"",
    ),
    "bodies that nobody takes": (streams(30, lambda n: post(n, b"x" * 16_384)), b""),
    "bodies a byte at a time": (streams(100, post), streams(100, lambda n: frame(DATA, 0, n, b"x"))),
    "heads without end": (frame(HEADERS, 0, 1, block("/")), b""),
    "heads a byte at a time": (frame(HEADERS, END_HEADERS, 1, bytes(16_000))[:9], b"\0"),
}
HTTP1 = {
    "HTTP/1 heads a byte at a time": (http1("x-slow: "), b"x"),
    "HTTP/1 bodies a byte at a time": (http1("content-length: 100000\r\n\r\n", method="POST"), b"x"),
    "HTTP/1 large heads": (http1("".join(f"a{n}: {'x' * 8000}\r\n" for n in range(30))), b""),
    "HTTP/1 chunks of a byte": (
        http1("transfer-encoding: chunked\r\n\r\n", method="POST") + b"1\r\nx\r\n" * 200_000,
        b"",
    ),
    "HTTP/1 readers that do not read": (http1("\r\n", "/large") * 100, b""),
    "HTTP/1 requests ahead": (http1("\r\n", "/") * 20_000, b""),
}
# Left alone by thousands of connections, once this has been said.
IDLE = {
    "silent": None,
    "idle HTTP/1": http1("\r\n", "/"),
    "idle HTTP/2": PREFACE + settings() + get(1, "/"),
}


def serve_silence(port):
    """Takes connections and reads nothing; lets go of those that were given up."""
    server = socket.create_server(("127.0.0.1", port), backlog=4096)
    watch, held = select.epoll(), {}
    watch.register(server, select.EPOLLIN)
    while True:
        for descriptor, _ in watch.poll():
            if descriptor == server.fileno():
                client = server.accept()[0]
                held[client.fileno()] = client
                watch.register(client, select.EPOLLRDHUP)
            else:
                held.pop(descriptor).close()


class Edge:
    """Where crossfade is to be found."""

    def __init__(self, plain, tls, folder):
        self.plain, self.tls = plain, tls
        self.context = ssl.create_default_context(cafile=folder / "ca.crt")

    def connect(self, protocol):
        """Over TLS if there is a protocol to agree on."""
        client = socket.create_connection(("127.0.0.1", self.tls if protocol else self.plain), timeout=20)
        if protocol:
            self.context.set_alpn_protocols([protocol])
            client = self.context.wrap_socket(client, server_hostname=NAME)
        return client


def flood(edge, protocol, first, again, seconds):
    with contextlib.suppress(OSError), edge.connect(protocol) as client:
        client.settimeout(seconds)
        until = time.monotonic() + seconds
        client.sendall(first)
        # What comes is not read: that is part of it.
        while time.monotonic() < until:
            if again:
                client.sendall(again)
            time.sleep(0.1)


def flood_all(arguments, edge, protocol, first, again):
    threads = [
        threading.Thread(target=flood, args=(edge, protocol, first, again, arguments.seconds))
        for _ in range(arguments.connections)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def idle_all(arguments, edge, protocol, said, ready):
    clients = []
    for _ in range(arguments.idle):
        if said is None:
            # Not even a handshake.
            client = socket.create_connection(("127.0.0.1", edge.tls if protocol else edge.plain), timeout=20)
        else:
            client = edge.connect(protocol)
            client.sendall(said)
            while not client.recv(65536).endswith(b"ok"):
                pass
        clients.append(client)
    ready.set()
    time.sleep(arguments.seconds)


class Process:
    def __init__(self, process):
        self.status = pathlib.Path(f"/proc/{process.pid}/status")

    def memory(self):
        """MiB that it holds."""
        return int(self.status.read_text().split("VmRSS:")[1].split()[0]) / 1024


def behave(url, patience, stop, report):
    """Clients of both protocols, and of new connections, until told to stop."""

    async def client(make, requests):
        while not stop.is_set():
            connection = make(url)
            for _ in range(requests):
                began = time.monotonic()
                try:
                    answer = await asyncio.wait_for(connection.request("GET", "/"), patience)
                    problem = "" if (answer.status, answer.body) == (200, b"ok") else f"{answer.status} {answer.body}"
                except FAILURES as error:
                    problem = repr(error)
                report.send((time.monotonic() - began, problem))
                await asyncio.sleep(0.01)
            await connection.close()

    async def clients():
        await asyncio.gather(client(Connection, 20), client(Connection, 1), client(Http2Connection, 20))

    asyncio.run(clients())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path, required=True)
    parser.add_argument("--most", type=float, default=16, help="MiB that memory may grow by in a flood")
    parser.add_argument("--threads", type=int, default=1, help="of crossfade")
    parser.add_argument("--connections", type=int, default=10, help="of each flood")
    parser.add_argument("--idle", type=int, default=9000, help="connections that are left alone")
    parser.add_argument("--seconds", type=float, default=3, help="how long each lasts")
    parser.add_argument("--patience", type=float, default=5, help="seconds in which a good client must be answered")
    parser.add_argument("--only", default="", help="those whose names have this in them")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        return play(arguments, pathlib.Path(name), stack)


def play(arguments, folder, stack):
    plain, tls, admin, nginx, silent = fixed_ports(5)
    folder.chmod(0o755)
    subprocess.run([TOOLS.parent.parent / "config" / "make-certs.sh", folder], check=True, capture_output=True)
    (folder / "large").write_bytes(b"x" * LARGE)
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, servers=SERVER.format(port=nginx, folder=folder)))
    run(["/usr/sbin/nginx", "-c", folder / "nginx.conf", "-p", folder], folder / "nginx.log", stack)
    multiprocessing.Process(target=serve_silence, args=(silent,), daemon=True).start()
    ports = {"plain": plain, "tls": tls, "admin": admin, "nginx": nginx, "silent": silent}
    (folder / "crossfade.yaml").write_text(CONFIG.format(threads=arguments.threads, **ports))
    edge = Edge(plain, tls, folder)
    floods = [
        (f"{what}{over}", flood_all, (edge, protocol, greeting + first, again))
        for greeting, kinds, alpn in ((PREFACE + settings(), HTTP2, "h2"), (b"", HTTP1, "http/1.1"))
        for what, (first, again) in kinds.items()
        for over, protocol in (("", None), (" over TLS", alpn))
    ]
    ready = multiprocessing.Event()
    floods += [
        (f"{what} connections{over}", idle_all, (edge, protocol, said, ready))
        for what, said in IDLE.items()
        for over, protocol in (("", None), (" over TLS", "h2" if what == "idle HTTP/2" else "http/1.1"))
    ]
    print("MiB that memory grows by, and that are left of it when the flood has gone")
    bad = 0
    for what, act, given in floods:
        if arguments.only not in what:
            continue
        # A crossfade of its own for each, so that none profits from what another has left behind.
        with contextlib.ExitStack() as scene:
            log = folder / "crossfade.log"
            process = Process(run([arguments.binary.resolve(), "serve", folder / "crossfade.yaml"], log, scene))
            wait_for(f"http://127.0.0.1:{admin}/readyz", log)
            flooder = multiprocessing.Process(target=act, args=(arguments, *given), daemon=True)
            grown, left, times, problems = endure(flooder, process, f"http://127.0.0.1:{plain}", arguments.patience)
        is_bad = bool(problems) or not times or grown > arguments.most and act is flood_all
        bad += is_bad
        print(
            f"{'FAILED' if is_bad else '      '} {what:42} {grown:6.1f} {left:6.1f}"
            f"   {len(times)} served, slowest {max(times, default=0) * 1000:.0f} ms {problems[:3] or ''}",
            flush=True,
        )
        if problems:
            warnings = [line for line in log.read_text().splitlines() if '"WARN"' in line]
            print("\n".join(warnings[-3:]), flush=True)
    print(f"{bad} of {len(floods)} failed" if bad else "passed")
    return int(bad > 0)


def endure(flooder, process, url, patience):
    """What a flood does to crossfade and to clients that behave well."""
    stop, (receiver, sender) = multiprocessing.Event(), multiprocessing.Pipe(False)
    good = multiprocessing.Process(target=behave, args=(url, patience, stop, sender), daemon=True)
    good.start()
    time.sleep(1)
    heard(receiver, [], [])
    first = most = process.memory()
    flooder.start()
    times, problems = [], []
    while flooder.is_alive():
        most = max(most, process.memory())
        heard(receiver, times, problems)
        time.sleep(0.02)
    # What it has begun must not come to harm others afterwards.
    time.sleep(1)
    left = process.memory() - first
    heard(receiver, times, problems)
    stop.set()
    while good.is_alive():
        heard(receiver, [], [])
        good.join(0.1)
    return most - first, left, times, problems


def heard(receiver, times, problems):
    """Adds how long requests of the clients that behave well took since it was last asked, and what went wrong."""
    while receiver.poll():
        taken, problem = receiver.recv()
        times.append(taken)
        if problem:
            problems.append(problem)


if __name__ == "__main__":
    sys.exit(main())
