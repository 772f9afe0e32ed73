#!/usr/bin/env python3
"""Runs what the documents tell people to type: the tutorial, the how-tos and the explanations.

    tests/tools/docs.py --binary target/release/crossfade [docs/tutorial.md ...]

Each document is one session in an empty folder, from the first block to the last:

- ```sh is run, and must succeed; `text` under `<!-- says -->` is what the block before it says, line by line, … for whatever
  is between.
- ```yaml under `<!-- file: NAME -->` is written there, and must be a valid configuration.
- ```yaml under `<!-- manifest: NAME -->` is for Kubernetes: written, read as YAML, and the configurations in it must be valid.
- ```yaml under `<!-- of others -->` is read as YAML.

Ports are replaced by free ones. There is a `kubectl` that reads manifests and does nothing else. Needs curl, openssl and
Python's yaml.
"""

import argparse
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile

import yaml

import stage

ROOT = pathlib.Path(__file__).resolve().parents[2]
PORTS = ["8080", "8443", "9900", "9001", "9002", "9011", "9012"]
BLOCK = re.compile(r"^(?:<!-- (?P<note>.*?) -->\n)?```(?P<kind>[a-z]+)\n(?P<text>.*?)^```$", re.M | re.S)
# Longest that a document may take.
PATIENCE = 300

PRELUDE = """\
set -euo pipefail
unset CROSSFADE_TOKEN CROSSFADE_TOKEN_FILE NO_COLOR
until_there() { for _ in $(seq 600); do if (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then return; fi; sleep 0.1; done; return 1; }
until_ready() { for _ in $(seq 600); do if curl -sf -o /dev/null "$CROSSFADE_ADMIN/readyz"; then return; fi; sleep 0.1; done; return 1; }
"""

KUBECTL = """\
#!{python}
import pathlib, sys, yaml
names = [name for flag, name in zip(sys.argv, sys.argv[1:]) if flag == "-f"]
for name in names:
    for manifest in yaml.safe_load_all(pathlib.Path(name).read_text()):
        if not {{"apiVersion", "kind", "metadata"}} <= set(manifest):
            sys.exit(f"{{name}}: not a manifest: {{manifest}}")
        print(f"{{manifest['kind'].lower()}}/{{manifest['metadata']['name']}} configured")
"""


class Wrong(Exception):
    """What a document says is not so."""


class Session:
    def __init__(self, document: pathlib.Path, binary: pathlib.Path, folder: pathlib.Path):
        self.document = document
        self.folder = folder
        self.binary = binary
        self.ports = dict(zip(PORTS, map(str, stage.free_ports(len(PORTS)))))
        self.script = [PRELUDE]
        self.said: list[tuple[int, str]] = []
        self.count = 0
        tools = folder / ".tools"
        tools.mkdir()
        (tools / "crossfade").symlink_to(binary)
        (tools / "kubectl").write_text(KUBECTL.format(python=sys.executable))
        (tools / "kubectl").chmod(0o755)
        self.environment = os.environ | {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "CROSSFADE_ADMIN": f"http://127.0.0.1:{self.ports['9900']}",
        }

    def free(self, text: str) -> str:
        return re.sub(r"\b(" + "|".join(PORTS) + r")\b", lambda found: self.ports[found[1]], text)

    def take(self, note: str, kind: str, text: str) -> None:
        name = note.partition(": ")[2]
        match kind, note.partition(": ")[0]:
            case "sh", "":
                self.command(self.free(text))
            case "text", "says":
                self.said.append((self.count, text))
            case "text" | "nginx" | "haproxy" | "promql", "":
                pass
            case "yaml", "file":
                # Written when it is its turn: a document may write a file twice.
                self.write(name, self.free(text), check=True)
            case "yaml", "manifest":
                self.write(name, text, check=False)
                self.manifests(name, text)
            case "yaml", "of others":
                list(yaml.safe_load_all(text))
            case _:
                raise Wrong(f"a block of {kind!r} with the note {note!r} is not known")

    def command(self, text: str) -> None:
        self.count += 1
        self.script.append(f"exec >block.{self.count} 2>&1\n{text}")
        for line in text.splitlines():
            if "demo-app" in line and line.rstrip().endswith("&"):
                self.script += [f"until_there {port}\n" for port in re.findall(r"--address 127\.0\.0\.1:(\d+)", line)]
            if "crossfade serve" in line and line.rstrip().endswith("&"):
                self.script.append("until_ready\n")

    def write(self, name: str, text: str, check: bool) -> None:
        end = "END_OF_" + re.sub(r"\W", "_", name)
        self.script.append(f"exec >written.{self.count} 2>&1\ncat >new.tmp <<'{end}'\n{text}{end}\nmv new.tmp {name}\n")
        if check:
            self.script.append(f"crossfade check {name}\n")

    def manifests(self, name: str, text: str) -> None:
        for manifest in yaml.safe_load_all(text):
            for key, value in (manifest.get("data") or {}).items():
                if manifest["kind"] == "ConfigMap" and key.endswith("crossfade.yaml"):
                    config = self.folder / f"in-{name}.yaml"
                    config.write_text(value)
                    done = subprocess.run([self.binary, "check", config], capture_output=True, text=True)
                    if done.returncode:
                        raise Wrong(f"{name}: {done.stderr}")

    def run(self) -> None:
        script = self.folder / ".session"
        script.write_text("".join(self.script))
        # Of its own, so that what it has started can be ended with it.
        process = subprocess.Popen(["bash", script], cwd=self.folder, env=self.environment, start_new_session=True)
        try:
            code = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            code = f"no end within {PATIENCE} s"
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
        if code != 0:
            raise Wrong(f"block ended with {code}; what was said:\n{self.everything()}")
        for block, wanted in self.said:
            self.compare(block, wanted)

    def everything(self) -> str:
        files = sorted(self.folder.glob("block.*"), key=lambda file: int(file.suffix[1:]))
        return "\n".join(f"--- {file.name}\n{file.read_text()[-3000:]}" for file in [*files, *self.folder.glob("written.*")])

    def compare(self, block: int, wanted: str) -> None:
        said = (self.folder / f"block.{block}").read_text()
        lines = iter(said.splitlines())
        for line in wanted.splitlines():
            pieces = [re.escape(" ".join(piece.split())) for piece in self.free(line).split("…")]
            pattern = re.compile(".*".join(pieces))
            if not any(pattern.search(" ".join(line.split())) for line in lines):
                raise Wrong(f"it does not say `{line}`, but:\n{said}")


def check(document: pathlib.Path, binary: pathlib.Path) -> str | None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            session = Session(document, binary, pathlib.Path(folder))
            text = document.read_text()
            if text.count("\n```") != 2 * len(BLOCK.findall(text)):
                raise Wrong("a block of it has no kind, or is not closed")
            for block in BLOCK.finditer(text):
                session.take(block["note"] or "", block["kind"], block["text"])
            session.run()
        except Wrong as wrong:
            return f"{document}: {wrong}"
    print(f"{document.relative_to(ROOT)}: {session.count} blocks")
    return None


def links(documents: list[pathlib.Path]):
    """Places in the repository that documents lead to, and that are not there."""
    for document in documents:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
            if not (document.parent / target).exists():
                yield f"{document}: {target} is not there"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path, required=True)
    parser.add_argument("documents", type=pathlib.Path, nargs="*")
    arguments = parser.parse_args()
    if not shutil.which("openssl"):
        sys.exit("openssl is needed")
    run = [ROOT / "docs/tutorial.md", *sorted((ROOT / "docs/howto").glob("*.md")), *sorted((ROOT / "docs/explanation").glob("*.md"))]
    chosen = [document.resolve() for document in arguments.documents] or run
    problems = [problem for document in chosen if (problem := check(document, arguments.binary.resolve()))]
    problems += links([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
    index = (ROOT / "docs/README.md").read_text()
    for document in (ROOT / "docs").rglob("*.md"):
        name = str(document.relative_to(ROOT / "docs"))
        if name != "README.md" and f"]({name})" not in index:
            problems.append(f"docs/README.md does not lead to {name}")
    return stage.verdict(problems)


if __name__ == "__main__":
    sys.exit(main())
