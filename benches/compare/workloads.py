"""What is asked of the proxies, and the load that asks it."""

import dataclasses
import http.client
import pathlib
import re
import subprocess
import sys

from .processes import LOAD_CORE
from .proxies import Running


@dataclasses.dataclass(frozen=True)
class Workload:
    name: str
    says: str
    target: str
    answer_bytes: int
    body_bytes: int = 0

    @property
    def method(self) -> str:
        return "POST" if self.body_bytes else "GET"

    def load(self, proxy: Running, seconds: int, connections: int, folder: pathlib.Path) -> int:
        """Requests that wrk got good answers to; ends the program when any failed."""
        command = ["taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s"]
        if self.body_bytes:
            script = folder / f"{self.name}.lua"
            script.write_text(f'wrk.method = "{self.method}"\nwrk.body = string.rep("x", {self.body_bytes})\n')
            command += ["-s", str(script)]
        output = subprocess.run(
            [*command, f"http://127.0.0.1:{proxy.port}{self.target}"], capture_output=True, text=True, check=True
        ).stdout
        if "Non-2xx" in output or "Socket errors" in output:
            sys.exit(f"the load met errors:\n{output}")
        return int(re.search(r"(\d+) requests in", output).group(1))


@dataclasses.dataclass(frozen=True)
class Http2Workload:
    """A GET of 1 KiB."""

    name: str
    is_secure: bool
    streams: int

    @property
    def says(self) -> str:
        where = "over TLS" if self.is_secure else "in the clear"
        return f"GET of 1 KiB by HTTP/2 {where}, {self.streams} at a time on a connection"

    def load(self, proxy: Running, seconds: int, connections: int, folder: pathlib.Path) -> int:
        """Requests that h2load got good answers to; ends the program when any failed."""
        address = f"https://127.0.0.1:{proxy.tls}/" if self.is_secure else f"http://127.0.0.1:{proxy.port}/"
        command = ["taskset", "-c", LOAD_CORE, "h2load", "-t1", f"-c{connections}", f"-m{self.streams}"]
        output = subprocess.run(
            [*command, f"-D{seconds}", address], capture_output=True, text=True, check=True
        ).stdout
        counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", output)
        answers = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", output)
        if not counts or not answers or any(int(count) for found in (counts, answers) for count in found.groups()[1:]):
            sys.exit(f"the load met errors:\n{output}")
        return int(answers.group(1))


GET1K = Workload("get1k", "GET of 1 KiB", "/", 1024)
WORKLOADS = {
    workload.name: workload
    for workload in [
        GET1K,
        Workload("get100k", "GET of 100 KiB", "/100k", 100 * 1024),
        Workload("post16k", "POST of 16 KiB, answered with 32 bytes", "/small", 32, 16 * 1024),
    ]
}


HTTP2_WORKLOADS = {
    workload.name: workload
    for workload in [
        Http2Workload("h2c-1", False, 1),
        Http2Workload("h2c-100", False, 100),
        Http2Workload("h2-1", True, 1),
        Http2Workload("h2-100", True, 100),
    ]
}


def verify(name: str, port: int, workloads: list[Workload], splits: bool) -> None:
    """The answers are right and both decisions are really made: about 5 % of draws go to green, and every
    canary does."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def version(workload: Workload, headers: dict[str, str]) -> str:
        connection.request(workload.method, workload.target, b"x" * workload.body_bytes or None, headers)
        answer = connection.getresponse()
        if answer.status != 200 or len(answer.read()) != workload.answer_bytes:
            sys.exit(f"{name}: wrong answer to {workload.name}, status {answer.status}")
        return answer.headers["x-version"]

    for workload in workloads:
        version(workload, {})
    if splits:
        drawn = sum(version(GET1K, {}) == "green" for _ in range(600))
        pinned = sum(version(GET1K, {"canary": "true"}) == "green" for _ in range(20))
        if not 8 <= drawn <= 62 or pinned != 20:
            sys.exit(f"{name}: {drawn} of 600 drawn and {pinned} of 20 pinned went to green")
    connection.close()
