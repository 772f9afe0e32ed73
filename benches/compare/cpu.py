"""CPU microseconds per request: paired rounds, and the median of the ratios within them."""

import dataclasses
import pathlib
import statistics
import sys
import time

from .processes import Disturbance, cpu_us
from .proxies import Running
from .workloads import Http2Workload, Workload


@dataclasses.dataclass(frozen=True)
class Plan:
    rounds: int
    seconds: int
    connections: int
    # A round in which the host stole more of the machine, or other processes had more, does not count.
    steal: float
    foreign: float


@dataclasses.dataclass(frozen=True)
class Sample:
    """One proxy in one round."""

    requests: int
    seconds: float
    user_us: float
    system_us: float

    @property
    def cost(self) -> float:
        """CPU microseconds a request."""
        return (self.user_us + self.system_us) / self.requests


Round = dict[str, Sample]


def measure(proxy: Running, workload: Workload | Http2Workload, plan: Plan, folder: pathlib.Path) -> Sample:
    for _ in range(5):
        before, began = cpu_us(proxy.process.pid), time.monotonic()
        requests = workload.load(proxy, plan.seconds, plan.connections, folder)
        elapsed = time.monotonic() - began
        after = cpu_us(proxy.process.pid)
        # A machine that is busy otherwise may leave the load generator no time at all.
        if requests:
            return Sample(requests, elapsed, after[0] - before[0], after[1] - before[1])
    sys.exit(f"{proxy.name} answered nothing in {plan.seconds} s, five times in a row")


def run_rounds(
    proxies: list[Running], workload: Workload | Http2Workload, plan: Plan, folder: pathlib.Path
) -> list[Round]:
    """The proxies take turns, in an order that is reversed every second round."""
    for proxy in proxies:
        measure(proxy, workload, plan, folder)  # fills caches and connection pools
    rounds: list[Round] = []
    noisy = 0
    while len(rounds) < plan.rounds:
        order = proxies if (len(rounds) + noisy) % 2 == 0 else proxies[::-1]
        disturbance = Disturbance()
        samples = {proxy.name: measure(proxy, workload, plan, folder) for proxy in order}
        steal, foreign = disturbance.share()
        is_noisy = (steal > plan.steal or foreign > plan.foreign) and noisy < 2 * plan.rounds
        noisy += is_noisy
        if not is_noisy:
            rounds.append(samples)
        label = "again   " if is_noisy else f"round {len(rounds):2}"
        costs = "  ".join(f"{proxy.name} {samples[proxy.name].cost:.1f}" for proxy in proxies)
        print(f"{workload.name} {label}: us  {costs}  (stolen {steal:.1%}, others {foreign:.1%})", file=sys.stderr)
    if noisy:
        print(f"{noisy} rounds of {workload.name} were disturbed and measured again", file=sys.stderr)
    if noisy == 2 * plan.rounds:
        print(f"{workload.name}: THE MACHINE IS NOT QUIET, some of the rounds that count were disturbed too")
    return rounds


def ratios(rounds: list[Round], name: str, reference: str) -> list[float]:
    return [samples[name].cost / samples[reference].cost for samples in rounds]


def spread(values: list[float], digits: int) -> str:
    low, middle, high = (f"{value:.{digits}f}" for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} [{low}-{high}]"


def report(names: list[str], references: list[str], rounds: list[Round]) -> None:
    """`names` in rows; their ratios to `references` in columns."""
    print(
        f"{'':18}{'us/request':>20} {'user':>6} {'system':>6} {'req/s':>8}"
        + "".join(f"{'/ ' + reference:>20}" for reference in references)
    )
    for name in names:
        samples = [samples[name] for samples in rounds]
        cells = "".join(
            f"{spread(ratios(rounds, name, reference), 2) if name != reference else '-':>20}"
            for reference in references
        )
        print(
            f"{name:18}{spread([sample.cost for sample in samples], 1):>20}"
            f" {statistics.median(sample.user_us / sample.requests for sample in samples):6.1f}"
            f" {statistics.median(sample.system_us / sample.requests for sample in samples):6.1f}"
            f" {statistics.median(sample.requests / sample.seconds for sample in samples):8.0f}{cells}"
        )
