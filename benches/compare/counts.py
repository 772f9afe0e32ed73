"""What a request is in user instructions and system calls. Each proxy runs twice for the same time under a
tool that counts, once with a short and once with a long load; the difference leaves out the start, the
connecting, the end and what is done by the clock, of which such slow runs would have too much."""

import collections
import re
import time

from .proxies import Recipe, Stage
from .workloads import GET1K, load

CONNECTIONS = 16


def instructions(recipe: Recipe, stage: Stage, seconds: tuple[int, int]) -> float:
    """User instructions per request, as callgrind counts them, over all threads."""
    counted = []
    for length in seconds:
        output = stage.folder / f"{recipe.name}.callgrind"
        under = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={output}"]
        with recipe.run(stage, under) as proxy:
            requests = load(GET1K, proxy.port, length, CONNECTIONS, stage.folder)
            time.sleep(max(seconds) - length)
        # `totals:` is not in every file; the sum over all threads is `summary:` where there is one.
        total = re.search(r"^(?:totals|summary): (\d+)", output.read_text(), re.MULTILINE)
        counted.append((int(total.group(1)), requests))
    (cost_short, requests_short), (cost_long, requests_long) = counted
    return (cost_long - cost_short) / (requests_long - requests_short)


def system_calls(recipe: Recipe, stage: Stage, seconds: tuple[int, int]) -> dict[str, float]:
    """System calls per request by kind, as strace counts them, most frequent first."""
    counted: list[tuple[collections.Counter[str], int]] = []
    for length in seconds:
        output = stage.folder / f"{recipe.name}.strace"
        with recipe.run(stage, ["strace", "-f", "-c", "-o", str(output)]) as proxy:
            requests = load(GET1K, proxy.port, length, CONNECTIONS, stage.folder)
            time.sleep(max(seconds) - length)
        counted.append((calls_in(output.read_text()), requests))
    (calls_short, requests_short), (calls_long, requests_long) = counted
    requests = requests_long - requests_short
    difference = {name: (calls_long[name] - calls_short[name]) / requests for name in calls_long}
    # What is rarer than one in a thousand requests is the proxy's own life, and the clock.
    return {name: rate for name, rate in sorted(difference.items(), key=lambda item: -item[1]) if abs(rate) >= 0.001}


def calls_in(table: str) -> collections.Counter[str]:
    """The calls of `strace -c`: % time, seconds, usecs/call, calls, errors if there were any, name."""
    calls: collections.Counter[str] = collections.Counter()
    for line in table.splitlines():
        fields = line.split()
        if len(fields) in (5, 6) and fields[3].isdigit() and fields[-1] != "total":
            calls[fields[-1]] = int(fields[3])
    return calls
