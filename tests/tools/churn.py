#!/usr/bin/env python3
"""Changes everything while a million requests pass, and expects not one error.

    tests/tools/churn.py --binary target/release/crossfade --backends nginx
    tests/tools/churn.py --binary target/release/crossfade --backends nginx --requests 20000 --changes 50

wrk sends half of the requests over HTTP/1.1 and h2load the other half over HTTP/2, while weights change,
backends are added and removed and the config file reloads. Needs wrk and h2load.
"""

import argparse
import collections
import random
import re
import subprocess
import sys
import threading
import time
import urllib.parse

from stage import Refused, Stage, add_arguments, stage, verdict

WRK_ROUND_SECONDS = 5


class Tally:
    """What the load generators did; each runs in a thread of its own."""

    def __init__(self, url: str, requests: int):
        self.url, self.requests = url, requests
        self.done: collections.Counter[str] = collections.Counter()
        self.problems: list[str] = []
        # Until then wrk goes on, however many requests it has sent.
        self.enough_changes = threading.Event()
        self.threads = [threading.Thread(target=self._guard, args=(load,)) for load in (self._wrk, self._h2load)]

    def start(self) -> None:
        for thread in self.threads:
            thread.start()

    def busy(self) -> bool:
        return any(thread.is_alive() for thread in self.threads)

    def _guard(self, load) -> None:
        try:
            load()
        except Exception as error:  # a load that ends early must not look like one that passed
            self.problems.append(f"{load.__name__}: {error!r}")

    def _wrk(self) -> None:
        while not self.problems and not (self.done["wrk"] >= self.requests // 2 and self.enough_changes.is_set()):
            output = output_of(["wrk", "-t1", "-c16", f"-d{WRK_ROUND_SECONDS}s", self.url])
            self.done["wrk"] += int(re.search(r"(\d+) requests in", output).group(1))
            if "Non-2xx" in output or "Socket errors" in output:
                self.problems.append(f"wrk:\n{output}")

    def _h2load(self) -> None:
        count = self.requests - self.requests // 2
        output = output_of(["h2load", f"-n{count}", "-c8", "-m4", "-t1", self.url])
        line = re.search(r"requests: .*", output).group(0)
        numbers = {word: int(number) for number, word in re.findall(r"(\d+) (\w+)", line)}
        codes = re.search(r"status codes: (\d+) 2xx", output)
        self.done["h2load"] += numbers["succeeded"]
        good = int(codes.group(1)) if codes else 0
        if numbers["succeeded"] != count or good != count:
            self.problems.append(f"h2load:\n{output}")


def output_of(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


class Changes:
    """The hand that changes things: mostly weights, sometimes backends, now and then the file."""

    def __init__(self, stage: Stage, seed: int):
        self.stage, self.dice = stage, random.Random(seed)
        service = stage.call("GET", stage.path())
        self.pools = {pool["name"]: [each["address"] for each in pool["backends"]] for pool in service["pools"]}
        self.growing = next(iter(self.pools))
        self.spare = list(stage.spare)
        self.done: collections.Counter[str] = collections.Counter()
        self.steps = [self.weights] * 16 + [self.add, self.remove, self.cutover]
        self.steps += [self.reload] if stage.config else []

    def one(self) -> None:
        step = self.dice.choice(self.steps)
        if step():
            self.done[step.__name__] += 1

    def weights(self) -> bool:
        weights = {pool: self.dice.choice([0, 1, 5, 50, 999]) for pool in self.pools}
        if not any(weights.values()):
            weights[self.growing] = 1
        self.stage.call("PUT", self.stage.path("/weights"), {"weights": weights, "cause": "churn.py"})
        return True

    def cutover(self) -> bool:
        target = self.dice.choice(list(self.pools))
        self.stage.call("POST", self.stage.path("/cutover"), {"to": target, "cause": "churn.py"})
        return True

    def _backend(self, address: str) -> str:
        return self.stage.path(f"/pools/{self.growing}/backends/{urllib.parse.quote(address, safe='')}")

    def add(self) -> bool:
        if not self.spare:
            return False
        address = self.spare.pop(self.dice.randrange(len(self.spare)))
        self.stage.call("PUT", self._backend(address), {"weight": self.dice.choice([1, 3])})
        self.pools[self.growing].append(address)
        return True

    def remove(self) -> bool:
        backends = self.pools[self.growing]
        if len(backends) < 2:
            return False
        address = backends.pop(self.dice.randrange(len(backends)))
        self.stage.call("DELETE", self._backend(address))
        self.spare.append(address)
        return True

    def reload(self) -> bool:
        self.stage.edit_config(r"response: \d+s", f"response: {self.dice.randint(20, 60)}s")
        self.stage.call("POST", "/v1/reload", {})
        return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--changes", type=int, default=1_000, help="of weights, at least; the others come on top")
    parser.add_argument("--pause", type=float, default=0.03, help="seconds between two changes")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with stage(arguments) as set_stage:
        sys.exit(run(arguments, set_stage))


def run(arguments: argparse.Namespace, stage: Stage) -> int:
    changes, tally = Changes(stage, arguments.seed), Tally(stage.proxy, arguments.requests)
    began = time.monotonic()
    tally.start()
    refused = []
    while tally.busy():
        try:
            changes.one()
        except Refused as refusal:
            refused.append(str(refusal))
        if changes.done["weights"] >= arguments.changes or len(refused) > arguments.changes:
            tally.enough_changes.set()
        time.sleep(arguments.pause)
    seconds = time.monotonic() - began
    total = tally.done.total()
    print(f"{total} requests in {seconds:.0f} s ({dict(tally.done)}) during {dict(changes.done)} changes")
    problems = tally.problems + [f"refused: {refusal}" for refusal in refused[:5]]
    if changes.done["weights"] < arguments.changes:
        problems.append(f"only {changes.done['weights']} changes of weights")
    if total < arguments.requests:
        problems.append(f"only {total} requests")
    return verdict(problems)


if __name__ == "__main__":
    main()
