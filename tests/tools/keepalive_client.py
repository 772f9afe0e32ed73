#!/usr/bin/env python3
"""Clients over HTTP/1.1 keep-alive connections that remember each request: when its first byte was sent,
when its answer was complete, which version gave it, and whether it failed.

    tests/tools/keepalive_client.py http://127.0.0.1:8080 --connections 16 --seconds 10

Every second request is a POST with its own `x-id`. A request fails when it is not answered with 200 in
full; a connection that the other side announced to close (`connection: close`) is opened anew, one that
breaks under a request is a failure. Used as a module by the other tools; standard library only.
"""

import argparse
import asyncio
import dataclasses
import itertools
import json
import sys
import time
import urllib.parse

BLANK_LINE = b"\r\n\r\n"
ANSWER_TIMEOUT = 60.0
LOADS = itertools.count()


class Broken(Exception):
    """The answer is not one, or not whole."""


# What Connection.request raises. ValueError: a number that is none.
FAILURES = (Broken, OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError)


@dataclasses.dataclass(slots=True)
class Record:
    """One request. Times are monotonic seconds; `sent` is taken just before its first byte is handed
    to the kernel, so that a request that counts as sent after some moment really was."""

    ident: str
    method: str
    sent: float
    done: float = 0.0
    version: str = ""
    status: int = 0
    error: str = ""

    @property
    def failed(self) -> bool:
        return bool(self.error) or self.status != 200


@dataclasses.dataclass(slots=True)
class Answer:
    status: int
    fields: dict[str, str]
    body: bytes


class Connection:
    """One HTTP/1.1 connection that is opened when needed."""

    def __init__(self, url: str):
        parsed = urllib.parse.urlsplit(url)
        self.host, self.port = parsed.hostname or "127.0.0.1", parsed.port or 80
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None
        self.opened = 0

    async def open(self) -> None:
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection(self.host, self.port, limit=1 << 20)
            self.opened += 1

    async def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
            self.reader = self.writer = None

    async def request(
        self, method: str, target: str, fields: dict[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        """Sends a request and reads its answer to the end.

        Raises one of FAILURES; the connection is closed then."""
        await self.open()
        lines = [f"{method} {target} HTTP/1.1", f"host: {self.host}:{self.port}"]
        lines += [f"{name}: {value}" for name, value in (fields or {}).items()]
        if body is not None:
            lines.append(f"content-length: {len(body)}")
        try:
            self.writer.write("\r\n".join(lines).encode() + BLANK_LINE + (body or b""))
            return await asyncio.wait_for(self._read(method), ANSWER_TIMEOUT)
        except BaseException:
            await self.close()
            raise

    async def _read(self, method: str) -> Answer:
        status = 100
        while status < 200:
            head = await self.reader.readuntil(BLANK_LINE)
            first, *lines = head[: -len(BLANK_LINE)].decode("latin-1").split("\r\n")
            protocol, _, rest = first.partition(" ")
            if protocol != "HTTP/1.1":
                raise Broken(f"status line {first!r}")
            status = int(rest[:3])
        pairs = (line.partition(":") for line in lines)
        fields = {name.lower(): value.strip() for name, _, value in pairs}
        body = await self._body(method, status, fields)
        if fields.get("connection", "").lower() == "close":
            await self.close()
        return Answer(status, fields, body)

    async def _body(self, method: str, status: int, fields: dict[str, str]) -> bytes:
        if method == "HEAD" or status in (204, 304):
            return b""
        if fields.get("transfer-encoding", "").lower() == "chunked":
            pieces = []
            while size := int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16):
                pieces.append((await self.reader.readexactly(size + 2))[:-2])
            while await self.reader.readuntil(b"\r\n") != b"\r\n":
                pass
            return b"".join(pieces)
        if "content-length" not in fields:
            raise Broken("an answer without a length")
        return await self.reader.readexactly(int(fields["content-length"]))


class Load:
    """Connections that send one request after the other until told to stop."""

    def __init__(self, url: str, connections: int, connect=Connection, lanes: int = 1, target: str = "/item"):
        """`lanes` loops share each of the connections, which `connect` makes of the URL."""
        self.url, self.connections, self.target = url, connections, target
        self._connect, self._lanes = connect, lanes
        self.records: list[Record] = []
        self.stopping = False
        self._ids = itertools.count()
        # Tells the ids of this load from those of another one against the same backend.
        self._prefix = f"{next(LOADS)}-{time.time_ns():x}"
        self._tasks: list[asyncio.Task] = []
        self._open: list = []

    def start(self) -> None:
        for _ in range(self.connections):
            connection = self._connect(self.url)
            self._open.append(connection)
            self._tasks += [asyncio.create_task(self._loop(connection)) for _ in range(self._lanes)]

    async def stop(self) -> None:
        """Lets what is in flight finish."""
        self.stopping = True
        await asyncio.gather(*self._tasks)
        for connection in self._open:
            await connection.close()

    async def more(self, count: int, timeout: float = 30) -> None:
        """Waits until so many further requests have been answered."""
        goal = len(self.records) + count
        async with asyncio.timeout(timeout):
            while len(self.records) < goal:
                await asyncio.sleep(0.001)

    def next_record(self) -> tuple[Record, bytes | None]:
        number = next(self._ids)
        method = "POST" if number % 2 else "GET"
        body = b"item %d " % number * (1 + number % 100) if number % 2 else None
        return Record(f"{self._prefix}-{number}", method, time.monotonic()), body

    async def _loop(self, connection) -> None:
        while not self.stopping:
            try:
                await connection.open()
            except OSError as error:
                now = time.monotonic()
                self.records.append(Record("", "connect", now, now, error=repr(error)))
                await asyncio.sleep(0.05)
                continue
            record, body = self.next_record()
            try:
                answer = await connection.request(record.method, self.target, {"x-id": record.ident}, body)
                record.status = answer.status
                if record.status == 200:
                    record.version = answer.fields.get("x-version") or version_in(answer.body)
                else:
                    record.error = answer.fields.get("x-crossfade-error", "")
            except FAILURES as error:
                record.error = repr(error)
            record.done = time.monotonic()
            self.records.append(record)


def version_in(body: bytes) -> str:
    """The version in a body of origin.py: all of it, or the field of that name."""
    if not body.startswith(b"{"):
        return body.decode("latin-1").strip()
    return json.loads(body).get("version", "")


def summary(records: list[Record]) -> str:
    failed = [record for record in records if record.failed]
    lines = [f"{len(records)} requests, {len(failed)} failed"]
    versions = sorted({record.version for record in records})
    for version in versions:
        count = sum(record.version == version for record in records)
        lines.append(f"  {version or '(none)'}: {count} ({count / len(records):.2%})")
    lines += [f"  failed: {record}" for record in failed[:10]]
    return "\n".join(lines)


async def run(arguments: argparse.Namespace) -> int:
    load = Load(arguments.url, arguments.connections)
    load.start()
    await asyncio.sleep(arguments.seconds)
    await load.stop()
    print(summary(load.records))
    return int(any(record.failed for record in load.records) or not load.records)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=10)
    sys.exit(asyncio.run(run(parser.parse_args())))


if __name__ == "__main__":
    main()
