"""What the folders of groups are called: so that whoever finds one later knows whose it was, and whether he lives."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from typing import Final

from holdfast.throttle.processes import boot, look_at, namespace

PREFIX: Final = "hf"
MOST_LETTERS: Final = 64
"""Of the run's own part: a file name has 255 in all, and a person has to read it."""

_NAME = re.compile(rf"{PREFIX}-([0-9a-zA-Z]{{8}})-(\d+)-(\d+)-(\d+)-(.+)")


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that made a group. Process numbers are given again, so its start and the boot belong to it; and they
    mean something in one namespace only."""

    boot: str
    namespace: int
    pid: int
    started: int

    @classmethod
    def here(cls) -> Owner:
        """This process."""
        pid = os.getpid()
        own = look_at(pid)
        return cls(boot(), namespace(), pid, own.started if own else 0)

    @property
    def prefix(self) -> str:
        """What the names of all its folders begin with."""
        return f"{PREFIX}-{self.boot}-{self.namespace}-{self.pid}-{self.started}-"

    def name(self, of: str) -> str:
        """The folder's name of a group called `of`."""
        return self.prefix + _safe(of)

    @property
    def known_dead(self) -> bool:
        """Whether it is certain that it has ended. Of another namespace nothing is certain."""
        here = Owner.here()
        if self.boot != here.boot:
            return True
        if self.namespace != here.namespace:
            return False
        one = look_at(self.pid)
        return one is None or one.started != self.started or one.ended


def owner_of(folder: str) -> Owner | None:
    """Who made the folder of this name; None when it is none of ours."""
    found = _NAME.fullmatch(folder)
    return Owner(found[1], int(found[2]), int(found[3]), int(found[4])) if found else None


def _safe(name: str) -> str:
    """Run ids may hold what a file name may not."""
    safe = re.sub(r"[^A-Za-z0-9_.]", "_", name)[:MOST_LETTERS]
    if safe == name:
        return safe
    return f"{safe}.{hashlib.sha256(name.encode()).hexdigest()[:8]}"
