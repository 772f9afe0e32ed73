"""A document taken apart: its blocks, and what stands in its text between backticks."""

import dataclasses
import pathlib
import re

from . import Wrong

ROOT = pathlib.Path(__file__).resolve().parents[3]
SPAN = re.compile(r"(`+)(.+?)(?<!`)\1(?!`)", re.S)


@dataclasses.dataclass
class Block:
    line: int
    kind: str
    # What a comment in the line before it says of it, such as `file: crossfade.yaml`.
    note: str
    text: str


@dataclasses.dataclass
class Document:
    path: pathlib.Path
    blocks: list[Block]
    # Of each paragraph or line of a table that has any.
    spans: list[list[str]]

    @property
    def name(self) -> str:
        return str(self.path.relative_to(ROOT)) if self.path.is_relative_to(ROOT) else self.path.name


def read(path: pathlib.Path) -> Document:
    """Raises Wrong where it cannot be said what something is."""
    blocks: list[Block] = []
    prose: list[str] = []
    block: Block | None = None
    before, last = "", ""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if block and line == "```":
            blocks.append(block)
            block = None
            line = ""
        elif block:
            block.text += line + "\n"
            continue
        elif line.lstrip().startswith("```"):
            kind = line.removeprefix("```")
            if not re.fullmatch("[a-z]+", kind):
                raise Wrong(f"line {number}: a block of no kind: {line}")
            note = re.fullmatch("<!-- (.*) -->", before)
            block = Block(number, kind, note[1] if note else "", "")
            line = ""
        elif re.match(r"( {4}|\t)", line) and not before.strip() and not re.match(r"- |\d+\. ", last):
            raise Wrong(f"line {number}: a block of no kind, by its indentation: {line}")
        prose.append(line)
        before = line
        if line and not line.startswith(" "):
            last = line
    if block:
        raise Wrong(f"line {block.line}: a block without an end")
    return Document(path, blocks, list(spans(prose)))


def spans(prose: list[str]):
    # A cell of a table is told from the next by its line, a paragraph by the empty one after it.
    text = "\n".join(f"\n{line}\n" if line.startswith("|") else line for line in prose)
    for paragraph in re.split(r"\n\s*\n", text):
        found = [" ".join(span[2].replace("\\|", "|").split()) for span in SPAN.finditer(paragraph)]
        if "`" in SPAN.sub("", paragraph):
            raise Wrong(f"a backtick too many: {paragraph}")
        if found:
            yield found
