#!/usr/bin/env python3
"""What crossfade costs beside nginx, HAProxy and a raw TCP forwarder, on the same work in one run.

    CROSSFADE=target/release/crossfade benches/compare.py
    CROSSFADE=target/release/crossfade benches/compare.py --goals
    CROSSFADE=target/release/crossfade benches/compare.py --parts cpu --workloads get1k --peers nginx

Five parts: CPU time, user instructions, system calls, idle connections and CPU time with HTTP/2. README.md here says
what each number means and what falsifies it. Needs wrk, gcc and taskset; peers and tools that are not there
(nginx, haproxy, valgrind, strace, h2load) are said and left out.
"""

import argparse
import contextlib
import dataclasses
import os
import pathlib
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import TypeVar

from compare import counts, cpu, idle, proxies
from compare.processes import LOAD_CORE, allow_files, compile_c, free_ports, start, stop, wait_for_port, which
from compare.workloads import GET1K, HTTP2_WORKLOADS, WORKLOADS, Http2Workload, Workload, verify

T = TypeVar("T")

COUNTED = ["instructions", "syscalls", "idle"]
PARTS = ["cpu", *COUNTED, "h2load"]
PEERS = ["nginx", "haproxy", "rawtcp"]
# Open files that this program and the proxies may have, where the system lets them.
FILES = 65536


@dataclasses.dataclass(frozen=True)
class Goal:
    """`what` of crossfade is to be at most `limit`: WORKLOAD:PEER is a ratio of CPU times, the others are counts."""

    what: str
    limit: float

    @classmethod
    def parse(cls, text: str) -> "Goal":
        what, _, limit = text.rpartition(":")
        workload, _, peer = what.partition(":")
        known = [*WORKLOADS, *HTTP2_WORKLOADS]
        if not (what in COUNTED or (workload in known and peer in PEERS)):
            raise argparse.ArgumentTypeError(f"{text!r} is neither WORKLOAD:PEER:RATIO nor {'|'.join(PARTS[1:])}:NUMBER")
        return cls(what, float(limit))


GOALS = [
    Goal("get1k:nginx", 0.75), Goal("get1k:haproxy", 0.75), Goal("get1k:rawtcp", 1.3),
    Goal("get100k:nginx", 0.95), Goal("post16k:nginx", 0.80),
    Goal("instructions", 9000), Goal("syscalls", 4.2), Goal("idle", 2),
]  # fmt: skip


class Comparison:
    def __init__(self, arguments: argparse.Namespace, stage: proxies.Stage, recipes: list[proxies.Recipe]):
        self.arguments, self.stage, self.recipes = arguments, stage, recipes
        # What was measured of the first crossfade, by the name that goals have for it.
        self.found: dict[str, float] = {}

    def is_subject(self, recipe: proxies.Recipe) -> bool:
        return recipe is self.recipes[0] and recipe.name.startswith("crossfade")

    def cpu(self) -> None:
        with self.running(self.recipes) as started:
            for recipe, proxy in zip(self.recipes, started):
                verify(proxy.name, proxy.port, self.arguments.workloads, recipe.splits)
            for workload in self.arguments.workloads:
                self.costs(workload, started)

    def h2load(self) -> None:
        proxies.make_certificate(self.stage.folder)
        with self.running([proxies.over_http2(recipe) for recipe in self.recipes if recipe.splits]) as started:
            for workload in HTTP2_WORKLOADS.values():
                self.costs(workload, started)

    @contextlib.contextmanager
    def running(self, recipes: list[proxies.Recipe]) -> Iterator[list[proxies.Running]]:
        with contextlib.ExitStack() as running:
            yield [running.enter_context(recipe.run(self.stage)) for recipe in recipes]

    def costs(self, workload: Workload | Http2Workload, started: list[proxies.Running]) -> None:
        plan, names = self.arguments.plan, [proxy.name for proxy in started]
        rounds = cpu.run_rounds(started, workload, plan, self.stage.folder)
        title(
            f"CPU per request, {workload.name}: {workload.says}, {plan.connections} connections, "
            f"one thread; median [min-max] of {plan.rounds} rounds"
        )
        cpu.report(names, names[1:], rounds)
        for peer in names[1:] if self.is_subject(self.recipes[0]) else []:
            self.found[f"{workload.name}:{peer}"] = statistics.median(cpu.ratios(rounds, names[0], peer))

    def instructions(self) -> None:
        title(f"User instructions per request (callgrind), {GET1K.name}")
        for recipe, number in self.counted(counts.instructions):
            print(f"{recipe.name:18}{number:10.0f}", flush=True)
            self.note(recipe, "instructions", number)

    def syscalls(self) -> None:
        title(f"System calls per request (strace), {GET1K.name}")
        for recipe, calls in self.counted(counts.system_calls):
            kinds = ", ".join(f"{name} {rate:.3f}" for name, rate in calls.items())
            print(f"{recipe.name:18}{sum(calls.values()):10.2f}   {kinds}", flush=True)
            self.note(recipe, "syscalls", sum(calls.values()))

    def counted(self, count: Callable[..., T]) -> Iterator[tuple[proxies.Recipe, T]]:
        """Each proxy with what `count` finds of it; says which of them were too busy."""
        for recipe in self.recipes:
            try:
                found = count(recipe, self.stage, self.arguments.count_seconds)
            except counts.TooBusy as problem:
                print(f"{recipe.name:18}   (not measured: {problem})", flush=True)
            else:
                yield recipe, found

    def idle(self) -> None:
        # A proxy has one file for each client, and some for the backends; this program has one for each.
        most = allow_files(FILES) - 1000
        sizes = [size for size in self.arguments.idle if size <= most]
        for size in set(self.arguments.idle) - set(sizes):
            print(f"{size} idle connections left out: ulimit -n allows {most}", file=sys.stderr)
        title("RSS with idle connections that have done one request each")
        steps = list(zip(sizes, sizes[1:]))
        heads = [f"MiB at {size}" for size in sizes] + [f"KiB each, {low}-{high}" for low, high in steps]
        print(f"{'':18}" + "".join(f"{head:>24}" for head in heads))
        for recipe in self.recipes:
            if not recipe.splits:
                print(f"{recipe.name:18}   (left out: it holds a connection to the backend for each)")
                continue
            rss = idle.idle_rss(recipe, self.stage, sizes)
            each = [
                (after - before) / (high - low) for (low, high), before, after in zip(steps, rss, rss[1:])
            ]
            cells = [f"{kib / 1024:.1f}" for kib in rss] + [f"{kib:.2f}" for kib in each]
            print(f"{recipe.name:18}" + "".join(f"{cell:>24}" for cell in cells), flush=True)
            if each:
                self.note(recipe, "idle", each[0])

    def note(self, recipe: proxies.Recipe, what: str, number: float) -> None:
        if self.is_subject(recipe):
            self.found[what] = number

    def judge(self, goals: list[Goal]) -> list[str]:
        """Prints each goal beside what was measured; the lines of those that were missed."""
        title(f"Goals of {self.recipes[0].name}")
        missed = []
        for goal in goals:
            number = self.found.get(goal.what)
            said = "not measured" if number is None else f"{number:.{0 if goal.limit > 100 else 2}f}"
            is_met = number is not None and number <= goal.limit
            line = f"{goal.what:18} {said:>12}   at most {goal.limit:<6g} {'ok' if is_met else 'MISSED'}"
            print(line)
            missed += [] if is_met else [line]
        return missed


def title(text: str) -> None:
    print(f"\n== {text}", flush=True)


def names_of(known: list[str]):
    """A parser of a list of known names, in the order in which they are known."""

    def parse(text: str) -> list[str]:
        names = [name for name in text.split(",") if name]
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: choose among {', '.join(known)}")
        return [name for name in known if name in names]

    return parse


def workloads_of(text: str) -> list[Workload]:
    return [WORKLOADS[name] for name in names_of(list(WORKLOADS))(text)]


def sizes_of(text: str) -> list[int]:
    return sorted({int(size) for size in text.split(",")})


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--crossfade", default=os.environ.get("CROSSFADE"), help="its binary (default: $CROSSFADE)")
    add("--before", help="another binary of it, to compare with")
    add("--engine", choices=["native", "hyper", "both"], help="of crossfade (default: what it takes by itself)")
    add("--peers", type=names_of(PEERS), default=PEERS, help=f"default: {','.join(PEERS)}")
    add("--parts", type=names_of(PARTS), default=PARTS, help=f"default: {','.join(PARTS)}")
    add("--with", dest="extras", action="append", choices=list(proxies.EXTRAS), default=[],
        help="a crossfade that does this beside its work, as another peer")  # fmt: skip
    add("--workloads", type=workloads_of, default=list(WORKLOADS.values()), help=f"default: {','.join(WORKLOADS)}")
    add("--rounds", type=int, default=10, help="of each workload (default: 10)")
    add("--seconds", type=int, default=1, help="of load for each proxy in a round (default: 1)")
    add("--connections", type=int, default=16)
    add("--steal", type=float, default=0.06, help="measure a round again when the host took more (default: 0.06)")
    add("--foreign", type=float, default=0.06, help="the same for other processes (default: 0.06)")
    add("--idle", type=sizes_of, default=[1000, 5000, 10000], help="connections (default: 1000,5000,10000)")
    add("--forwarded", action="store_true", help="the peers add x-forwarded-* and a request id too")
    add("--quick", action="store_true", help="see that everything works, in less than a minute; the numbers mean little")
    add("--at-most", type=Goal.parse, action="append", default=[], metavar="GOAL",
        help="fail above WORKLOAD:PEER:RATIO (get1k:nginx:0.75), instructions:N, syscalls:N or idle:KIB")  # fmt: skip
    add("--goals", action="store_true", help="fail above any of: "
        + " ".join(f"{goal.what}:{goal.limit:g}" for goal in GOALS))  # fmt: skip
    arguments = parser.parse_args()
    arguments.at_most += GOALS if arguments.goals else []
    if (arguments.at_most or arguments.before) and not arguments.crossfade:
        parser.error("--at-most, --goals and --before need crossfade's binary")
    arguments.count_seconds = (2, 10)
    if arguments.quick:
        arguments.rounds, arguments.seconds, arguments.steal, arguments.foreign = 1, 1, 1, 1
        arguments.count_seconds, arguments.idle = (1, 4), [100, 500]
    arguments.plan = cpu.Plan(
        arguments.rounds, arguments.seconds, arguments.connections, arguments.steal, arguments.foreign
    )
    return arguments


def recipes_of(arguments: argparse.Namespace, folder: pathlib.Path) -> list[proxies.Recipe]:
    """Crossfade's first; of two engines the native one."""
    found: list[proxies.Recipe | None] = []
    if arguments.crossfade and arguments.engine == "both":
        found += [proxies.crossfade(f"crossfade-{engine}", arguments.crossfade, engine) for engine in ("native", "hyper")]
    elif arguments.crossfade:
        found.append(proxies.crossfade("crossfade", arguments.crossfade, arguments.engine))
    found += [proxies.with_extra(recipe, extra) for extra in arguments.extras for recipe in found[:1] if recipe]
    if arguments.before:
        engine = None if arguments.engine == "both" else arguments.engine
        found.append(proxies.crossfade("before", arguments.before, engine))
    for peer in arguments.peers:
        recipe = {
            "nginx": lambda: proxies.nginx(arguments.forwarded),
            "haproxy": lambda: proxies.haproxy(arguments.forwarded),
            "rawtcp": lambda: proxies.rawtcp(folder),
        }[peer]()
        if not recipe:
            print(f"{peer} left out: it is not there", file=sys.stderr)
        found.append(recipe)
    return [recipe for recipe in found if recipe]


def main() -> None:
    arguments = parse()
    if (os.cpu_count() or 1) < 2:
        sys.exit("needs two cores: one for the proxy, one for the load")
    for tool in ("wrk", "gcc", "taskset"):
        if not which(tool):
            sys.exit(f"needs {tool}")
    # Whatever ends this ends what it has started.
    for what in (signal.SIGINT, signal.SIGTERM):
        signal.signal(what, lambda number, _: sys.exit(f"ended by {signal.Signals(number).name}"))
    tools = {"instructions": "valgrind", "syscalls": "strace", "h2load": "h2load"}
    allow_files(FILES)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        blue, green = free_ports(2)
        log = folder / "origin.log"
        origin = start(LOAD_CORE, [compile_c("origin", folder), str(blue), str(green)], log)
        try:
            wait_for_port(green, origin, log)
            recipes = recipes_of(arguments, folder)
            if not recipes:
                sys.exit("found neither crossfade nor a peer")
            comparison = Comparison(arguments, proxies.Stage(folder, blue, green), recipes)
            for part in arguments.parts:
                if part in tools and not which(tools[part]):
                    print(f"{part} left out: {tools[part]} is not there", file=sys.stderr)
                else:
                    getattr(comparison, part)()
        finally:
            stop(origin)
    if arguments.at_most and comparison.judge(arguments.at_most):
        sys.exit("goals were missed")


if __name__ == "__main__":
    main()
