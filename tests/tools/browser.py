#!/usr/bin/env python3
"""Chromium opens WebSockets through crossfade, over HTTP/2 (RFC 8441) on the connection that its page came by. Exits 1
when one fails, does not give back what it was sent, is not told goodbye (1001) when its backend drains, or when
Chromium has gone another way: crossfade's metrics say what it was.

    tests/tools/browser.py --binary target/release/crossfade
"""

import argparse
import asyncio
import base64
import hashlib
import json
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import urllib.request
from contextlib import ExitStack

from floods import fixed_ports
from stage import TOOLS, run, wait_for

NAME = "shop.example.com"
SOCKETS = 5
CONFIG = """\
threads: 1
listeners: [{{ address: 127.0.0.1:{tls}, tls: {{ certificates: [{{ cert: edge.crt, key: edge.key }}] }} }}]
admin: {{ address: 127.0.0.1:{admin} }}
services:
  shop:
    timeouts: {{ drain: 2s }}
    pools:
      blue: {{ weight: 1, backends: [127.0.0.1:{blue}] }}
      green: {{ weight: 0, backends: [127.0.0.1:{green}] }}
"""
# Each socket sends text and more than a window at once, and is left open until it is told goodbye.
PAGE = """\
<!doctype html><script>
const text = "hello", bytes = new Uint8Array(300000).map((_, at) => at % 251), said = [];
const tell = (path, what) => fetch(path, { method: "POST", body: JSON.stringify(what) });
const equal = (one, other) => one.length === other.length && one.every((byte, at) => byte === other[at]);
const open = () => new Promise(done => {
    const socket = new WebSocket(`wss://${location.host}/socket`, "chat"), told = { protocol: null, text: 0, bytes: 0 };
    socket.binaryType = "arraybuffer";
    socket.onopen = () => { told.protocol = socket.protocol; socket.send(text); socket.send(bytes); };
    socket.onmessage = ({ data }) => {
        if (typeof data === "string") told.text += data === text;
        else { told.bytes += equal(new Uint8Array(data), bytes); done(told); }
    };
    socket.onclose = ({ code }) => { told.code = code; said.push(told); done(told);
        if (said.length === COUNT) tell("/closed", said); };
});
Promise.all([...Array(COUNT)].map(open)).then(opened => tell("/opened", opened));
</script>
"""


class Backend:
    """Serves the page and its sockets by HTTP/1.1, and remembers what the page tells."""

    def __init__(self):
        self.told: dict[str, asyncio.Future] = {path: asyncio.get_running_loop().create_future() for path in TOLD}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")
                fields = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
                keys = [line.split(": ", 1)[1] for line in lines if line.lower().startswith("sec-websocket-key: ")]
                if keys:
                    await self.repeat(reader, writer, keys[0])
                    break
                body = await reader.readexactly(int(fields.get("content-length", 0)))
                path = lines[0].split(" ")[1]
                if path in self.told and not self.told[path].done():
                    self.told[path].set_result(json.loads(body))
                page = PAGE.replace("COUNT", str(SOCKETS)).encode() if path == "/" else b""
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n")
                writer.write(f"content-length: {len(page)}\r\n\r\n".encode() + page)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            # The browser has gone, or everything is over.
            pass
        finally:
            writer.close()

    async def repeat(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str) -> None:
        proof = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
            b"sec-websocket-protocol: chat\r\nsec-websocket-accept: " + base64.b64encode(proof) + b"\r\n\r\n"
        )
        while True:
            first, second = await reader.readexactly(2)
            length = second & 127
            if length >= 126:
                form = ">H" if length == 126 else ">Q"
                (length,) = struct.unpack(form, await reader.readexactly(struct.calcsize(form)))
            mask = await reader.readexactly(4)
            masked = await reader.readexactly(length)
            # The whole pattern of the mask at once.
            pattern = int.from_bytes((mask * (length // 4 + 1))[:length])
            payload = (int.from_bytes(masked) ^ pattern).to_bytes(length)
            if length < 126:
                size = bytes([length])
            else:
                size = struct.pack(">BH", 126, length) if length < 65536 else struct.pack(">BQ", 127, length)
            writer.write(bytes([first]) + size + payload)
            await writer.drain()
            if first & 15 == 8:
                return


TOLD = ["/opened", "/closed"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path, required=True)
    parser.add_argument("--chromium", default=shutil.which("chromium") or "chromium")
    parser.add_argument("--patience", type=float, default=60, help="seconds for each of its two parts")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        return asyncio.run(play(arguments, pathlib.Path(name), stack))


async def play(arguments: argparse.Namespace, folder: pathlib.Path, stack: ExitStack) -> int:
    tls, admin, blue, green = fixed_ports(4)
    subprocess.run([TOOLS.parent.parent / "config" / "make-certs.sh", folder], check=True, capture_output=True)
    (folder / "crossfade.yaml").write_text(CONFIG.format(tls=tls, admin=admin, blue=blue, green=green))
    backend = Backend()
    servers = [await asyncio.start_server(backend.serve, "127.0.0.1", port) for port in (blue, green)]
    log = folder / "crossfade.log"
    run([arguments.binary.resolve(), "serve", folder / "crossfade.yaml"], log, stack)
    await asyncio.to_thread(wait_for, f"http://127.0.0.1:{admin}/readyz", log)
    browser = subprocess.Popen(
        [
            arguments.chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--ignore-certificate-errors",
            f"--user-data-dir={folder / 'profile'}", f"--host-resolver-rules=MAP {NAME} 127.0.0.1",
            "--remote-debugging-port=0", f"https://{NAME}:{tls}/",
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        opened = await asyncio.wait_for(backend.told["/opened"], arguments.patience)
        metrics = await asyncio.to_thread(ask, admin, "/metrics")
        await asyncio.to_thread(ask, admin, "/v1/services/shop/cutover", {"to": "green"})
        await asyncio.to_thread(ask, admin, "/v1/services/shop/pools/blue/drain", {})
        closed = await asyncio.wait_for(backend.told["/closed"], arguments.patience)
    finally:
        browser.terminate()
        browser.wait()
        for server in servers:
            server.close()
    good = {"protocol": "chat", "text": 1, "bytes": 1}
    problems = [f"opened: {told}" for told in opened if told != good]
    problems += [f"closed: {told}" for told in closed if told != good | {"code": 1001}]
    tunnels = number(metrics, "crossfade_in_flight", 'pool="blue"', 'kind="tunnel"')
    ways = {kind: number(metrics, "crossfade_open_connections", f'protocol="{kind}"') for kind in ("h1", "h2")}
    print(f"{len(opened)} opened, {len(closed)} closed; {tunnels:.0f} tunnels on connections by protocol: {ways}")
    if tunnels != SOCKETS or ways["h1"] or not ways["h2"]:
        problems.append("not all by HTTP/2")
    print("\n".join(problems) or "passed")
    return int(bool(problems))


def ask(port: int, path: str, value: dict | None = None) -> str:
    body = None if value is None else json.dumps(value).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read().decode()


def number(metrics: str, name: str, *labels: str) -> float:
    """The sum of a metric's series that have these labels."""
    lines = [line for line in metrics.splitlines() if line.startswith(name) and all(label in line for label in labels)]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


if __name__ == "__main__":
    sys.exit(main())
