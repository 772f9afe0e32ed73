#!/usr/bin/env python3
"""Everything that may change, changes at once under load, and no client notices.

    tests/tools/storm.py --binary target/release/crossfade
    tests/tools/storm.py --binary target/release/crossfade --cutovers 60 --reloads 12 --replacements 12 --upgrades 3

Clients over HTTP/1.1 (GET and POST, quick and slow), over HTTP/2 and with WebSockets go on while all weight moves from
one pool to the other, the config file is reloaded, backends are replaced by others (processes that are ended as soon as
crossfade says that they are idle) and crossfade itself is upgraded, all of it in an order that the dice decide
(--seed). A replacement and an upgrade go on while other changes are made. It fails unless
  - no connection is refused and every request is answered with 200 in full,
  - no POST reached the backends twice, and each that was answered reached them once,
  - no request that was sent after the answer to a change came to a pool or to a backend that had left by it,
  - every WebSocket echoes until it is closed by a Close frame with 1001,
  - what was given to backends by the ledgers of all processes is what clients have sent, each of it has ended, and API,
    metrics and log agree on that,
  - every change that was answered is in the history, once, and in the audit log.
"""

import argparse
import asyncio
import collections
import contextlib
import dataclasses
import itertools
import json
import pathlib
import random
import re
import sys
import time
import urllib.parse
import urllib.request

from cutovers import Cut, late
from http2_client import http2_load
from keepalive_client import FAILURES, Load, Record, summary
from stage import Refused, Stage, add_arguments, origin_command, stage, verdict
from upgrade import THREADS, WebSockets, all_ended, echo, fail, once

PATIENCE = 60.0
LOOK = 0.005
SLOW = "/slow?seconds=0.6&bytes=6000"
POOLS = {"blue": "v1", "green": "v2"}
# One in so many replacements is of the backend of the WebSockets: its tunnels take their time to leave.
SOCKETS_EACH = 10
LEDGER = ("started", "finished", "told_to_close", "cut", "open")

KEYS = """\
state: {{ directory: state, revisions: 100000 }}
shutdown: {{ drain: {drain}s }}
services:
  sockets:
    pools: {{ all: {{ weight: 1, backends: ["{address}"] }} }}
    timeouts: {{ drain: 4s }}
"""


@dataclasses.dataclass
class Removal:
    """A backend that was taken away, and when that was answered."""

    address: str
    answered: float


class Origin:
    """A backend in a process of its own, which is killed without further ado."""

    def __init__(self, stage: Stage, version: str):
        self._command = origin_command([f"{version}=127.0.0.1:0"], stage.journal)

    async def start(self) -> str:
        """Its address."""
        words = [str(word) for word in self._command]
        self._process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
        line = await asyncio.wait_for(self._process.stdout.readline(), PATIENCE)
        return line.decode().strip().partition("=")[2]

    async def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


class Echo:
    """The same for WebSockets, in this process."""

    async def start(self) -> str:
        self._server = await asyncio.start_server(echo, "127.0.0.1", 0)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def end(self) -> None:
        self._server.close()


class Storm:
    def __init__(self, stage: Stage, arguments: argparse.Namespace, echoes: tuple[str, Echo]):
        self.stage, self.dice = stage, random.Random(arguments.seed)
        self.cuts: list[Cut] = []
        self.removals: list[Removal] = []
        self.receipts: dict[int, str] = {}
        self.pids = [stage.process.pid]
        self.problems: list[str] = []
        self.counts: collections.Counter[str] = collections.Counter()
        self.slowest: collections.Counter[str] = collections.Counter()
        self._target = itertools.cycle(["green", "blue"])
        self._pool = itertools.cycle([*["blue", "green"] * (SOCKETS_EACH // 2 - 1), "blue", "sockets"])
        self._threads = itertools.cycle(THREADS[1:] + THREADS[:1])
        self._response = itertools.cycle(range(31, 50))
        # The oldest first; those that were there from the beginning stay behind without requests.
        self._backends = {
            "blue": collections.deque((address, None) for address in stage.blue),
            "green": collections.deque((address, None) for address in stage.green),
            "sockets": collections.deque([echoes]),
        }
        # One replacement in each pool at a time, and one upgrade.
        self._turns = {name: asyncio.Lock() for name in (*self._backends, "upgrade")}
        self._under_way: set[asyncio.Task] = set()

    async def pass_over(self, deck: list[str], load: Load, between: int) -> None:
        self.dice.shuffle(deck)
        for card in deck:
            await load.more(between, PATIENCE)
            await getattr(self, card)()
            for task in [task for task in self._under_way if task.done()]:
                self._under_way.remove(task)
                task.result()
        for task in self._under_way:
            await task

    async def end(self) -> None:
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        for backends in self._backends.values():
            for _, process in backends:
                if process:
                    await process.end()

    async def _beside(self, turn: str, work) -> None:
        """Goes on while other cards are played, once the one before it of its kind has ended."""
        await self._turns[turn].acquire()

        async def turned() -> None:
            try:
                await work
            finally:
                self._turns[turn].release()

        self._under_way.add(asyncio.create_task(turned()))

    async def _change(self, kind: str, method: str, path: str, value: dict) -> dict:
        """A change with a cause of its own, again while an upgrade is in its step; its receipt."""
        self.counts[kind] += 1
        cause = f"{kind} {self.counts[kind]}"
        begun = time.monotonic()
        while True:
            try:
                receipt = await once(self.stage, method, path, value | {"cause": cause})
                break
            except Refused as refused:
                if "/problems/upgrading" not in str(refused) or time.monotonic() - begun > PATIENCE:
                    raise
                self.counts["asked again during an upgrade"] += 1
                await asyncio.sleep(LOOK)
        self.slowest[kind] = max(self.slowest[kind], time.monotonic() - begun)
        if receipt["changed"]:
            self.receipts[receipt["revision"]] = receipt["cause"]
        elif kind != "reload":
            self.problems.append(f"{cause} found nothing to change")
        return receipt

    async def cutover(self) -> None:
        target, begun = next(self._target), time.monotonic()
        if self.dice.random() < 0.5:
            await self._change("cutover", "POST", self.stage.path("/cutover"), {"to": target})
        else:
            weights = {pool: 100 if pool == target else 0 for pool in POOLS}
            await self._change("cutover", "PUT", self.stage.path("/weights"), {"weights": weights})
        self.cuts.append(Cut(begun, time.monotonic(), POOLS[target]))

    async def reload(self) -> None:
        """Of a file that says something new; asked for, or seen by itself."""
        seconds = f"{next(self._response)}s"
        self.stage.edit_config(r"response: \d+s", f"response: {seconds}")
        if self.dice.random() < 0.5:
            await self._change("reload", "POST", "/v1/reload", {})
        else:
            self.counts["reload"] += 1
        async with asyncio.timeout(PATIENCE):
            while seconds != (await self._timeouts()).get("response"):
                await asyncio.sleep(LOOK)

    async def _timeouts(self) -> dict:
        config = await once(self.stage, "GET", "/v1/config", {})
        return config["services"][self.stage.service].get("timeouts", {})

    async def replacement(self) -> None:
        pool = next(self._pool)
        await self._beside(pool, self._replace(pool))

    async def _replace(self, pool: str) -> None:
        service = "sockets" if pool == "sockets" else self.stage.service
        backends, place = self._backends[pool], f"/v1/services/{service}/pools/{'all' if pool == 'sockets' else pool}"
        process = Echo() if pool == "sockets" else Origin(self.stage, POOLS[pool])
        fresh = await process.start()
        backends.append((fresh, process))
        path = f"{place}/backends/{urllib.parse.quote(fresh, safe='')}"
        await self._change("addition", "PUT", path, {})
        await self._healthy(service, fresh)
        address, leaving = backends[0]
        path = f"{place}/backends/{urllib.parse.quote(address, safe='')}"
        if drained := self.dice.random() < 0.5:
            await self._change("drain", "POST", f"{path}/drain", {})
            self.removals.append(Removal(address, time.monotonic()))
        receipt = await self._change("removal", "DELETE", f"{path}?wait=30s", {})
        if not drained:
            self.removals.append(Removal(address, time.monotonic()))
        if any(left["open"] for left in receipt["in_flight"]):
            self.problems.append(f"{address} was said to be idle: {receipt}")
        backends.popleft()
        if leaving:
            await leaving.end()
        self.counts["replacement"] += 1

    async def _healthy(self, service: str, address: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while True:
                pools = (await once(self.stage, "GET", f"/v1/services/{service}", {}))["pools"]
                backends = [backend for pool in pools for backend in pool["backends"]]
                if any(backend["address"] == address and backend["healthy"] for backend in backends):
                    return
                await asyncio.sleep(LOOK)

    async def upgrade(self) -> None:
        await self._beside("upgrade", self._upgrade())

    async def _upgrade(self) -> None:
        if self.counts["upgrade"] % 4 == 3:
            broken = await fail(self.stage, self.stage.config.with_name("broken"))
            self.problems += [broken] if broken else []
        threads = next(self._threads)
        self.stage.edit_config(r"threads: \d+", f"threads: {threads}")
        begun = time.monotonic()
        self.pids.append((await once(self.stage, "POST", "/v1/upgrade", {}))["pid"])
        self.counts["upgrade"] += 1
        self.slowest["upgrade"] = max(self.slowest["upgrade"], time.monotonic() - begun)
        if (await once(self.stage, "GET", "/v1/config", {})).get("threads") != threads:
            self.problems.append(f"not {threads} threads after upgrade {self.counts['upgrade']}")


def check_arrivals(stage: Stage, records: list[Record], removals: list[Removal]) -> tuple[list[str], int]:
    """What is wrong with what came to the backends; how many requests came there."""
    arrived: dict[str, list[str]] = collections.defaultdict(list)
    for line in stage.journal.read_text().splitlines():
        _, ident, address = line.split(" ")
        arrived[ident].append(address)
    left = {removal.address: removal.answered for removal in removals}
    posts = [record for record in records if record.method == "POST"]
    twice = [record for record in posts if len(arrived[record.ident]) > 1]
    lost = [record for record in records if not record.failed and not arrived[record.ident]]
    told = [(record, address) for record in records for address in arrived[record.ident] if address in left]
    wrong = [(record, address) for record, address in told if record.sent > left[address]]
    print(f"{len(posts)} POSTs sent, {len(twice)} came twice; {len(told)} requests to backends that left, {len(wrong)} late")
    problems = [f"{len(twice)} POSTs came twice, such as {twice[0]}: {arrived[twice[0].ident]}"] if twice else []
    problems += [f"{len(lost)} requests were answered and came nowhere, such as {lost[0]}"] if lost else []
    problems += [f"{len(wrong)} requests came to a backend that had left, such as {wrong[0]}"] if wrong else []
    return problems, sum(map(len, arrived.values()))


async def quiet_ledger(stage: Stage) -> tuple[dict, list[str]]:
    """What the API says once nothing is open, and what of the metrics differs from it."""
    async with asyncio.timeout(PATIENCE):
        ledger = await once(stage, "GET", "/v1/ledger", {})
        while any(pool["open"] for pool in ledger):
            await asyncio.sleep(LOOK)
            ledger = await once(stage, "GET", "/v1/ledger", {})
    pools = {(pool["service"], pool["pool"], pool["version"]): pool for pool in ledger}
    with urllib.request.urlopen(f"{stage.admin}/metrics", timeout=10) as answer:
        metrics = answer.read().decode()
    problems = []
    for count in ("started", "finished", "cut", "open"):
        name = f"crossfade_tickets_{count}" + ("" if count == "open" else "_total")
        pattern = rf'^{name}{{service="(.*?)",pool="(.*?)",version="(.*?)"}} (\d+)'
        said = {found[:3]: int(found[3]) for found in re.findall(pattern, metrics, re.MULTILINE)}
        if said != {pool: counts[count] for pool, counts in pools.items()}:
            problems.append(f"{name} says {said}, the API {pools}")
    return pools, problems


def check_ledger(stage: Stage, last: dict, records: list[Record], sockets: WebSockets, arrivals: int) -> list[str]:
    """Whether what the processes have said in the log, each at its end, is what clients and backends have counted."""
    lines = stage.config.with_name("crossfade.log").read_text().splitlines()
    logged = [line for line in map(as_json, lines) if line.get("message") == "ledger"]
    problems = [f"does not add up: {line}" for line in logged if line["started"] != line["finished"] or line["open"]]
    # The process that ended last had nothing to do since it was asked.
    ended = {(line["service"], line["pool"], line["version"]): line for line in logged}
    for pool, counts in last.items():
        if counts["started"] and any(ended.get(pool, {}).get(count) != counts[count] for count in LEDGER):
            problems.append(f"the log says {ended.get(pool)}, the API said {counts}")
    total = collections.Counter()
    for line in logged:
        total.update({(line["service"], key): line[key] for key in (*LEDGER, "retries", "rescued")})
    started, again = total[stage.service, "started"], total[stage.service, "retries"] + total[stage.service, "rescued"]
    print(
        f"ledger: {started} tickets of {len(records)} requests, {again} of them sent again, {arrivals} arrived; "
        f"{total['sockets', 'started']} of {sockets.opened} WebSockets, "
        f"{total['sockets', 'told_to_close']} told to close, {total['sockets', 'cut']} cut"
    )
    if started != len(records) + again or arrivals != len(records):
        problems.append("the ledger is not what the clients have counted")
    if total["sockets", "started"] != sockets.opened:
        problems.append("the ledger is not what the clients with WebSockets have counted")
    return problems


def as_json(line: str) -> dict:
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


async def check_history(storm: Storm) -> list[str]:
    """Every answered change is there, once and by its number."""
    history, oldest = {}, (1 << 53) - 1
    while page := await once(storm.stage, "GET", f"/v1/revisions?limit=1000&before={oldest}", {}):
        history |= {revision["revision"]: revision for revision in page}
        oldest = page[-1]["revision"]
    problems = []
    if len(history) != max(history) - min(history) + 1:
        problems.append(f"the history has holes: {min(history)} to {max(history)} are {len(history)}")
    wrong = [number for number, cause in storm.receipts.items() if history.get(number, {}).get("cause") != cause]
    problems += [f"{len(wrong)} revisions are not those that were answered, such as {wrong[0]}"] if wrong else []
    files = storm.stage.config.with_name("state").glob("audit.log*")
    lines = [as_json(line) for file in files for line in file.read_text().splitlines()]
    ids = collections.Counter(line.get("id") for line in lines)
    twice = [number for number, count in ids.items() if count > 1]
    problems += [f"{len(twice)} ids of the audit log stand for more than one entry: {twice[:5]}"] if twice else []
    made = collections.Counter(line["revision"] for line in lines if line.get("event") == "change.made")
    missing = [number for number in storm.receipts if made[number] != 1]
    problems += [f"{len(missing)} changes are not in the audit log once: {missing[:5]}"] if missing else []
    print(f"{len(history)} revisions, {len(storm.receipts)} of them answered; {len(lines)} entries of the audit log")
    return problems


async def run(arguments: argparse.Namespace, stage: Stage) -> int:
    echoes = Echo()
    address = await echoes.start()
    stage.edit_config(r"services:\n", KEYS.format(drain=arguments.drain, address=address))
    stage.edit_config(r"routes:\n", "routes:\n  - { name: ws, match: { path_prefix: /ws }, service: sockets }\n")
    # The state's directory needs a restart, which is the first upgrade.
    second = (await once(stage, "POST", "/v1/upgrade", {}))["pid"]
    broken = stage.config.with_name("broken")
    broken.write_text("#!/bin/sh\necho 'not for use' >&2\nexit 3\n")
    broken.chmod(0o755)
    quick = Load(stage.proxy, arguments.connections)
    slow = Load(stage.proxy, arguments.connections, target=SLOW)
    loads = {"HTTP/1.1": quick, "HTTP/1.1, slow": slow, "HTTP/2": http2_load(stage.proxy, arguments.connections, 4)}
    sockets, storm = WebSockets(stage.proxy, arguments.connections), Storm(stage, arguments, (address, echoes))
    storm.pids.append(second)
    cards = {"cutover": arguments.cutovers, "reload": arguments.reloads, "replacement": arguments.replacements}
    deck = [card for card, count in (cards | {"upgrade": arguments.upgrades}).items() for _ in range(count)]
    last, begun = {}, time.monotonic()
    try:
        for load in loads.values():
            load.start()
        sockets.start()
        await storm.pass_over(deck, quick, arguments.between)
        seconds = time.monotonic() - begun
        # Long enough for the tunnels of the last but one to be told goodbye.
        await asyncio.sleep(arguments.drain)
        for load in loads.values():
            await load.stop()
        await sockets.stop()
        last, problems = await quiet_ledger(stage)
        problems += await check_history(storm)
    finally:
        # Should this be the end already, nobody must go on.
        for client in (*loads.values(), sockets):
            client.stopping = True
        await storm.end()
        lingering = await asyncio.to_thread(all_ended, storm.pids)
    problems += storm.problems + lingering
    records = [record for load in loads.values() for record in load.records]
    print(f"in {seconds:.0f} s: {dict(storm.counts)}")
    print(f"the slowest, in ms: { {kind: round(slowest * 1000) for kind, slowest in storm.slowest.items()} }")
    for name, load in loads.items():
        print(f"{name}: {summary(load.records)}")
    print(f"WebSockets: {sockets.opened} opened, {sockets.echoed} echoes, {sockets.farewells} told goodbye")
    known = [record for record in records if record.version]
    wrong, told, _ = late(known, storm.cuts)
    print(f"{told} requests sent after the answer to a cutover; {len(wrong)} late")
    failed = sum(record.failed for record in records)
    problems += [f"{failed} requests failed"] if failed else []
    problems += [f"{len(wrong)} requests went to the version that had left, such as {wrong[0]}"] if wrong else []
    problems += [] if told > len(storm.cuts) else ["too few requests between the cutovers to tell anything"]
    problems += [f"WebSockets broke: {sockets.failures[:5]}"] if sockets.failures else []
    problems += [] if sockets.echoed and sockets.farewells else ["no WebSocket was told goodbye"]
    strange, arrivals = check_arrivals(stage, records, storm.removals)
    return verdict(problems + strange + check_ledger(stage, last, records, sockets, arrivals))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--cutovers", type=int, default=1000)
    parser.add_argument("--reloads", type=int, default=200)
    parser.add_argument("--replacements", type=int, default=200, help="of a backend by another")
    parser.add_argument("--upgrades", type=int, default=20)
    parser.add_argument("--connections", type=int, default=4, help="of each kind")
    parser.add_argument("--between", type=int, default=20, help="quick requests between two changes")
    parser.add_argument("--drain", type=int, default=5, help="seconds that an old process takes at most")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if not arguments.binary:
        sys.exit("give --binary: what is upgraded is started here")
    with stage(arguments, journal=True) as set_stage:
        try:
            code = asyncio.run(run(arguments, set_stage))
        except (Refused, *FAILURES) as failure:
            code = verdict([repr(failure)])
    sys.exit(code)


if __name__ == "__main__":
    main()
