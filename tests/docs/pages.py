"""The blocks of a page: what it shows as code, and what stands in the comment above it for the one who runs it.

A fence may be preceded by `<!-- test: … -->`: `skip` (not run), `exit N`, `kill after TEXT`, `ctrl-c after TEXT`
or `handle = agent(args)`. A block after a line that names a file ("`research.py`:", "`index.sh`:") is that file. Where
a page says ADDRESS, a database of the tests is meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

ADDRESS = "postgresql://me@db.example/agents"

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_DIRECTIVE = re.compile(r"<!-- test: (.*?) -->\s*$")
_FILE = re.compile(r"`([\w.-]+\.(?:py|sh|pl))`[^`\n]*:\s*$")
_FILES = {"python": ".py", "sh": ".sh", "perl": ".pl"}


@dataclass(frozen=True, slots=True)
class Block:
    """A fence: its language, its text, the file that it is, and its directive."""

    line: int
    language: str
    text: str
    file: str | None
    directive: str


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        before = text[: found.start()].rstrip()
        directive = _DIRECTIVE.search(before)
        if directive:
            before = before[: directive.start()].rstrip()
        file = _FILE.search(before)
        yield Block(
            line=text.count("\n", 0, found.start()) + 1,
            language=found[1],
            text=found[2],
            file=file[1] if file and file[1].endswith(_FILES.get(found[1], "/")) else None,
            directive=directive[1] if directive else "",
        )


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def has_code(page: Path) -> bool:
    return any(block.language == "python" or is_shell(block) for block in blocks(page))


def is_shell(block: Block) -> bool:
    return block.language == "console" or (block.language == "" and block.text.startswith("holdfast "))
