#!/usr/bin/env python3
"""Removes a backend while it serves a long download and takes a slow POST: both must finish, and nothing
new may go there.

    tests/tools/removal.py --binary target/release/crossfade --seconds 10
"""

import argparse
import asyncio
import hashlib
import json
import sys
import time
import urllib.parse

from keepalive_client import BLANK_LINE, FAILURES, Connection
from stage import Refused, Stage, add_arguments, stage, verdict

DOWNLOAD_BYTES = 1_000_000
SETTLE_SECONDS = 1.0


async def download(url: str, seconds: float) -> str:
    """What is wrong with the download; nothing when it is whole."""
    answer = await Connection(url).request("GET", f"/slow?seconds={seconds}&bytes={DOWNLOAD_BYTES}")
    if answer.status != 200 or len(answer.body) != DOWNLOAD_BYTES:
        return f"the download ended with {answer.status} after {len(answer.body)} bytes"
    return ""


async def upload(url: str, seconds: float) -> str:
    """A POST whose body is sent piece by piece; what is wrong with its answer."""
    connection = Connection(url)
    await connection.open()
    pieces = [b"piece %d " % index * 100 for index in range(round(seconds * 10))]
    head = f"POST /slow-post HTTP/1.1\r\nhost: test\r\ncontent-length: {sum(map(len, pieces))}"
    connection.writer.write(head.encode() + BLANK_LINE)
    for piece in pieces:
        connection.writer.write(piece)
        await connection.writer.drain()
        await asyncio.sleep(0.1)
    head = await connection.reader.readuntil(BLANK_LINE)
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    answer = json.loads(await connection.reader.readexactly(length))
    await connection.close()
    if answer.get("sha256") != hashlib.sha256(b"".join(pieces)).hexdigest():
        return f"the POST was answered with {head!r} {answer}"
    return ""


async def run(arguments: argparse.Namespace, stage: Stage) -> int:
    if len(stage.blue) < 2 or not stage.spare:
        sys.exit("needs --binary: it must know the backends")
    leaving, staying = stage.blue
    await asyncio.to_thread(stage.call, "DELETE", backend(stage, staying) + "?wait=30s")
    slow = asyncio.gather(
        download(stage.proxy, arguments.seconds), upload(stage.proxy, arguments.seconds), return_exceptions=True
    )
    await asyncio.sleep(SETTLE_SECONDS)
    await asyncio.to_thread(stage.call, "PUT", backend(stage, stage.spare[0]), {})
    began = time.monotonic()
    receipt = await asyncio.to_thread(stage.call, "DELETE", backend(stage, leaving))
    print(f"removed {leaving} in {(time.monotonic() - began) * 1000:.1f} ms: {json.dumps(receipt)}")
    drains = await asyncio.to_thread(stage.call, "GET", "/v1/drains")
    print(f"drains: {json.dumps(drains)}")
    problems = [] if drains else ["the removal is not among the drains"]
    quick = Connection(stage.proxy)
    for _ in range(100):
        answer = await quick.request("GET", "/")
        if answer.status != 200:
            problems.append(f"a new request was answered with {answer.status} during the drain")
    await quick.close()
    problems += [str(outcome) for outcome in await slow if outcome]
    return verdict(problems)


def backend(stage: Stage, address: str) -> str:
    return stage.path(f"/pools/blue/backends/{urllib.parse.quote(address, safe='')}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--seconds", type=float, default=10, help="how long the download and the POST take")
    arguments = parser.parse_args()
    with stage(arguments) as set_stage:
        try:
            code = asyncio.run(run(arguments, set_stage))
        except (Refused, *FAILURES) as failure:
            code = verdict([repr(failure)])
    sys.exit(code)


if __name__ == "__main__":
    main()
