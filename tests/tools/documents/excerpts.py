"""Parts of a configuration that documents show, made into whole ones."""

import pathlib
import re
import secrets
import subprocess

import yaml

from . import Wrong

# What the parts leave out.
REST = """\
listeners: [{ address: 127.0.0.1:8080 }]
services:
  shop:
    pools:
      blue:  { version: v1, weight: 95, backends: ["127.0.0.1:9001"] }
      green: { version: v2, weight: 5,  backends: ["127.0.0.1:9011"] }
"""
# Keys whose value is a file that must be there.
CERTIFICATES = {"cert", "ca", "client_ca"}
SECRETS = {"file", "key_file"}


def complete(text: str, place: str) -> yaml.Node:
    """The whole configuration that has `text` at `place`, such as `services.shop` or `listeners[0]`; at the top of it if
    that is empty."""
    # Nodes, not values: what is in quotes must stay so.
    part = yaml.compose(text)
    for step in reversed(re.findall(r"\w+|\[0\]", place)):
        if step == "[0]":
            part = yaml.SequenceNode("tag:yaml.org,2002:seq", [part])
        else:
            part = yaml.MappingNode("tag:yaml.org,2002:map", [(yaml.ScalarNode("tag:yaml.org,2002:str", step), part)])
    first = place.endswith("[0]")
    return merged(yaml.compose(REST), part, first)


def merged(whole: yaml.Node, part: yaml.Node, first: bool) -> yaml.Node:
    if isinstance(whole, yaml.MappingNode) and isinstance(part, yaml.MappingNode):
        values = {key.value: (key, value) for key, value in whole.value}
        for key, value in part.value:
            values[key.value] = (key, merged(values[key.value][1], value, first) if key.value in values else value)
        return yaml.MappingNode(whole.tag, list(values.values()))
    if first and isinstance(whole, yaml.SequenceNode) and isinstance(part, yaml.SequenceNode):
        return yaml.SequenceNode(whole.tag, [merged(whole.value[0], part.value[0], first), *whole.value[1:]])
    return part


def files(node: yaml.Node, pairs: list[tuple[str, str]], found: set[str]) -> None:
    """Collects the pairs of certificate and key, and the other files, that a configuration names."""
    if isinstance(node, yaml.MappingNode):
        names = {key.value: value.value for key, value in node.value if isinstance(value, yaml.ScalarNode)}
        if {"cert", "key"} <= set(names):
            pairs.append((names["cert"], names["key"]))
        found |= {value for key, value in names.items() if key in SECRETS | CERTIFICATES - {"cert"}}
        for _, value in node.value:
            files(value, pairs, found)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            files(value, pairs, found)


def provide(node: yaml.Node, folder: pathlib.Path) -> None:
    """Puts what a configuration names where it looks for it."""
    pairs: list[tuple[str, str]] = []
    found: set[str] = set()
    files(node, pairs, found)
    for cert, key in pairs:
        certificate(folder / cert, folder / key)
    for name in found:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".crt"):
            certificate(path, path.with_suffix(".key"))
        else:
            path.write_text(secrets.token_hex(16))
            path.chmod(0o600)


def certificate(cert: pathlib.Path, key: pathlib.Path) -> None:
    cert.parent.mkdir(parents=True, exist_ok=True)
    names = "subjectAltName=DNS:shop.example.com"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]
    command += ["-subj", "/CN=shop.example.com", "-addext", names, "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)


def check(text: str, place: str, binary: pathlib.Path, folder: pathlib.Path) -> None:
    """Raises Wrong if a configuration with this part is not valid, or has a warning."""
    whole = complete(text, place)
    provide(whole, folder)
    file = folder / "whole.yaml"
    file.write_text(yaml.serialize(whole, width=1000))
    done = subprocess.run([binary, "check", file], capture_output=True, text=True)
    if done.returncode or "(warning)" in done.stderr:
        raise Wrong(f"{done.stderr}\n{file.read_text()}")
