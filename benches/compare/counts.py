"""What a request is in user instructions and system calls. Each proxy runs twice for the same time under a
tool that counts, once with a short and once with a long load; the difference leaves out the start, the
connecting, the end and what is done by the clock, of which such slow runs would have too much."""

import collections
import re
import time
from collections.abc import Callable

from .proxies import Recipe, Stage
from .workloads import GET1K

CONNECTIONS = 16
FEWEST_REQUESTS = 100


class TooBusy(Exception):
    """The machine left too little time for what was to be counted."""


def instructions(recipe: Recipe, stage: Stage, seconds: tuple[int, int]) -> float:
    """User instructions per request, as callgrind counts them, over all threads."""
    output = stage.folder / f"{recipe.name}.callgrind"
    under = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={output}"]

    def total() -> collections.Counter[str]:
        # `totals:` is not in every file; the sum over all threads is `summary:` where there is one.
        number = re.search(r"^(?:totals|summary): (\d+)", output.read_text(), re.MULTILINE)
        return collections.Counter({"instructions": int(number.group(1))})

    return difference(recipe, stage, seconds, under, total)["instructions"]


def system_calls(recipe: Recipe, stage: Stage, seconds: tuple[int, int]) -> dict[str, float]:
    """System calls per request by kind, as strace counts them, most frequent first."""
    output = stage.folder / f"{recipe.name}.strace"
    under = ["strace", "-f", "-c", "-o", str(output)]
    calls = difference(recipe, stage, seconds, under, lambda: calls_in(output.read_text()))
    # What is rarer than one in a thousand requests is the proxy's own life, and the clock.
    return {name: rate for name, rate in sorted(calls.items(), key=lambda item: -item[1]) if abs(rate) >= 0.001}


def difference(
    recipe: Recipe,
    stage: Stage,
    seconds: tuple[int, int],
    under: list[str],
    count: Callable[[], collections.Counter[str]],
) -> dict[str, float]:
    """What `count` finds after a run with a long load above what it finds after one with a short load, for
    each request that the long one had more."""
    counted = []
    for length in seconds:
        with recipe.run(stage, under) as proxy:
            requests = GET1K.load(proxy, length, CONNECTIONS, stage.folder)
            time.sleep(max(seconds) - length)
        counted.append((count(), requests))
    (short, requests_short), (long, requests_long) = counted
    requests = requests_long - requests_short
    if requests < FEWEST_REQUESTS:
        raise TooBusy(f"only {requests_short} and {requests_long} requests in {seconds} seconds")
    return {name: (long[name] - short[name]) / requests for name in long}


def calls_in(table: str) -> collections.Counter[str]:
    """The calls of `strace -c`: % time, seconds, usecs/call, calls, errors if there were any, name."""
    calls: collections.Counter[str] = collections.Counter()
    for line in table.splitlines():
        fields = line.split()
        if len(fields) in (5, 6) and fields[3].isdigit() and fields[-1] != "total":
            calls[fields[-1]] = int(fields[3])
    return calls
