#!/usr/bin/env python3
"""Schemathesis asks the admin API all that its description allows, and much that it does not, of a real crossfade: with
the API open on loopback, by an operator's token, by a viewer's, and by a wrong one. It fails on a 500, on a status, a
content type, a header or a body that is not described, and on a request that is against the description and taken
all the same; and when the process is not there any more afterwards, or does not answer.

    pip install schemathesis==4.32.5
    tests/tools/api_fuzz.py --binary target/release/crossfade

What is asked for changes the configuration: each run has a folder and a process of its own.
"""

import argparse
import contextlib
import dataclasses
import http.client
import pathlib
import shutil
import subprocess
import sys
import tempfile

from stage import free_ports, run, verdict, wait_for

SEED = 20261121
# A schema cannot say all that a configuration must be: what it allows may be refused.
NOT_CHECKED = "positive_data_acceptance"
# A new process would take over, and it is this one that must live; what has no end cannot be waited for.
NOT_ASKED = ("/v1/upgrade", "/v1/events")

CONFIG = """\
threads: 2
listeners:
  - {{ address: 127.0.0.1:{proxy} }}
admin:
  address: 127.0.0.1:{admin}
  {tokens}
state: {{ directory: state }}
services:
  shop:
    pools:
      blue: {{ version: v1, weight: 95, backends: ["127.0.0.1:{closed}", "127.0.0.2:{closed}"] }}
      green: {{ version: v2, weight: 5, backends: ["127.0.0.1:{closed}"] }}
    pins: [{{ headers: {{ canary: "true" }}, pool: green }}]
    sticky: {{ cookie: user }}
    health_check: {{ path: /health, interval: 1s }}
  blog:
    pools: {{ only: {{ weight: 1, backends: ["127.0.0.1:{closed}"] }} }}
routes:
  - {{ name: blog, match: {{ path_prefix: /blog }}, service: blog }}
  - {{ name: all, match: {{ path_prefix: / }}, service: shop }}
"""
TOKENS = "tokens: [{ name: ci, file: ci, role: operator }, { name: eye, file: eye, role: viewer }]"
OPERATOR, VIEWER, WRONG = "the-token-of-an-operator", "the-token-of-a-viewer", "the-token-of-nobody"


@dataclasses.dataclass
class Run:
    name: str
    tokens: bool
    shown: str | None
    phases: str
    examples: int


RUNS = (
    Run("open on loopback", False, None, "coverage,fuzzing", 12),
    Run("an operator", True, OPERATOR, "fuzzing", 12),
    Run("a viewer", True, VIEWER, "fuzzing", 4),
    Run("a wrong token", True, WRONG, "fuzzing", 2),
)


def fuzz(one: Run, arguments: argparse.Namespace, tool: str) -> list[str]:
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = pathlib.Path(name)
        for token, role in (("ci", OPERATOR), ("eye", VIEWER)):
            (folder / token).write_text(role)
            (folder / token).chmod(0o600)
        proxy, admin, closed = free_ports(3)
        text = CONFIG.format(proxy=proxy, admin=admin, closed=closed, tokens=TOKENS if one.tokens else "")
        (folder / "crossfade.yaml").write_text(text)
        log = folder / "crossfade.log"
        process = run([arguments.binary.resolve(), "serve", folder / "crossfade.yaml"], log, stack)
        base = f"http://127.0.0.1:{admin}"
        wait_for(f"{base}/readyz", log)
        description = folder / "openapi.json"
        token = OPERATOR if one.tokens else None
        description.write_bytes(get(admin, "/v1/openapi.json", token))
        command = [tool, "run", description, "--url", base, "--checks", "all", "--exclude-checks", NOT_CHECKED]
        command += [word for path in NOT_ASKED for word in ("--exclude-path", path)]
        command += ["--phases", one.phases, "--max-examples", one.examples]
        command += ["--seed", arguments.seed, "--request-timeout", 20, "--continue-on-failure", "--warnings", "off"]
        if one.shown:
            command += ["--header", f"Authorization: Bearer {one.shown}"]
        words = [str(word) for word in command]
        done = subprocess.run(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        problems = []
        if done.returncode != 0:
            print(done.stdout)
            problems.append(f"{one.name}: schemathesis ended with {done.returncode}")
        tested = [line.strip() for line in done.stdout.splitlines() if "generated" in line or "Tested:" in line]
        print(f"{one.name}: {', '.join(tested)}")
        if process.poll() is not None:
            problems.append(f"{one.name}: crossfade ended with {process.returncode}:\n{log.read_text()[-4000:]}")
        elif b'"revision"' not in get(admin, "/v1/status", token):
            problems.append(f"{one.name}: /v1/status does not answer as it should")
        if "panicked" in log.read_text():
            problems.append(f"{one.name}: a panic:\n{log.read_text()[-4000:]}")
        return problems


def get(port: int, path: str, token: str | None) -> bytes:
    """From another address than Schemathesis: who shows wrong tokens is not listened to for a while."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20, source_address=("127.0.0.2", 0))
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"authorization": f"Bearer {token}"} if token else {})
        answer = connection.getresponse()
        return answer.read() if answer.status == 200 else b""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path, required=True, help="the crossfade to start")
    parser.add_argument("--schemathesis", help="the program; by default the one in PATH")
    parser.add_argument("--seed", type=int, default=SEED, help="what is asked is the same for the same one")
    parser.add_argument("--times", type=int, default=1, help="so many times as many examples")
    arguments = parser.parse_args()
    tool = arguments.schemathesis or shutil.which("schemathesis") or sys.exit("schemathesis is not installed")
    problems = []
    for one in RUNS:
        more = dataclasses.replace(one, examples=one.examples * arguments.times)
        problems += fuzz(more, arguments, tool)
    sys.exit(verdict(problems))


if __name__ == "__main__":
    main()
