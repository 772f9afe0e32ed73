"""Names between backticks: keys of the configuration, and metrics."""

import json
import pathlib
import re
import subprocess

import yaml

from .blocks import ROOT, Document
from .words import Api

# Made of the schema itself.
NOT_ASKED = {"docs/config.md"}
# What looks like a key, and is part of an answer, an attribute of a span or a file.
NO_KEYS = {"state.error", "url.path", "url.scheme", "audit.log", "audit.log.1", "audit.log.2"}
# Sections whose keys are names that people give.
NAMED = {"services", "pools", "headers", "cookies", "query", "set", "add"}
METRICS = ROOT / "docs/metrics.md"


class Names:
    def __init__(self, binary: pathlib.Path, api: Api):
        done = subprocess.run([binary, "schema"], capture_output=True, text=True, check=True)
        self.schema = json.loads(done.stdout)
        # Each key with the one above it.
        self.keys: set[tuple[str, str]] = set()
        self.learn("", self.schema)
        # Which look like keys.
        self.events = set(api.description["components"]["schemas"]["Event"]["enum"])
        # observe.py sees to it that these are the ones there are.
        self.metrics = set(re.findall(r"^\| `(\w+)` \|", METRICS.read_text(), re.M))

    def learn(self, above: str, schema: dict) -> None:
        if "$ref" in schema:
            schema = self.schema["$defs"][schema["$ref"].rpartition("/")[2]]
        for key, value in schema.get("properties", {}).items():
            if (above, key) not in self.keys:
                self.keys.add((above, key))
                self.learn(key, value)
        parts = [part for name in ("oneOf", "anyOf", "allOf") for part in schema.get(name, [])]
        for part in [*parts, schema.get("items"), schema.get("additionalProperties")]:
            if isinstance(part, dict):
                self.learn(above, part)

    def problems(self, document: Document):
        if document.name in NOT_ASKED:
            return
        for span in [span for spans in document.spans for span in spans]:
            try:
                for above, key in self.pairs(span) - self.keys:
                    yield f"`{span}`: {above} has no key {key}"
            except yaml.YAMLError as error:
                yield f"`{span}`: {error}"
            for name in re.findall(r"\bcrossfade_[a-z_]+\b(?!\.)", span):
                if name not in self.metrics:
                    yield f"`{span}`: there is no metric {name}"

    def pairs(self, span: str) -> set[tuple[str, str]]:
        """Keys with those above them, if this is a path of keys or a piece of configuration."""
        known = {key for _, key in self.keys}
        path = [step for step in span.replace("[]", "").split(".") if step != "*"]
        if re.fullmatch(r"[a-z_]+(\[\])?(\.([a-z_0-9]+(\[\])?|\*))+", span) and path[0] in known:
            return set() if span in self.events | NO_KEYS else set(zip(path, path[1:]))
        if re.match(r"[a-z_]+: \S", span) and span.partition(":")[0] in known:
            return set(pairs_of(yaml.load(span, yaml.BaseLoader)))
        return set()


def pairs_of(value: object, above: str = "", names: bool = False):
    """`names`: its keys are names that people give."""
    if isinstance(value, dict):
        for key, below in value.items():
            if names:
                yield from pairs_of(below, above)
            else:
                if above:
                    yield above, key
                yield from pairs_of(below, key, key in NAMED)
    elif isinstance(value, list):
        for below in value:
            yield from pairs_of(below, above)
