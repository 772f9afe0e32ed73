"""What documents say between backticks, held against the command line, the admin API and the repository."""

import functools
import os
import pathlib
import re
import shlex
import subprocess
import urllib.parse

from .blocks import ROOT, Document

# Words of a command that stand for others.
PLACEHOLDERS = {
    "SERVICE": "shop", "POOL": "green", "FILE": "crossfade.yaml", "N": "7", "M": "8", "URL": "http://127.0.0.1:9900",
    "KEY=VALUE": "bake=1s", "https://HOST:PORT": "https://127.0.0.1:9900",
}  # fmt: skip
# Flags and addresses of other programs.
FLAGS_OF_OTHERS = {"--enable-feature"}
PATHS_OF_OTHERS = {"/v1/traces"}
METHODS = "GET|HEAD|PUT|POST|DELETE|PATCH|OPTIONS"


class CommandLine:
    """What the binary takes, as its help tells it."""

    def __init__(self, binary: pathlib.Path):
        self.binary = binary
        # Help tells what variables have.
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("CROSSFADE_")}
        # Each verb, such as `rollout start`, with its flags; the empty one has those of all.
        self.verbs: dict[str, set[str]] = {}
        self.asked: set[str] = set()
        self.learn(())

    def learn(self, verb: tuple[str, ...]) -> None:
        text = self.help(verb)
        self.verbs[" ".join(verb)] = flags(text)
        _, _, below = text.partition("\nCommands:\n")
        for name in re.findall(r"^  ([a-z-]+)", below.partition("\n\n")[0], re.M):
            if name != "help":
                self.learn((*verb, name))

    def help(self, verb: tuple[str, ...]) -> str:
        return self.run([*verb, "-h"]).stdout

    def run(self, words: list[str]) -> subprocess.CompletedProcess:
        return subprocess.run([self.binary, *words], capture_output=True, text=True, env=self.environment)

    @functools.cache
    def refusal(self, words: tuple[str, ...]) -> str | None:
        """What it says against a command; None: it takes it. Nothing of it is done."""
        done = self.run([*words, "--help"])
        return done.stderr.partition("\n")[0] if done.returncode else None

    def problems(self, span: str):
        """What is wrong with a span, if that is a command or a flag of crossfade."""
        rollout = re.match(r"([a-z]+) \[?SERVICE\b", span)
        if rollout and f"rollout {rollout[1]}" in self.verbs:
            span = f"crossfade rollout {span}"
        if span.startswith("crossfade "):
            self.asked.add(span)
            for command in alternatives(span.partition(" #")[0]):
                words = tuple(PLACEHOLDERS.get(word, word) for word in command)
                if unknown := [word for word in words if re.fullmatch(r"[A-Z]+", word)]:
                    yield f"`{span}`: what is {unknown[0]}?"
                elif refusal := self.refusal(words):
                    yield f"`{span}`: {refusal}"
        elif span.startswith("--"):
            self.asked.add(span)
            for flag in flags(span) - set().union(FLAGS_OF_OTHERS, *self.verbs.values()):
                yield f"`{span}`: no verb has {flag}"


def flags(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))


def alternatives(command: str) -> list[list[str]]:
    """The words of each command that is meant: `crossfade a|b [SERVICE]` are two."""
    words = [word.strip("[]") for word in shlex.split(command)[1:] if word != "..." and not word.startswith((">", "<"))]
    verbs = words[0].split("|")
    return [[verb, *words[1:]] for verb in verbs]


class Api:
    """What the admin API says of itself."""

    def __init__(self, description: dict):
        self.description = description
        self.asked: set[str] = set()
        self.operations = {
            (method.upper(), path): operation
            for path, item in description["paths"].items()
            for method, operation in item.items()
            if method.upper() in METHODS.split("|")
        }

    def problems(self, spans: list[str]):
        """What is wrong with requests, and with a body that follows one, among these spans."""
        asked: list[dict] = []
        for span in spans:
            request = re.fullmatch(rf"(?:({METHODS}) )?(/\S*)( \{{.*)?", span)
            if request and (request[1] or request[2].startswith("/v1/")):
                self.asked.add(span)
                method, target, body = request.groups()
                path = target.partition("?")[0]
                asked = [found for (has, template), found in self.operations.items()
                         if method in (has, None) and alike(path, template)]  # fmt: skip
                if not asked:
                    if path not in PATHS_OF_OTHERS:
                        yield f"`{span}`: the admin API has no such request"
                    continue
                query = set(urllib.parse.parse_qs(urllib.parse.urlsplit(target).query, keep_blank_values=True))
                if strange := query - set().union(*map(self.parameters, asked)):
                    yield f"`{span}`: it does not take {', '.join(sorted(strange))}"
            else:
                body = span
            if asked and body and body.lstrip().startswith('{"'):
                keys = set(re.findall(r'"(\w+)":', body))
                if strange := keys - set().union(*map(self.properties, asked)):
                    yield f"`{span}`: the body has no {', '.join(sorted(strange))}"

    def parameters(self, operation: dict) -> list[str]:
        return [one["name"] for one in operation.get("parameters", []) if one["in"] == "query"]

    def body(self, operation: dict) -> dict:
        return operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})

    def properties(self, operation: dict) -> list[str]:
        """The keys of its body."""
        return list(dict.fromkeys(self.keys(self.body(operation))))

    def keys(self, schema: dict):
        if "$ref" in schema:
            yield from self.keys(self.description["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
        yield from schema.get("properties", {})
        for part in ("oneOf", "anyOf", "allOf"):
            for one in schema.get(part, []):
                yield from self.keys(one)


def alike(path: str, template: str) -> bool:
    """Whether a request to `path`, with any names in braces, is one to `template`."""
    pieces, wanted = path.split("/"), template.split("/")
    return len(pieces) == len(wanted) and all(
        piece == want or (want.startswith("{") and piece) for piece, want in zip(pieces, wanted)
    )


@functools.cache
def sources() -> str:
    return "".join(file.read_text() for file in (ROOT / "src").rglob("*.rs"))


def repository_problems(span: str):
    """Files and variables that are not there."""
    for path in re.findall(r"(?<![\w/.$-])(\.?[a-z]+/[\w./-]*)", span):
        top = ROOT / path.partition("/")[0]
        if top.is_dir() and path.partition("/")[0] not in ("target", "state") and not (ROOT / path).exists():
            yield f"`{span}`: {path} is not there"
    for name in re.findall(r"\bCROSSFADE_[A-Z_]+\b", span):
        if f'"{name}"' not in sources():
            yield f"`{span}`: nothing reads {name}"


def problems(document: Document, commands: CommandLine, api: Api):
    """What documents say in their text, and as usage, that is not so."""
    for spans in document.spans:
        yield from api.problems(spans)
        for span in spans:
            yield from commands.problems(span)
            yield from repository_problems(span)
    for block in document.blocks:
        if block.note == "usage":
            for line in block.text.splitlines():
                if not line.startswith("crossfade "):
                    yield f"line {block.line}: no usage of crossfade: {line}"
                # What it is for stands far behind it.
                yield from commands.problems(re.split(r" {2,}", line)[0])
