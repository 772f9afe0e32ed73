#!/usr/bin/env python3
"""A small HTTP/2 client (cleartext, prior knowledge) with the interface of keepalive_client.Connection.

    tests/tools/http2_client.py http://127.0.0.1:8080 --connections 4 --streams 4 --seconds 10

It exists because the standard library has none, and because the tools need to know when the first byte
of a request was sent. Of the answer's header fields it decodes only `:status`: it asks the peer for an
HPACK table of size 0, so that this field can be read without the others. The version is taken from the body.
"""

import argparse
import asyncio
import sys
import urllib.parse

from keepalive_client import ANSWER_TIMEOUT, Answer, Broken, Load, summary

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
HEADER_TABLE_SIZE, ENABLE_PUSH, INITIAL_WINDOW_SIZE = 1, 2, 4
DEFAULT_WINDOW, OUR_WINDOW, FRAME_LIMIT = 65_535, 1 << 20, 16_384
LARGEST_STREAM = (1 << 31) - 1

# RFC 7541, appendix A: the static entries of :status; appendix B: the codes of the digits.
STATIC_STATUS = {8: 200, 9: 204, 10: 206, 11: 304, 12: 400, 13: 404, 14: 500}
DIGIT_CODES = {"00000": "0", "00001": "1", "00010": "2"} | {f"{0b011001 + n:06b}": str(3 + n) for n in range(7)}


class Stream:
    def __init__(self, window: int):
        self.status = 0
        self.body: list[bytes] = []
        self.window = window
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fail(self, reason: str) -> None:
        if not self.over.done():
            self.over.set_exception(Broken(reason))
            self.over.exception()  # the waiter may have left: then it is nobody's loss


class Http2Connection:
    """One HTTP/2 connection with any number of concurrent requests; opened when needed."""

    def __init__(self, url: str):
        parsed = urllib.parse.urlsplit(url)
        self.host, self.port = parsed.hostname or "127.0.0.1", parsed.port or 80
        self.opened = 0
        self.writer: asyncio.StreamWriter | None = None
        self._opening = asyncio.Lock()
        self._all_reading: set[asyncio.Task] = set()

    async def open(self) -> None:
        async with self._opening:
            if self.writer is not None and not self.leaving:
                return
            reader, self.writer = await asyncio.open_connection(self.host, self.port)
            self.opened += 1
            self.streams: dict[int, Stream] = {}
            self.next_stream, self.leaving = 1, False
            self.window, self.stream_window = DEFAULT_WINDOW, DEFAULT_WINDOW
            self.window_grew = asyncio.Event()
            values = {HEADER_TABLE_SIZE: 0, ENABLE_PUSH: 0, INITIAL_WINDOW_SIZE: OUR_WINDOW}
            payload = b"".join(key.to_bytes(2) + value.to_bytes(4) for key, value in values.items())
            self.writer.write(PREFACE + frame(SETTINGS, 0, 0, payload))
            self.reading = asyncio.create_task(self._read(reader, self.writer, self.streams))
            # The one before reads on what its connection, which takes no more requests, still answers.
            self._all_reading.add(self.reading)
            self.reading.add_done_callback(self._all_reading.discard)

    async def close(self) -> None:
        for reading in self._all_reading:
            reading.cancel()
        if self.writer is not None:
            self.writer.close()
            self.writer = None

    async def request(
        self, method: str, target: str, fields: dict[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        """Sends a request on a stream of its own and reads its answer to the end.

        Raises one of keepalive_client.FAILURES."""
        await self.open()
        writer, number, stream = self.writer, self.next_stream, Stream(self.stream_window)
        self.next_stream += 2
        self.streams[number] = stream
        streams = self.streams
        block = encode(method, target, f"{self.host}:{self.port}", fields or {})
        flags = END_HEADERS | (0 if body else END_STREAM)
        try:
            writer.write(frame(HEADERS, flags, number, block))
            async with asyncio.timeout(ANSWER_TIMEOUT):
                if body:
                    await self._send_body(writer, number, stream, body)
                await stream.over
        finally:
            streams.pop(number, None)
        return Answer(stream.status, {}, b"".join(stream.body))

    async def _send_body(self, writer: asyncio.StreamWriter, number: int, stream: Stream, body: bytes) -> None:
        while body:
            size = min(len(body), self.window, stream.window, FRAME_LIMIT)
            if size <= 0:
                self.window_grew.clear()
                await self.window_grew.wait()
                continue
            piece, body = body[:size], body[size:]
            self.window -= size
            stream.window -= size
            writer.write(frame(DATA, 0 if body else END_STREAM, number, piece))

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, streams: dict[int, Stream]):
        reason = "connection closed"
        try:
            while True:
                head = await reader.readexactly(9)
                payload = await reader.readexactly(int.from_bytes(head[:3]))
                number = int.from_bytes(head[5:9]) & LARGEST_STREAM
                self._take(writer, streams, head[3], head[4], number, payload)
        except (OSError, asyncio.IncompleteReadError, Broken) as error:
            reason = f"connection broke: {error!r}"
        finally:
            for stream in streams.values():
                stream.fail(reason)
            if self.writer is writer:
                self.writer = None
            writer.close()

    def _take(self, writer, streams: dict[int, Stream], kind: int, flags: int, number: int, payload: bytes) -> None:
        stream = streams.get(number)
        if kind == HEADERS and stream:
            if not stream.status or stream.status < 200:
                stream.status = decode_status(unpadded(payload, flags))
        elif kind == DATA:
            if payload:
                writer.write(frame(WINDOW_UPDATE, 0, 0, len(payload).to_bytes(4)))
            if stream:
                stream.body.append(unpadded(payload, flags))
        elif kind == RST_STREAM and stream:
            stream.fail(f"stream reset with code {int.from_bytes(payload)}")
        elif kind == SETTINGS and not flags & ACK:
            if self.writer is writer:
                self._settings(streams, payload)
            writer.write(frame(SETTINGS, ACK, 0, b""))
        elif kind == PING and not flags & ACK:
            writer.write(frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            self.leaving = True
            last = int.from_bytes(payload[:4]) & LARGEST_STREAM
            for other, waiting in streams.items():
                if other > last:
                    waiting.fail(f"refused by GOAWAY with code {int.from_bytes(payload[4:8])}")
        elif kind == WINDOW_UPDATE and self.writer is writer:
            self._grow(stream, number, int.from_bytes(payload))
        if kind in (HEADERS, DATA) and flags & END_STREAM and stream and not stream.over.done():
            stream.over.set_result(None)

    def _settings(self, streams: dict[int, Stream], payload: bytes) -> None:
        for at in range(0, len(payload), 6):
            key, value = int.from_bytes(payload[at : at + 2]), int.from_bytes(payload[at + 2 : at + 6])
            if key == INITIAL_WINDOW_SIZE:
                for stream in streams.values():
                    stream.window += value - self.stream_window
                self.stream_window = value
                self.window_grew.set()

    def _grow(self, stream: Stream | None, number: int, by: int) -> None:
        if number == 0:
            self.window += by
        elif stream:
            stream.window += by
        self.window_grew.set()


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def unpadded(payload: bytes, flags: int) -> bytes:
    if flags & PADDED:
        payload = payload[1 : len(payload) - payload[0]]
    return payload[5:] if flags & PRIORITY else payload


def encode(method: str, target: str, authority: str, fields: dict[str, str]) -> bytes:
    """A header block that touches no table and uses no Huffman code (RFC 7541, section 6.2.2)."""
    block = {"GET": b"\x82", "POST": b"\x83"}.get(method) or b"\x02" + text(method)
    block += b"\x86" + b"\x04" + text(target) + b"\x01" + text(authority)
    return block + b"".join(b"\x00" + text(name.lower()) + text(value) for name, value in fields.items())


def text(value: str) -> bytes:
    raw = value.encode("latin-1")
    if len(raw) < 127:
        return bytes([len(raw)]) + raw
    length, rest = [127], len(raw) - 127
    while rest >= 128:
        length.append(rest % 128 + 128)
        rest //= 128
    return bytes([*length, rest]) + raw


def decode_status(block: bytes) -> int:
    """The value of `:status`, which is the first field of every answer."""
    while block and block[0] & 0xE0 == 0x20:  # a change of the table's size
        at = 1
        if block[0] & 0x1F == 0x1F:
            while block[at] & 0x80:
                at += 1
            at += 1
        block = block[at:]
    if block and block[0] & 0x80:
        return STATIC_STATUS.get(block[0] & 0x7F, -1)
    if len(block) < 3:
        raise Broken(f"no status in {block!r}")
    if block[0] & 0x0F not in STATIC_STATUS and block[0] & 0x3F not in STATIC_STATUS:
        raise Broken(f"the first field is not :status in {block[:8]!r}")
    huffman, length = block[1] & 0x80, block[1] & 0x7F
    raw = block[2 : 2 + length]
    return int(undo_huffman(raw) if huffman else raw.decode())


def undo_huffman(raw: bytes) -> str:
    bits, digits = "".join(f"{byte:08b}" for byte in raw), ""
    while len(digits) < 3:
        size = next((size for size in (5, 6) if bits[:size] in DIGIT_CODES), None)
        if size is None:
            raise Broken(f"not a status: {raw!r}")
        digits, bits = digits + DIGIT_CODES[bits[:size]], bits[size:]
    return digits


def http2_load(url: str, connections: int, streams: int = 4) -> Load:
    return Load(url, connections, connect=Http2Connection, lanes=streams)


async def run(arguments: argparse.Namespace) -> int:
    load = http2_load(arguments.url, arguments.connections, arguments.streams)
    load.start()
    await asyncio.sleep(arguments.seconds)
    await load.stop()
    print(summary(load.records))
    return int(any(record.failed for record in load.records) or not load.records)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--streams", type=int, default=4, help="concurrent requests of each connection")
    parser.add_argument("--seconds", type=float, default=10)
    sys.exit(asyncio.run(run(parser.parse_args())))


if __name__ == "__main__":
    main()
