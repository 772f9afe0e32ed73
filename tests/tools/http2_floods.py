#!/usr/bin/env python3
"""Floods of HTTP/2, several connections each: how much memory crossfade takes meanwhile, and whether a client that
behaves well is served. Linux only; exits 1 when a request of that client fails or memory grows by more than `--most`.

    tests/tools/http2_floods.py --binary target/release/crossfade --most 16
"""

import argparse
import asyncio
import http.client
import multiprocessing
import pathlib
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RESET, SETTINGS, PING, WINDOW, CONTINUATION = 0, 1, 2, 3, 4, 6, 8, 9
END_STREAM, END_HEADERS = 1, 4
CONNECTIONS = 10
LARGE = b"x" * 4_000_000


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
    fields = {":method": method, ":scheme": "http", ":path": path, ":authority": "a"}
    return b"".join(field(*pair) for pair in fields.items()) + more


def get(stream, path="/slow", more=b""):
    return frame(HEADERS, END_STREAM | END_HEADERS, stream, block(path, more=more))


def settings(*pairs):
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in pairs))


def streams(count, frames):
    return b"".join(frames(2 * n + 1) for n in range(count))


def reset(stream):
    return frame(RESET, 0, stream, struct.pack(">I", 8))


def window(stream, size):
    return frame(WINDOW, 0, stream, struct.pack(">I", size))


BOMB = b"\x40" + number(1) + b"a" + number(3000) + b"x" * 3000 + b"\xbe" * 12_000
CRUMBS = b"\x40" + number(6) + b"cookie" + number(0) + b"\xbe" * 3_900
FLOODS = {
    "rapid resets": streams(20_000, lambda n: get(n) + reset(n)),
    "windows that overflow": streams(20_000, lambda n: get(n) + window(n, 2**31 - 1)),
    "pings": frame(PING, 0, 0, bytes(8)) * 200_000,
    "settings": settings((3, 100)) * 100_000,
    "priorities": frame(PRIORITY, 0, 5, bytes([0, 0, 0, 1, 1])) * 200_000,
    "empty DATA": frame(HEADERS, END_HEADERS, 1, block("/slow", "POST")) + frame(DATA, 0, 1) * 200_000,
    "tiny DATA": frame(HEADERS, END_HEADERS, 1, block("/slow", "POST")) + frame(DATA, 0, 1, b"x") * 60_000,
    "CONTINUATION": frame(HEADERS, 0, 1, block("/")) + frame(CONTINUATION, 0, 1, field("a", "b")) * 100_000,
    "empty CONTINUATION": frame(HEADERS, 0, 1) + frame(CONTINUATION, 0, 1) * 200_000,
    "HPACK bombs": streams(50, lambda n: get(n, more=BOMB)),
    "crumbs of cookies": settings((4, 0)) + streams(100, lambda n: get(n, more=CRUMBS)),
    "large heads that wait": settings((4, 0)) + streams(100, lambda n: get(n, more=field("a", "x" * 15_000))),
    "closed windows": settings((4, 0)) + streams(100, lambda n: get(n, "/large")),
    "readers that do not read": settings((4, 2**30)) + window(0, 2**30) + streams(100, lambda n: get(n, "/large")),
    "bodies that nobody takes": streams(
        30, lambda n: frame(HEADERS, END_HEADERS, n, block("/slow", "POST")) + frame(DATA, 0, n, b"x" * 16_384)
    ),
    "heads without end": frame(HEADERS, 0, 1, block("/")),
}


async def answer(reader, writer):
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            path = head.split(b" ")[1]
            if path == b"/slow":
                await asyncio.sleep(30)
            body = LARGE if path == b"/large" else b"ok"
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body))
            for at in range(0, len(body), 65536):
                writer.write(body[at : at + 65536])
                await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        pass
    writer.close()


def backend(port):
    async def serve():
        server = await asyncio.start_server(answer, "127.0.0.1", port, backlog=4096)
        await server.serve_forever()

    asyncio.run(serve())


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def flood(port, payload):
    client = socket.create_connection(("127.0.0.1", port))
    client.settimeout(8)
    try:
        client.sendall(PREFACE + settings() + payload)
        # What comes is not read: that is part of it.
        time.sleep(3)
    except OSError:
        pass
    client.close()


def memory(process):
    """KiB that the process holds."""
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def well_behaved(port, stop, failed, served):
    while not stop.is_set():
        try:
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            for _ in range(20):
                client.request("GET", "/")
                answer = client.getresponse()
                if answer.status != 200 or answer.read() != b"ok":
                    failed.append(answer.status)
                served.append(1)
                time.sleep(0.01)
            client.close()
        except (OSError, http.client.HTTPException) as error:
            failed.append(error)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--most", type=float, default=16, help="MiB that memory may grow by")
    arguments = parser.parse_args()
    port, admin, behind = free_port(), free_port(), free_port()
    multiprocessing.Process(target=backend, args=(behind,), daemon=True).start()
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as config:
        config.write(
            f"threads: 1\nlisteners: [{{ address: 127.0.0.1:{port} }}]\nadmin: {{ address: 127.0.0.1:{admin} }}\n"
            f"services: {{ s: {{ pools: {{ v1: {{ backends: [127.0.0.1:{behind}] }} }} }} }}\n"
            "routes: [{ name: all, service: s }]\n"
        )
        config.flush()
        process = subprocess.Popen([arguments.binary, "serve", config.name], stderr=subprocess.DEVNULL)
        bad = False
        try:
            stop, failed, served = threading.Event(), [], []
            time.sleep(2)
            threading.Thread(target=well_behaved, args=(port, stop, failed, served), daemon=True).start()
            time.sleep(1)
            first = memory(process)
            for name, payload in FLOODS.items():
                before = len(served)
                threads = [threading.Thread(target=flood, args=(port, payload)) for _ in range(CONNECTIONS)]
                for thread in threads:
                    thread.start()
                most = 0
                while any(thread.is_alive() for thread in threads):
                    most = max(most, memory(process))
                    time.sleep(0.05)
                grown = (most - first) / 1024
                bad |= grown > arguments.most
                print(f"{name:26} {grown:6.1f} MiB, {len(served) - before} served, {len(failed)} failed", flush=True)
            stop.set()
            print(f"at the end {(memory(process) - first) / 1024:.1f} MiB")
        finally:
            process.kill()
        for failure in failed[:5]:
            print("failed:", failure)
        return 1 if bad or failed else 0


if __name__ == "__main__":
    sys.exit(main())
