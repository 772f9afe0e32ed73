#!/usr/bin/env python3
"""Whether what the documents say is so: docs/, README.md and CONTRIBUTING.md.

    tests/tools/docs.py --binary target/release/crossfade [docs/tutorial.md ...]
    tests/tools/docs.py --binary target/release/crossfade --update

Each document is one session in an empty folder, from the first block to the last. One that has no `crossfade.yaml` of its own
begins with a crossfade that runs, of a service `shop` with the pools `blue` and `green`. Every block is one of these:

- ```sh is run, and must succeed; after `<!-- before: COMMAND -->`, which readers do not see. Under `<!-- by CI -->` it is what
  .ci/run runs too, under `<!-- ci:NAME -->` what .ci/run takes from there.
- ```console is run, and each command must say what is shown: … is anything, a number any number. One that has said it is ended.
- ```text under `<!-- says -->` is what the block before it says, line by line, … for whatever is between. Under
  `<!-- usage -->` it is for the command line to understand. Under `<!-- not to type -->` it is neither.
- ```yaml is a part of the configuration, at its top or at `<!-- at: services.shop -->`: valid, and without a warning, when the
  rest is added. Under `<!-- file: NAME -->` it is a whole one, and is written there; under `<!-- manifest: NAME -->` it is for
  Kubernetes: written, read as YAML, and the configurations in it must be valid; under `<!-- of others -->` it is read as YAML.
- ```json under `<!-- hook -->` is what a hook sends, ```python under it knows whether one is genuine.
- ```promql is asked by observe.py. nginx, haproxy and logrotate are languages of others.

What stands between backticks in the text is checked too: commands and flags by the command line, which must understand them,
requests by the description of the admin API, keys of the configuration by its schema, metrics by docs/metrics.md, and
files by looking for them. docs/api.md and docs/cli.md are made of what the binary says of itself; `--update` makes them.

Ports are replaced by free ones. There are a `kubectl` that reads manifests and a `systemctl` that does nothing. Needs curl,
openssl and Python's yaml.
"""

import argparse
import concurrent.futures
import contextlib
import json
import pathlib
import re
import shutil
import signal
import sys
import tempfile
import time
import urllib.request

import stage
from documents import Wrong, blocks, reference, words
from documents.blocks import ROOT, Document
from documents.names import Names
from documents.session import STAGE, Session, end_all
from observe import DOCUMENTS as WITH_QUERIES

# Fewer between the backticks of all documents means that they were not recognised.
AT_LEAST = 40
# They mostly wait.
AT_A_TIME = 3


def described(binary: pathlib.Path) -> dict:
    """The description of the admin API, by a crossfade that runs."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = pathlib.Path(name)
        proxy, admin = stage.free_ports(2)
        config = folder / "crossfade.yaml"
        config.write_text(STAGE.replace("8080", str(proxy)).replace("9900", str(admin)))
        log = folder / "crossfade.log"
        stage.run([binary, "serve", config], log, stack)
        url = f"http://127.0.0.1:{admin}"
        stage.wait_for(f"{url}/healthz", log)
        with urllib.request.urlopen(f"{url}/v1/openapi.json", timeout=30) as answer:
            return json.load(answer)


def play(document: Document, binary: pathlib.Path) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        session = Session(document, binary, pathlib.Path(folder))
        began = time.monotonic()
        try:
            session.play()
        except (Wrong, ValueError, SyntaxError) as wrong:
            return [f"{document.name}: {wrong}"]
    if session.checked:
        print(f"{document.name}: {session.checked} blocks in {time.monotonic() - began:.1f} s", flush=True)
    if any(block.kind == "promql" for block in document.blocks) and document.path not in WITH_QUERIES:
        return [f"{document.name}: observe.py does not ask its queries"]
    return []


def links(documents: list[Document]):
    """Places in the repository that documents lead to, and that are not there."""
    for document in documents:
        for target, _, place in re.findall(r"\]\(([^)#:]*)(#([^)]*))?\)", document.path.read_text()):
            path = document.path.parent / target if target else document.path
            if not path.exists():
                yield f"{document.name}: {target} is not there"
            elif place and place not in anchors(path):
                yield f"{document.name}: {path.name} has no {place}"


def anchors(path: pathlib.Path) -> set[str]:
    """Of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)", path.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def index() -> list[str]:
    text = (ROOT / "docs/README.md").read_text()
    names = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")} - {"README.md"}
    return [f"docs/README.md does not lead to {name}" for name in sorted(names) if f"]({name})" not in text]


def pages(commands: words.CommandLine, api: words.Api, update: bool):
    """Those that are made, and are not what they would be."""
    for name, page in [("docs/api.md", reference.api_page(api)), ("docs/cli.md", reference.cli_page(commands))]:
        path = ROOT / name
        if update:
            path.write_text(page)
        elif not path.exists() or path.read_text() != page:
            yield f"{name} is not what the binary says of itself: use --update"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path, required=True)
    parser.add_argument("--update", action="store_true", help="make the pages that are made")
    parser.add_argument("documents", type=pathlib.Path, nargs="*")
    arguments = parser.parse_args()
    if not shutil.which("openssl"):
        sys.exit("openssl is needed")
    binary = arguments.binary.resolve()
    commands, api = words.CommandLine(binary), words.Api(described(binary))
    names = Names(binary, api)
    problems = list(pages(commands, api, arguments.update))
    if arguments.update:
        return stage.verdict(problems)

    everything = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    documents = []
    for path in [document.resolve() for document in arguments.documents] or everything:
        try:
            documents.append(blocks.read(path))
        except Wrong as wrong:
            problems.append(f"{path}: {wrong}")
    for document in documents:
        found = [*words.problems(document, commands, api), *names.problems(document)]
        problems += [f"{document.name}: {problem}" for problem in found]
    said = f"{len(commands.asked)} commands and flags, {len(api.asked)} requests"
    print(f"between backticks: {said}")
    if not arguments.documents and min(len(commands.asked), len(api.asked)) < AT_LEAST:
        problems.append(f"only {said} were found")
    problems += [*links(documents), *index()]
    # What is played is of groups of its own, which would go on.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    with concurrent.futures.ThreadPoolExecutor(AT_A_TIME) as players:
        try:
            for found in players.map(lambda document: play(document, binary), documents):
                problems += found
        finally:
            players.shutdown(wait=False, cancel_futures=True)
            end_all()
    return stage.verdict(problems)


if __name__ == "__main__":
    sys.exit(main())
