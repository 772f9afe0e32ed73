#!/usr/bin/env python3
"""Checks that every window of consecutive requests is split as the weights say, within 3.

    tests/tools/windows.py --binary target/release/crossfade

The requests are sent one after the other over one connection, so one core draws for all of them.
"""

import argparse
import asyncio
import sys

from keepalive_client import FAILURES, Connection
from stage import Refused, Stage, add_arguments, stage, verdict

SPLITS = ["95/5", "50/50", "70/30", "333/667", "999/1"]


def worst_window(sequence: list[str], version: str, share: float, window: int) -> float:
    """How far the count of a version in any window is from its share of it."""
    count = sum(seen == version for seen in sequence[:window])
    worst = abs(count - share * window)
    for leaving, coming in zip(sequence, sequence[window:]):
        count += (coming == version) - (leaving == version)
        worst = max(worst, abs(count - share * window))
    return worst


async def versions_seen(url: str, requests: int) -> list[str]:
    connection = Connection(url)
    seen = []
    for _ in range(requests):
        try:
            answer = await connection.request("GET", "/")
        except FAILURES as failure:
            seen.append(repr(failure))
            break
        seen.append(answer.fields.get("x-version", "") if answer.status == 200 else f"status {answer.status}")
    await connection.close()
    return seen


async def check_split(stage: Stage, split: str, arguments: argparse.Namespace) -> list[str]:
    versions = stage.versions()
    weights = dict(zip(versions, (int(weight) for weight in split.split("/")), strict=True))
    await asyncio.to_thread(stage.call, "PUT", stage.path("/weights"), {"weights": weights, "cause": "windows.py"})
    sequence = await versions_seen(stage.proxy, arguments.requests)
    strangers = set(sequence) - set(versions.values())
    if strangers:
        return [f"{split}: answers that are of no version: {strangers}"]
    total, problems = sum(weights.values()), []
    for pool, version in versions.items():
        share = weights[pool] / total
        worst = worst_window(sequence, version, share, arguments.window)
        print(f"{split:>8}  {pool:8} {sequence.count(version):6} of {len(sequence)}  furthest window: {worst:.1f}")
        if worst > arguments.within:
            problems.append(f"{split}: a window of {arguments.window} is {worst:.1f} off for {pool}")
    return problems


async def run(arguments: argparse.Namespace, stage: Stage) -> int:
    problems = []
    for split in arguments.splits:
        problems += await check_split(stage, split, arguments)
    return verdict(problems)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, threads=1)
    parser.add_argument("--requests", type=int, default=20_000, help="for each split")
    parser.add_argument("--window", type=int, default=1_000)
    parser.add_argument("--within", type=float, default=3)
    parser.add_argument("--splits", nargs="+", default=SPLITS, help="weights of the pools in their order")
    arguments = parser.parse_args()
    with stage(arguments) as set_stage:
        try:
            code = asyncio.run(run(arguments, set_stage))
        except Refused as refused:
            code = verdict([str(refused)])
    sys.exit(code)


if __name__ == "__main__":
    main()
