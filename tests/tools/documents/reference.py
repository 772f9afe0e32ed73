"""docs/api.md and docs/cli.md, made of what the binary says of itself."""

import re

from . import Wrong
from .words import Api, CommandLine, flags

MADE = """\
<!-- Made of what crossfade says of itself: do not edit. To make it anew:
     tests/tools/docs.py --binary target/release/crossfade --update -->

"""
API = f"""\
{MADE}# Requests to the admin API

What can be asked at `admin.address`, in short; `GET /v1/openapi.json` has every key of every answer. Who may ask is in
[admin.md](admin.md), what becomes of a change in [changes.md](changes.md).

- Bodies are JSON, with `content-type: application/json`; none is `{{}}`. Errors are problems (RFC 9457), as
  `application/problem+json`, with all that is wrong in `errors`.
- A change answers with a receipt: its revision, what changed, what was in flight.
- What is said to take *a change's* keys takes these in the query: `cause`; `dry_run=true`: what it would do, and nothing is
  done; `wait=30s`: the answer comes when what gets no new requests is idle, 504 if that takes longer, and the change stands;
  `wait_healthy=30s`: wait for a healthy backend first; `force=true`: do without. `cause`, `wait_healthy` and `force` may be in
  the body instead.
- Every change takes `If-Match: "REVISION"`, and one by POST an `Idempotency-Key` ([two writers](changes.md#two-writers)).
"""
CLI = f"""\
{MADE}# The command line

All verbs but `demo`, `serve`, `check` and `schema` talk to the admin API of a crossfade that runs ([api.md](api.md)).

| exit code | |
|---|---|
| 0 | done; of a rollout that is waited for: promoted, or paused as `--until paused` asks |
| 1 | failed, refused or superseded |
| 2 | wrong usage, or an invalid configuration |
| 3 | the rollout was aborted |
| 4 | gave up waiting |
| 5 | the admin API is out of reach |

Durations are such as `500ms`, `30s` or `5m`. `CROSSFADE_TOKEN` has the token to show to the admin API, where it is not in a file.
"""
ENTRY = re.compile(r"^ {2,6}((?:-\w, )?--\S+(?: [<\[]\S+)?|[<\[]\S+)(?:\s{2,}(.*))?$")


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").strip()


def api_page(api: Api) -> str:
    page = API
    tags = [tag["name"] for tag in api.description["tags"]]
    if strange := [path for (_, path), operation in api.operations.items() if operation["tags"][0] not in tags]:
        raise Wrong(f"no tag is known of {strange}")
    for tag in api.description["tags"]:
        page += f"\n## {tag['description']}\n\n| request | in the query | in the body | |\n|---|---|---|---|\n"
        for (method, path), operation in api.operations.items():
            if operation["tags"][0] == tag["name"]:
                query, body = in_query(api, operation), in_body(api, operation)
                page += f"| `{method} {path}` | {query} | {body} | {cell(operation['summary'])} |\n"
    return page


def in_query(api: Api, operation: dict) -> str:
    names = api.parameters(operation)
    if COMMON <= set(names):
        return ", ".join(["*a change's*", *(f"`{name}`" for name in names if name not in COMMON)])
    return ", ".join(f"`{name}`" for name in names)


def in_body(api: Api, operation: dict) -> str:
    schema = api.body(operation).get("$ref", "").rpartition("/")[2]
    return WHOLE.get(schema) or ", ".join(f"`{name}`" for name in api.properties(operation) if name not in COMMON)


# Keys that every change takes.
COMMON = {"cause", "force", "wait_healthy", "dry_run", "wait"}
# Bodies in the keys of the file.
WHOLE = {
    "Config": "a [configuration](config.md)",
    "PoolBody": "a [pool](config.md#servicespools)",
    "RolloutBody": "a [plan](config.md#servicesrollout), `to`, `from`",
}


def entries(text: str) -> dict[str, str]:
    """Arguments and flags of a page of help, and what they mean."""
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if entry := ENTRY.match(line):
            name = entry[1]
            found[name] = entry[2] or ""
        elif name and line.startswith(" " * 8) and line.strip():
            found[name] = f"{found[name]} {line.strip()}".strip()
        else:
            name = ""
    if unseen := flags(text) - flags(" ".join([*found, *found.values()])):
        raise Wrong(f"help is not understood, of {unseen}: {text}")
    return {
        name: re.sub(r"\[env: (\w+)=\]", r"[env: \1]", meaning)
        for name, meaning in found.items()
        if not re.search(r"--(help|version)$", name)
    }


def table(found: dict[str, str]) -> str:
    rows = "".join(f"| `{cell(re.sub('[<>]', '', name))}` | {cell(meaning)} |\n" for name, meaning in found.items())
    return f"\n| | |\n|---|---|\n{rows}"


def cli_page(commands: CommandLine) -> str:
    common = entries(commands.help(()))
    page = f"{CLI}\n## With every verb\n{table(common)}"
    for verb in commands.verbs:
        if not verb or any(other.startswith(f"{verb} ") for other in commands.verbs):
            continue
        text = commands.help(tuple(verb.split()))
        own = {name: meaning for name, meaning in entries(text).items() if name not in common}
        page += f"\n## `crossfade {verb}`\n\n{cell(text.partition('Usage:')[0])}.\n"
        if own:
            page += table(own)
    return page
