"""Migrations: numbered `.sql` files, applied in order, each whole or not at all.

The schema is the sum of its migrations; a released file never changes, which its hash proves.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

from holdfast.errors import StoreCorrupt, StoreRefused

_FILE = re.compile(r"(\d{4})_(\w+)\.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered step of the schema."""

    version: int
    name: str
    sql: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a store is: the version of its schema (0: it has none yet), and the newest that this holdfast knows."""

    version: int
    newest: int

    @property
    def is_newest(self) -> bool:
        """Whether nothing is left to apply."""
        return self.version == self.newest


def migrations(package: str) -> list[Migration]:
    """All migrations of `package` in order. Raises ValueError when the numbers have a gap."""
    found: list[Migration] = []
    for file in sorted(resources.files(package).iterdir(), key=lambda each: each.name):
        if named := _FILE.fullmatch(file.name):
            text = file.read_text("utf-8")
            found.append(Migration(int(named[1]), named[2], text, hashlib.sha256(text.encode()).hexdigest()))
    if [each.version for each in found] != list(range(1, len(found) + 1)):
        raise ValueError(f"the migrations of {package} are not numbered without gaps")
    return found


def pending(known: Sequence[Migration], applied: Mapping[int, str], where: str) -> list[Migration]:
    """What is left to apply; `applied` gives the hash of each version the store has.

    Raises StoreRefused when the store is newer than `known`, StoreCorrupt when an applied migration was another one.
    """
    newest = max(applied, default=0)
    if newest > len(known):
        raise StoreRefused(
            f"{where} was made by a newer holdfast (its schema is version {newest}, this one knows {len(known)}); "
            "upgrade holdfast, or open it with the one that made it"
        )
    for each in known[:newest]:
        if applied.get(each.version) != each.sha256:
            raise StoreCorrupt(
                f"{where}: migration {each.version:04}_{each.name} is not the one that was applied to this store; "
                "install the released holdfast again"
            )
    return list(known[newest:])
