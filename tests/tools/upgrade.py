#!/usr/bin/env python3
"""Upgrades crossfade again and again under load and proves that no client noticed.

    tests/tools/upgrade.py --binary target/release/crossfade --count 20

Clients over HTTP/1.1 (keep-alive, GET and POST), over HTTP/2 and with WebSockets go on while a new process takes over
`--count` times: with as many threads as before and with others, and each fourth time after one whose binary is broken.
Behind each upgrade all weight moves to the other pool. It fails unless
  - no connection is refused and every request is answered with 200 in full,
  - no POST reached a backend twice, and each that was answered reached one once,
  - no request that was sent after the answer to a change of the weights was answered by the version that left, be it by
    the old process or the new one,
  - every WebSocket echoes until it is closed by a Close frame with 1001,
  - what was changed before an upgrade is in force after it,
  - the broken binary is refused, and nothing has changed by it.
"""

import argparse
import asyncio
import contextlib
import os
import pathlib
import secrets
import signal
import struct
import sys
import time
import urllib.parse

from cutovers import Cut, check_posts, late
from http2_client import http2_load
from keepalive_client import Connection, Load, summary
from stage import Refused, Stage, add_arguments, admin_call, stage, verdict

THREADS = (2, 1, 3, 2, 4, 1)
GOING_AWAY = 1001
TEXT, CLOSE, FINAL, MASKED = 0x1, 0x8, 0x80, 0x80
BLANK_LINE = b"\r\n\r\n"


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The opcode and the payload of a frame of less than 126 bytes."""
    first, second = await reader.readexactly(2)
    mask = await reader.readexactly(4) if second & MASKED else bytes(4)
    payload = await reader.readexactly(second & 0x7F)
    return first & 0xF, bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


def frame(opcode: int, payload: bytes, mask: bytes = b"") -> bytes:
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload)) if mask else payload
    return bytes([FINAL | opcode, len(payload) | (MASKED if mask else 0)]) + mask + masked


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A backend for WebSockets; whoever looks after its health is told that it is well."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while True:
            head = await reader.readuntil(BLANK_LINE)
            if b"websocket" in head.lower():
                break
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        while True:
            opcode, payload = await read_frame(reader)
            writer.write(frame(opcode, payload))
            if opcode == CLOSE:
                break
    writer.close()


class WebSockets:
    """Clients that send and compare until told to stop, and connect anew when they were told goodbye."""

    def __init__(self, url: str, count: int):
        parsed = urllib.parse.urlsplit(url)
        self.host, self.port, self.count = parsed.hostname, parsed.port, count
        self.opened = self.echoed = self.farewells = 0
        self.failures: list[str] = []
        self.stopping = False
        self._tasks: list[asyncio.Task] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._client()) for _ in range(self.count)]

    async def stop(self) -> None:
        self.stopping = True
        await asyncio.gather(*self._tasks)

    async def _client(self) -> None:
        while not self.stopping:
            try:
                await asyncio.wait_for(self._session(), 120)
            except (OSError, asyncio.IncompleteReadError, TimeoutError, AssertionError) as error:
                self.failures.append(repr(error))
                await asyncio.sleep(0.05)

    async def _session(self) -> None:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        key = "dGhlIHNhbXBsZSBub25jZQ=="
        writer.write(
            f"GET /ws HTTP/1.1\r\nhost: {self.host}\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
            f"sec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n\r\n".encode()
        )
        head = await reader.readuntil(BLANK_LINE)
        assert head.startswith(b"HTTP/1.1 101 "), head
        self.opened += 1
        try:
            while not self.stopping:
                text = secrets.token_hex(8).encode()
                writer.write(frame(TEXT, text, os.urandom(4)))
                opcode, payload = await read_frame(reader)
                if opcode == CLOSE:
                    assert struct.unpack(">H", payload[:2])[0] == GOING_AWAY, payload
                    writer.write(frame(CLOSE, payload[:2], os.urandom(4)))
                    self.farewells += 1
                    return
                assert (opcode, payload) == (TEXT, text), (opcode, payload)
                self.echoed += 1
                await asyncio.sleep(0.01)
        finally:
            writer.close()


async def once(stage: Stage, method: str, path: str, value: object) -> dict:
    """Asks on a connection of its own: that of before ends with the process of before."""
    connection = Connection(stage.admin)
    try:
        return await admin_call(connection, method, path, value)
    finally:
        await connection.close()


async def fail(stage: Stage, broken: pathlib.Path) -> str | None:
    """An upgrade to a binary that does not work; what is wrong with how it is refused."""
    try:
        await once(stage, "POST", "/v1/upgrade", {"binary": str(broken)})
    except Refused as refused:
        words = str(refused)
        return None if " 409 " in words and "not for use" in words else words
    return "a broken binary has taken over"


async def drive(
    stage: Stage, loads: list[Load], sockets: WebSockets, pids: list[int], arguments: argparse.Namespace
) -> tuple[list[Cut], list[str], float]:
    broken = stage.config.with_name("broken")
    broken.write_text("#!/bin/sh\necho 'not for use' >&2\nexit 3\n")
    broken.chmod(0o755)
    cuts, problems, slowest = [], [], 0.0
    for load in loads:
        load.start()
    sockets.start()
    for number in range(arguments.count):
        for load in loads:
            await load.more(arguments.between)
        if number % 4 == 3:
            problems += filter(None, [await fail(stage, broken)])
        stage.edit_config(r"threads: \d+", f"threads: {THREADS[number % len(THREADS)]}")
        begun = time.monotonic()
        upgraded = await once(stage, "POST", "/v1/upgrade", {})
        slowest = max(slowest, time.monotonic() - begun)
        pids.append(upgraded["pid"])
        # At once: the old process still serves what is in flight there.
        target, version = ("green", "v2") if number % 2 == 0 else ("blue", "v1")
        begun = time.monotonic()
        receipt = await once(stage, "POST", stage.path("/cutover"), {"to": target, "cause": "upgrade.py"})
        cuts.append(Cut(begun, time.monotonic(), version))
        if not receipt["changed"]:
            problems.append(f"what upgrade {number} began with was not what was in force before")
        in_force = (await asyncio.to_thread(stage.call, "GET", "/v1/config")).get("threads")
        if in_force != THREADS[number % len(THREADS)]:
            problems.append(f"{in_force} threads after upgrade {number}")
    # Long enough for the tunnels of the last but one to be told goodbye.
    await asyncio.sleep(arguments.drain)
    for load in loads:
        await load.stop()
    await sockets.stop()
    return cuts, problems, slowest


async def run(arguments: argparse.Namespace, stage: Stage) -> int:
    backend = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = backend.sockets[0].getsockname()[1]
    stage.edit_config(
        r"services:\n",
        f"shutdown: {{ drain: {arguments.drain}s }}\nservices:\n"
        f'  sockets: {{ pools: {{ all: {{ weight: 1, backends: ["127.0.0.1:{port}"] }} }} }}\n',
    )
    stage.edit_config(r"routes:\n", "routes:\n  - { name: ws, match: { path_prefix: /ws }, service: sockets }\n")
    await once(stage, "POST", "/v1/reload", {})
    stage.forget_posts()
    loads = [Load(stage.proxy, arguments.connections), http2_load(stage.proxy, arguments.connections, 4)]
    sockets = WebSockets(stage.proxy, arguments.connections)
    pids = [stage.process.pid]
    try:
        cuts, problems, slowest = await drive(stage, loads, sockets, pids, arguments)
    finally:
        lingering = await asyncio.to_thread(all_ended, pids)
    problems += lingering
    records = [record for load in loads for record in load.records]
    print(f"{len(cuts)} upgrades, the slowest answered in {slowest * 1000:.0f} ms")
    for load, name in zip(loads, ("HTTP/1.1", "HTTP/2")):
        print(f"{name}: {summary(load.records)}")
    print(f"WebSockets: {sockets.opened} opened, {sockets.echoed} echoes, {sockets.farewells} told goodbye")
    wrong, told, _ = late(records, cuts)
    print(f"{told} requests sent after the answer to a cutover; {len(wrong)} late")
    failed = sum(record.failed for record in records)
    problems += [f"{failed} requests failed"] if failed else []
    problems += [f"{len(wrong)} requests went to the version that had left, such as {wrong[0]}"] if wrong else []
    problems += [] if told > len(cuts) else ["too few requests between the upgrades to tell anything"]
    problems += [f"WebSockets broke: {sockets.failures[:5]}"] if sockets.failures else []
    problems += [] if sockets.echoed and sockets.farewells else ["no WebSocket was told goodbye"]
    problems += check_posts(stage.posts(), records)
    backend.close()
    return verdict(problems)


def all_ended(pids: list[int]) -> list[str]:
    """Ends the process that serves; those before it end by themselves."""
    deadline = time.monotonic() + 40
    with contextlib.suppress(ProcessLookupError):
        os.kill(pids[-1], signal.SIGTERM)
    for pid in pids[1:]:
        while pathlib.Path(f"/proc/{pid}").exists() and not is_zombie(pid):
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                return [f"process {pid} does not end"]
            time.sleep(0.05)
    return []


def is_zombie(pid: int) -> bool:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z")
    except OSError:
        return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--connections", type=int, default=8, help="of each kind")
    parser.add_argument("--between", type=int, default=200, help="requests of each kind between two upgrades")
    parser.add_argument("--drain", type=int, default=5, help="seconds that an old process takes at most")
    arguments = parser.parse_args()
    if not arguments.binary:
        sys.exit("give --binary: what is upgraded is started here")
    with stage(arguments) as set_stage:
        try:
            code = asyncio.run(run(arguments, set_stage))
        except Refused as refused:
            code = verdict([str(refused)])
    sys.exit(code)


if __name__ == "__main__":
    main()
