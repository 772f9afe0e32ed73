"""A document played from its first block to its last, by one shell in a folder of its own."""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import stage
import yaml

from . import Wrong, excerpts, hook
from .blocks import ROOT, Block, Document

PORTS = ["8080", "8443", "9900", "9001", "9002", "9011", "9012"]
# Languages of others, which nothing here reads.
FOREIGN = {"nginx", "haproxy", "logrotate"}
# Longest that a document may take, and that something in it may take to be said.
PATIENCE = 150
SAID_WITHIN = 60

PRELUDE = """\
set -euo pipefail
unset CROSSFADE_TOKEN CROSSFADE_TOKEN_FILE NO_COLOR
until_there() { for _ in $(seq 600); do if (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then return; fi; sleep 0.1; done; return 1; }
until_ready() { for _ in $(seq 600); do if curl -s -o /dev/null "$CROSSFADE_ADMIN/readyz"; then return; fi; sleep 0.1; done; return 1; }
staged=
take_its_place() { if [ -n "$staged" ]; then kill "$staged"; wait "$staged"; staged=; fi; }
"""

# What a reference is tried with. Its traffic outlives that nobody listens: not yet, or while another takes the proxy's place.
STAGE = """\
listeners: [{ address: 127.0.0.1:8080 }]
admin: { address: 127.0.0.1:9900 }
services:
  shop:
    pools:
      blue:  { version: v1, weight: 95, backends: ["127.0.0.1:9001", "127.0.0.1:9002"] }
      green: { version: v2, weight: 5,  backends: ["127.0.0.1:9011"] }
    pins:
      - { headers: { canary: "true" }, pool: green }
    health_check: { path: /health/ready, interval: 1s, timeout: 1s }
    rollout: { first_touch: null, warm_up: 0s }
"""
ON_STAGE = """\
crossfade demo-app --address 127.0.0.1:9001 --version v1 &
crossfade demo-app --address 127.0.0.1:9002 --version v1 &
crossfade demo-app --address 127.0.0.1:9011 --version v2 &
crossfade demo-app --address 127.0.0.1:9012 --version v2 &
while :; do curl -s -o /dev/null http://127.0.0.1:8080/ || true; sleep 0.02; done &
crossfade serve crossfade.yaml >stage.log 2>&1 &
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
# What the admin API refuses has failed; what a backend answers need not have.
CURL = """\
#!/bin/sh
case "$*" in *:{admin}/*) set -- --fail-with-body "$@" ;; esac
exec {curl} "$@"
"""
SYSTEMCTL = """\
#!/bin/sh
[ "$1" = restart ] && [ $# = 2 ]
"""
UNTIL_SAID = """\
#!{python}
import sys
sys.path.insert(0, {tools!r})
from documents.session import until_said
sys.exit(until_said(*sys.argv[1:]))
"""


# The groups of processes that play a document now.
PLAYED: set[int] = set()


class Session:
    def __init__(self, document: Document, binary: pathlib.Path, folder: pathlib.Path):
        self.document = document
        self.folder = folder
        self.binary = binary
        self.ports = dict(zip(PORTS, map(str, stage.free_ports(len(PORTS)))))
        self.script = [PRELUDE]
        self.said: list[tuple[int, str]] = []
        self.checked = 0
        self.count = 0
        self.staged = False
        self.hook: dict[str, str] = {}
        self.tools = folder / ".tools"
        self.tools.mkdir()
        # A copy: who upgrades replaces it.
        shutil.copy(binary, self.tools / "crossfade")
        self.tool("kubectl", KUBECTL.format(python=sys.executable))
        self.tool("systemctl", SYSTEMCTL)
        self.tool("until_said", UNTIL_SAID.format(python=sys.executable, tools=str(stage.TOOLS)))
        self.tool("curl", CURL.format(admin=self.ports["9900"], curl=shutil.which("curl")))
        self.environment = os.environ | {
            "PATH": f"{self.tools}:{os.environ['PATH']}",
            "CROSSFADE_ADMIN": f"http://127.0.0.1:{self.ports['9900']}",
        }

    def tool(self, name: str, text: str) -> None:
        (self.tools / name).write_text(text)
        (self.tools / name).chmod(0o755)

    def free(self, text: str) -> str:
        """With ports that are free, and a place to install to."""
        text = re.sub(r"\b(" + "|".join(PORTS) + r")\b", lambda found: self.ports[found[1]], text)
        return text.replace("/usr/local/bin/", f"{self.tools}/")

    def play(self) -> None:
        """Raises Wrong if something in the document is not so."""
        own = any(block.note == "file: crossfade.yaml" for block in self.document.blocks)
        for block in self.document.blocks:
            try:
                self.take(block, own)
            except (Wrong, yaml.YAMLError, SyntaxError, ValueError) as wrong:
                raise Wrong(f"line {block.line}: {wrong}") from wrong
        if self.count:
            self.run()
        if self.hook:
            hook.check(self.binary, self.folder, self.hook.get("json", "{}"), self.hook.get("python", ""))

    def take(self, block: Block, own: bool) -> None:
        note, _, value = block.note.partition(": ")
        match block.kind, note:
            case "sh", "" | "before":
                self.set_stage(block, own)
                self.command(value + "\n" + block.text)
            case "console", "" | "before":
                self.set_stage(block, own)
                self.console(value, block.text)
            case "sh", "by CI":
                by_ci(block.text)
            case "sh", name if name.startswith("ci:"):
                by_ci(f"readme_command {name.removeprefix('ci:')}")
            case "text", "says":
                self.said.append((self.count, block.text))
            case "text", "usage" | "not to type":
                pass
            case "yaml", "file":
                # Written when it is its turn: a document may write a file twice.
                self.write(value, self.free(block.text), check=True)
            case "yaml", "manifest":
                self.write(value, block.text, check=False)
                self.manifests(value, block.text)
            case "yaml", "of others":
                list(yaml.safe_load_all(block.text))
            case "yaml", "" | "at":
                excerpts.check(block.text, value, self.binary, self.scratch())
            case "json" | "python", "hook":
                self.hook[block.kind] = block.text
            case "promql", "":
                pass
            case kind, "" if kind in FOREIGN:
                pass
            case _:
                raise Wrong(f"a block of {block.kind!r} with the note {block.note!r} is not known")
        self.checked += 1

    def scratch(self) -> pathlib.Path:
        folder = self.folder / f".{self.checked}"
        folder.mkdir()
        return folder

    def set_stage(self, block: Block, own: bool) -> None:
        """A document that does not bring a configuration is about one that runs."""
        if own or self.staged or not re.search(r"\b(crossfade|curl) ", block.text):
            return
        self.staged = True
        (self.folder / "crossfade.yaml").write_text(self.free(STAGE))
        shutil.copytree(ROOT / "config", self.folder / "config", ignore=shutil.ignore_patterns("tls", "acme"))
        for file in (self.folder / "config").glob("*.yaml"):
            file.write_text(self.free(file.read_text()))
        self.command(ON_STAGE + "staged=$!")

    def command(self, text: str) -> None:
        self.count += 1
        self.script.append(f"exec >block.{self.count} 2>&1\n")
        for line in self.free(text).splitlines():
            if re.match(r"crossfade serve\b", line) and not line.rstrip().endswith("&"):
                # As from another terminal.
                self.script.append(f"take_its_place\n{line} &\nuntil_ready\n")
                continue
            self.script.append(line + "\n")
            if "demo-app" in line and line.rstrip().endswith("&"):
                self.script += [f"until_there {port}\n" for port in re.findall(r"--address 127\.0\.0\.1:(\d+)", line)]
            if "crossfade serve" in line and line.rstrip().endswith("&"):
                self.script.append("until_ready\n")

    def console(self, before: str, text: str) -> None:
        """Commands with what they say: one that has said it all is ended."""
        self.command(before)
        for number, shown in enumerate(re.split(r"^\$ ", text, flags=re.M)[1:]):
            line, _, wanted = shown.partition("\n")
            if wanted:
                file = self.folder / f"wanted.{self.count}.{number}"
                file.write_text(self.free(wanted))
                self.script.append(f"until_said {file.name} <<'END_OF_COMMAND'\n{self.free(line)}\nEND_OF_COMMAND\n")
            else:
                self.script.append(self.free(line) + "\n")

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
        PLAYED.add(process.pid)
        try:
            code = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            code = f"no end within {PATIENCE} s"
        finally:
            end(process.pid)
            process.wait()
            PLAYED.remove(process.pid)
        if code != 0:
            raise Wrong(f"block ended with {code}; what was said:\n{self.everything()}")
        for block, wanted in self.said:
            said = (self.folder / f"block.{block}").read_text()
            if missing := unsaid(said.splitlines(), self.free(wanted)):
                raise Wrong(f"it does not say `{missing}`, but:\n{said}")

    def everything(self) -> str:
        files = sorted(self.folder.glob("block.*"), key=lambda file: int(file.suffix[1:]))
        files += [*self.folder.glob("written.*"), *self.folder.glob("stage.log")]
        return "\n".join(f"--- {file.name}\n{file.read_text()[-3000:]}" for file in files)


def end(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def end_all() -> None:
    """Ends what is played now."""
    for group in list(PLAYED):
        end(group)


def by_ci(text: str) -> None:
    """That .ci/run has each of these commands, or README.md has it, from where it takes some."""
    has = (ROOT / ".ci/run").read_text().replace(" --locked", "") + (ROOT / "README.md").read_text()
    for line in text.splitlines():
        command = line.partition(" #")[0].strip()
        if not (re.search(rf"(?<![\w-]){re.escape(command)}(?![\w-])", has) or command == ".ci/run"):
            raise Wrong(f".ci/run does not run {command}")


def pattern(line: str, numbers: bool = False) -> re.Pattern:
    """What a line may be that is shown as this one: … is anything, and blanks are alike."""
    pieces = []
    for piece in line.split("…"):
        words = re.split(r"(?<!\w)(\d[\w.:+-]*)", " ".join(piece.split())) if numbers else [" ".join(piece.split())]
        pieces.append("".join(re.escape(word) if at % 2 == 0 else r"\d[\w.:+-]*" for at, word in enumerate(words)))
    return re.compile(".*".join(pieces))


def unsaid(lines, wanted: str, numbers: bool = False) -> str | None:
    """The first line of `wanted` that is not among the others, in their order."""
    lines = iter(lines)
    for line in wanted.splitlines():
        if line == "…":
            continue
        shape = pattern(line, numbers)
        if not any(shape.search(" ".join(said.split())) for said in lines):
            return line
    return None


def until_said(file: str) -> int:
    """Runs the command on stdin until it has said what is in the file, any number for a number; the exit code."""
    command = ["bash", "-o", "pipefail", "-c", sys.stdin.read()]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    # It need not end by itself, nor say anything.
    signal.signal(signal.SIGALRM, lambda *_: process.kill())
    signal.alarm(SAID_WITHIN)

    def lines():
        for line in process.stdout:
            print(line, end="", flush=True)
            yield line

    missing = unsaid(lines(), pathlib.Path(file).read_text(), numbers=True)
    signal.alarm(0)
    process.terminate()
    if missing:
        print(f"it does not say `{missing}`")
    return int(bool(missing))
