#!/usr/bin/env python3
"""Cuts over again and again under load and proves that no request noticed.

    tests/tools/cutovers.py --binary target/release/crossfade --count 200 --connections 16
    tests/tools/cutovers.py --binary target/release/crossfade --count 200 --http2
    tests/tools/cutovers.py --proxy http://127.0.0.1:8080 --admin http://127.0.0.1:9900 \\
        --origin http://127.0.0.1:9001 --count 200

All weight moves from one pool to the other and back, by turns through the cutover, through the weights
and through the config file (--via). It fails unless
  - every request is answered with 200 in full,
  - no POST reached a backend twice, and each that was answered reached one once,
  - no request whose first byte was sent after a change's answer was answered by the version that left.
"""

import argparse
import asyncio
import bisect
import dataclasses
import sys
import time

from http2_client import http2_load
from keepalive_client import Connection, Load, Record, summary
from stage import Refused, Stage, add_arguments, admin_call, stage, verdict

WAYS = ("cutover", "weights", "reload")
SHARP_SECONDS = 0.002


@dataclasses.dataclass
class Cut:
    """A change of all weight: when it was asked for, when it was answered, what answers from then on."""

    begun: float
    answered: float
    version: str


async def cut(stage: Stage, admin: Connection, way: str, target: str, pools: list[str]) -> None:
    weights = {pool: 100 if pool == target else 0 for pool in pools}
    if way == "cutover":
        await admin_call(admin, "POST", stage.path("/cutover"), {"to": target, "cause": "cutovers.py"})
    elif way == "weights":
        await admin_call(admin, "PUT", stage.path("/weights"), {"weights": weights, "cause": "cutovers.py"})
    else:
        for pool, weight in weights.items():
            stage.edit_config(rf"({pool}: .*?weight:) \d+", rf"\g<1> {weight}")
        await admin_call(admin, "POST", "/v1/reload", {})


async def drive(stage: Stage, load: Load, arguments: argparse.Namespace) -> list[Cut]:
    versions = await asyncio.to_thread(stage.versions)
    pools, admin = list(versions), Connection(stage.admin)
    if len(pools) != 2 or len(set(versions.values())) != 2:
        sys.exit(f"needs a service with two pools of different versions, not {versions}")
    await cut(stage, admin, "cutover", pools[0], pools)
    load.start()
    await load.more(arguments.between)
    cuts = []
    for number in range(arguments.count):
        target, way = pools[1 - number % 2], arguments.via[number % len(arguments.via)]
        begun = time.monotonic()
        await cut(stage, admin, way, target, pools)
        cuts.append(Cut(begun, time.monotonic(), versions[target]))
        await load.more(arguments.between)
    await load.stop()
    await admin.close()
    return cuts


def late(records: list[Record], cuts: list[Cut]) -> tuple[list[Record], int, int]:
    """The requests that were sent after a change's answer and not answered by its version; how many
    could be told; and how many of those were sent right after the answer.

    One that was still open when the next change began may rightly belong to either."""
    answered = [cut.answered for cut in cuts]
    wrong, told, sharp = [], 0, 0
    for record in records:
        index = bisect.bisect_left(answered, record.sent) - 1
        if index < 0 or record.failed or (index + 1 < len(cuts) and record.done >= cuts[index + 1].begun):
            continue
        told += 1
        sharp += record.sent - answered[index] < SHARP_SECONDS
        if record.version != cuts[index].version:
            wrong.append(record)
    return wrong, told, sharp


async def run(arguments: argparse.Namespace, stage: Stage) -> int:
    if stage.origin:
        stage.forget_posts()
    load = http2_load(stage.proxy, arguments.connections, arguments.streams) if arguments.http2 else Load(
        stage.proxy, arguments.connections
    )
    cuts = await drive(stage, load, arguments)
    records = load.records
    wrong, told, sharp = late(records, cuts)
    slowest = max(cut.answered - cut.begun for cut in cuts)
    print(f"{len(cuts)} cutovers ({', '.join(arguments.via)}), the slowest answered in {slowest * 1000:.1f} ms")
    print(summary(records))
    print(f"{told} requests sent after an answer, {sharp} of them within {SHARP_SECONDS * 1000:.0f} ms; {len(wrong)} late")
    failed = sum(record.failed for record in records)
    problems = [f"{failed} requests failed"] if failed else []
    problems += [f"{len(wrong)} requests went to the version that had left, such as {wrong[0]}"] if wrong else []
    problems += [] if told > len(cuts) else ["too few requests between the cutovers to tell anything"]
    if stage.origin:
        problems += check_posts(stage.posts(), records)
    return verdict(problems)


def check_posts(seen: dict, records: list[Record]) -> list[str]:
    answered = sum(record.method == "POST" and not record.failed for record in records)
    sent = sum(record.method == "POST" for record in records)
    print(f"{sent} POSTs sent, {answered} answered; the backends saw {seen['total']}, {len(seen['duplicates'])} twice")
    problems = [f"POSTs that came twice: {seen['duplicates']}"] if seen["duplicates"] else []
    if not answered <= seen["distinct"] <= sent:
        problems.append(f"{answered} POSTs were answered, but the backends saw {seen['distinct']}")
    return problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--http2", action="store_true", help="HTTP/2 with prior knowledge instead of HTTP/1.1")
    parser.add_argument("--streams", type=int, default=4, help="concurrent requests of each HTTP/2 connection")
    parser.add_argument("--between", type=int, default=100, help="requests between two cutovers")
    parser.add_argument("--via", choices=WAYS, nargs="+", help="default: all by turns; reload needs a config file")
    arguments = parser.parse_args()
    with stage(arguments) as set_stage:
        arguments.via = arguments.via or [way for way in WAYS if way != "reload" or set_stage.config]
        try:
            code = asyncio.run(run(arguments, set_stage))
        except Refused as refused:
            code = verdict([str(refused)])
    sys.exit(code)


if __name__ == "__main__":
    main()
