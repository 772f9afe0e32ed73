#!/usr/bin/env python3
"""Runs the pipelines of docs/ci as they stand there, job by job, against a real crossfade under load.

    tests/tools/pipelines.py --binary target/release/crossfade

A good version passes `canary`, waits for a person, and `release` takes the rest; `abort` takes it back; and a version
that fails makes `canary` fail. Times are those of a `rollout` block that is made for this.
"""

import argparse
import asyncio
import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile

import yaml

from keepalive_client import Connection
from stage import TOOLS, Stage, add_arguments, stage, verdict

PIPELINES = TOOLS.parent.parent / "docs" / "ci"
PLAN = "{ bake: 2s, min_requests: 50, warm_up: 0s, first_touch: null, gates: { regression: off }, keep_stable: 1s }"
VISITORS = 8
PAUSE = 0.005
LONGEST_JOB = 120
# What the services set for their jobs; in the texts, what only GitHub replaces.
SURROUNDINGS = {
    "CI_PIPELINE_URL": "https://gitlab.example.com/shop/-/pipelines/7",
    "CI_JOB_URL": "https://gitlab.example.com/shop/-/jobs/9",
    "GITLAB_USER_LOGIN": "ada",
    "CAUSE": "ada, https://github.example.com/shop/actions/runs/7",
}


def jobs() -> dict[str, dict[str, list[str]]]:
    """The commands of each job of each pipeline."""
    gitlab = yaml.safe_load((PIPELINES / "gitlab.yml").read_text())
    github = yaml.safe_load((PIPELINES / "github.yml").read_text())
    return {
        "gitlab": {name: job["script"] for name, job in gitlab.items() if isinstance(job, dict) and "script" in job},
        "github": {name: [step["run"] for step in job["steps"]] for name, job in github["jobs"].items()},
    }


class Runner:
    def __init__(self, stage: Stage, binary: pathlib.Path, folder: pathlib.Path):
        (folder / "crossfade").symlink_to(binary.resolve())
        self._surroundings = os.environ | SURROUNDINGS | {
            "PATH": f"{folder}:{os.environ['PATH']}",
            "CROSSFADE_ADMIN": stage.admin,
        }

    async def __call__(self, name: str, commands: list[str]) -> int:
        """The exit code of a job: of its first command that fails."""
        print(f"== {name}", flush=True)
        script = "set -eux\n" + "\n".join(commands)
        return await asyncio.to_thread(
            lambda: subprocess.run(["bash", "-c", script], env=self._surroundings, timeout=LONGEST_JOB).returncode
        )


async def visit(url: str, over: asyncio.Event) -> None:
    connection = Connection(url)
    while not over.is_set():
        with contextlib.suppress(OSError, EOFError):
            await connection.request("GET", "/")
        await asyncio.sleep(PAUSE)


async def failing() -> asyncio.Server:
    """A backend that is well, by its own account, and fails all the time."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError), contextlib.closing(writer):
            while head := await reader.readuntil(b"\r\n\r\n"):
                status = "200 OK" if b"/health/" in head else "500 Internal Server Error"
                writer.write(f"HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n".encode())
                await writer.drain()

    return await asyncio.start_server(serve, "127.0.0.1", 0)


async def run(arguments: argparse.Namespace, stage: Stage) -> int:
    stage.edit_config(r"(?m)^(    timeouts: .*)$", rf"\1\n    rollout: {PLAN}")
    await asyncio.to_thread(stage.call, "POST", "/v1/reload", {})
    problems: list[str] = []

    async def is_so(what: str, state: str, green: int) -> None:
        rollout = await asyncio.to_thread(stage.call, "GET", stage.path("/rollout"))
        if (rollout["state"], rollout["weights"].get("green")) != (state, green):
            problems.append(f"{what}: {rollout['state']} with {rollout['weights']}, not {state} with {green} on green")

    over = asyncio.Event()
    visitors = [asyncio.create_task(visit(stage.proxy, over)) for _ in range(VISITORS)]
    with tempfile.TemporaryDirectory() as folder:
        job = Runner(stage, arguments.binary, pathlib.Path(folder))

        async def passes(name: str, commands: list[str]) -> None:
            if code := await job(name, commands):
                problems.append(f"{name} ended with {code}")

        for name, pipeline in jobs().items():
            await passes(f"{name} canary", pipeline["canary"])
            await is_so(f"{name} canary", "paused", 5)
            await passes(f"{name} release", pipeline["release"])
            await is_so(f"{name} release", "promoted", 100)
            await asyncio.to_thread(stage.call, "POST", "/v1/undo", {})
        gitlab = jobs()["gitlab"]
        await passes("gitlab canary, once more", gitlab["canary"])
        await passes("gitlab abort", gitlab["abort"])
        await is_so("gitlab abort", "aborted", 0)
        server = await failing()
        backend = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        green = {"version": "v3", "weight": 0, "backends": [backend]}
        await asyncio.to_thread(stage.call, "PUT", stage.path("/pools/green"), green)
        if await job("gitlab canary of a version that fails", gitlab["canary"]) == 0:
            problems.append("a version that fails has passed")
        await is_so("a version that fails", "aborted", 0)
        server.close()
    over.set()
    await asyncio.wait(visitors, timeout=LONGEST_JOB)
    return verdict(problems)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser)
    arguments = parser.parse_args()
    if not arguments.binary:
        sys.exit("needs --binary")
    with stage(arguments) as built:
        sys.exit(asyncio.run(run(arguments, built)))


if __name__ == "__main__":
    main()
