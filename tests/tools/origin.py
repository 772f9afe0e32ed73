#!/usr/bin/env python3
"""A backend in other software, for trying crossfade from outside: any number of versions in one process.

    tests/tools/origin.py v1=127.0.0.1:9001 v2=127.0.0.1:9011

Every answer carries `x-version`. A POST with an `x-id` header is counted under that id as soon as its head
has come, over all versions, so that a request that was sent twice can be seen even if one try was cut. With
--journal, each request with an `x-id` adds a line to that file when its head has come: method, id and the address that
it came to; several processes may share the file.

    GET  /...                    the version
    POST /...                    {"version", "id", "received", "sha256"} once the whole body has come
    ANY  /echo                   the request as JSON: method, target, headers, body, trailers
    GET  /slow?seconds=10        a download that takes that long (&bytes=, &chunked=1)
    GET  /chunked?pieces=5       a chunked answer with the trailer x-pieces
    GET  /bytes/1048576          that many bytes
    ANY  /status/503             that status
    GET  /close                  an answer, then the connection is closed without notice
    GET  /reset                  the connection is closed without an answer
    GET  /posts                  {"total", "distinct", "duplicates": {id: count}}; DELETE forgets them
    GET  /health/ready           200, or 503 after POST /health/fail (until POST /health/recover)

With port 0 the system chooses one; the first line of the output says which. HTTP/1.1 with keep-alive and
`Expect: 100-continue`; standard library only.
"""

import argparse
import asyncio
import collections
import contextlib
import hashlib
import io
import json
import signal
import urllib.parse

BLANK_LINE = b"\r\n\r\n"
PIECE = 64 * 1024
HEAD_LIMIT = 256 * 1024
NO_BODY = {204, 304}

posts: collections.Counter[str] = collections.Counter()


class Hangup(Exception):
    """The connection is to be closed, on purpose or because the peer left."""


class Request:
    """A request whose head has been read; its body waits in the stream."""

    def __init__(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        first, *lines = head[: -len(BLANK_LINE)].decode("latin-1").split("\r\n")
        self.method, self.target, self.protocol = first.split(" ")
        self.headers = [parse_field(line) for line in lines]
        self.fields = {name.lower(): value for name, value in self.headers}
        self.trailers: list[tuple[str, str]] = []
        parsed = urllib.parse.urlsplit(self.target)
        self.path = parsed.path
        self.query = dict(urllib.parse.parse_qsl(parsed.query))
        self.reader, self.writer = reader, writer

    async def body(self):
        """The pieces of the body as they come."""
        chunked = "chunked" in self.fields.get("transfer-encoding", "").lower()
        length = int(self.fields.get("content-length", "0"))
        if not chunked and not length:
            return
        if self.fields.get("expect", "").lower() == "100-continue":
            self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not chunked:
            async for piece in read_exactly(self.reader, length):
                yield piece
            return
        while size := int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16):
            async for piece in read_exactly(self.reader, size):
                yield piece
            await self.reader.readexactly(2)
        while (line := await self.reader.readuntil(b"\r\n")) != b"\r\n":
            self.trailers.append(parse_field(line[:-2].decode("latin-1")))


def parse_field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name, value.strip()


async def read_exactly(reader: asyncio.StreamReader, length: int):
    while length:
        piece = await reader.read(min(length, PIECE))
        if not piece:
            raise Hangup
        length -= len(piece)
        yield piece


class Version:
    """One listening version."""

    def __init__(self, name: str, idle: float | None, journal: io.FileIO | None):
        self.name, self.idle, self.journal = name, idle, journal
        self.address, self.healthy = "", True

    async def listen(self, address: str) -> asyncio.Server:
        host, _, port = address.rpartition(":")
        server = await asyncio.start_server(
            self.serve, host, int(port), limit=HEAD_LIMIT, backlog=1024, start_serving=False
        )
        self.address = f"{host}:{server.sockets[0].getsockname()[1]}"
        await server.start_serving()
        return server

    def head(self, status: int, *fields: str) -> bytes:
        lines = [f"HTTP/1.1 {status} Status", f"x-version: {self.name}", *fields]
        return "\r\n".join(lines).encode("latin-1") + BLANK_LINE

    def whole(self, request: Request, status: int, body: bytes, kind: str = "text/plain") -> None:
        if status in NO_BODY:
            request.writer.write(self.head(status))
            return
        head = self.head(status, f"content-type: {kind}", f"content-length: {len(body)}")
        request.writer.write(head + (b"" if request.method == "HEAD" else body))

    def json(self, request: Request, value: object, status: int = 200) -> None:
        self.whole(request, status, json.dumps(value).encode() + b"\n", "application/json")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(
            Hangup, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError
        ):
            while True:
                head = await asyncio.wait_for(reader.readuntil(BLANK_LINE), self.idle)
                request = Request(head, reader, writer)
                await self.answer(request)
                await writer.drain()
                if request.protocol != "HTTP/1.1" or request.fields.get("connection", "").lower() == "close":
                    break
        writer.close()

    async def answer(self, request: Request) -> None:
        ident = request.fields.get("x-id")
        if request.method == "POST" and ident is not None:
            posts[ident] += 1
        if ident is not None and self.journal:
            self.journal.write(f"{request.method} {ident} {self.address}\n".encode())
        if request.path == "/reset":
            raise Hangup
        if request.path == "/echo":
            return await self.echo(request)
        received, digest = 0, hashlib.sha256()
        async for piece in request.body():
            received += len(piece)
            digest.update(piece)
        first, _, rest = request.path[1:].partition("/")
        match first:
            case "slow":
                await self.slow(request)
            case "chunked":
                await self.chunked(request)
            case "bytes":
                await self.bytes(request, int(rest))
            case "status":
                self.whole(request, int(rest), f"{rest}\n".encode())
            case "close":
                self.whole(request, 200, b"closing\n")
                await request.writer.drain()
                raise Hangup
            case "posts":
                self.posts(request)
            case "health":
                self.health(request, rest)
            case _ if request.method == "POST":
                value = {"version": self.name, "id": ident, "received": received}
                self.json(request, value | {"sha256": digest.hexdigest()})
            case _:
                self.whole(request, 200, f"{self.name}\n".encode())

    async def echo(self, request: Request) -> None:
        body = b"".join([piece async for piece in request.body()])
        self.json(
            request,
            {
                "version": self.name,
                "method": request.method,
                "target": request.target,
                "headers": request.headers,
                "body": body.decode("latin-1"),
                "trailers": request.trailers,
            },
        )

    async def slow(self, request: Request) -> None:
        seconds = float(request.query.get("seconds", "10"))
        size = int(request.query.get("bytes", "1000000"))
        pieces = max(1, round(seconds * 10))
        chunked = request.query.get("chunked") == "1"
        framing = "transfer-encoding: chunked" if chunked else f"content-length: {size}"
        request.writer.write(self.head(200, framing))
        for index in range(pieces):
            piece = b"s" * (size * (index + 1) // pieces - size * index // pieces)
            request.writer.write(chunk(piece) if chunked else piece)
            await request.writer.drain()
            await asyncio.sleep(seconds / pieces)
        if chunked:
            request.writer.write(b"0\r\n\r\n")

    async def chunked(self, request: Request) -> None:
        pieces = int(request.query.get("pieces", "5"))
        request.writer.write(self.head(200, "transfer-encoding: chunked", "trailer: x-pieces"))
        for index in range(pieces):
            request.writer.write(chunk(f"piece {index}\n".encode()))
            await request.writer.drain()
        request.writer.write(f"0\r\nx-pieces: {pieces}\r\n\r\n".encode())

    async def bytes(self, request: Request, size: int) -> None:
        request.writer.write(self.head(200, f"content-length: {size}"))
        if request.method == "HEAD":
            return
        while size:
            piece = min(size, PIECE)
            request.writer.write(b"b" * piece)
            await request.writer.drain()
            size -= piece

    def posts(self, request: Request) -> None:
        if request.method == "DELETE":
            posts.clear()
        duplicates = {ident: count for ident, count in posts.items() if count > 1}
        self.json(request, {"total": posts.total(), "distinct": len(posts), "duplicates": duplicates})

    def health(self, request: Request, word: str) -> None:
        if request.method == "POST":
            self.healthy = word == "recover"
        self.whole(request, 200 if self.healthy else 503, b"ready\n" if self.healthy else b"failing\n")


def chunk(piece: bytes) -> bytes:
    # An empty chunk would end the body.
    return b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b""


async def run(arguments: argparse.Namespace) -> None:
    # Without a buffer: a line is there before its answer is, even if this process is killed then.
    journal = open(arguments.journal, "ab", buffering=0) if arguments.journal else None
    listening = []
    for listener in arguments.listeners:
        name, _, address = listener.partition("=")
        version = Version(name, arguments.idle, journal)
        listening.append((version, await version.listen(address)))
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    print("listening", *(f"{version.name}={version.address}" for version, _ in listening), flush=True)
    await stopped.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("listeners", nargs="+", metavar="VERSION=HOST:PORT")
    parser.add_argument("--idle", type=float, help="close connections that idle this many seconds, without notice")
    parser.add_argument("--journal", metavar="FILE", help="add a line to it for each request with an x-id")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
