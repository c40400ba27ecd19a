"""Named SQL statements, read from `.sql` files beside the code that runs them.

A statement begins at a line `-- name: what_it_does` and ends at the next one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType

_NAME = re.compile(r"^-- name: (\w+)[ \t]*$", re.MULTILINE)


def statements(package: str, folder: str = "sql") -> Mapping[str, str]:
    """The statements of all files in this folder of `package`, by the names of file and statement: `claim.due`."""
    found: dict[str, str] = {}
    for file in resources.files(package).joinpath(folder).iterdir():
        if file.name.endswith(".sql"):
            stem = file.name.removesuffix(".sql")
            found |= {f"{stem}.{name}": text for name, text in parse(file.read_text("utf-8")).items()}
    return MappingProxyType(found)


def parse(text: str) -> Mapping[str, str]:
    """Split `text` into its named statements, comments and final semicolons cut off.

    Raises ValueError when two have the same name.
    """
    parts = _NAME.split(text)
    found: dict[str, str] = {}
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        if name in found:
            raise ValueError(f"two SQL statements are named {name!r}")
        lines = (line.split(" -- ")[0].rstrip() for line in body.splitlines())
        found[name] = "\n".join(line for line in lines if line and not line.startswith("--")).rstrip(";")
    return MappingProxyType(found)
