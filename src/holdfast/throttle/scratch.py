"""Temporary folders that are called like groups, so that whoever finds one later knows whether it is still needed."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from holdfast.throttle.naming import PREFIX, Owner, owner_of


def make(of: str, place: str | None = None) -> str:
    """A new folder of this process, which nobody else may look into. The guard removes it when we have died."""
    return tempfile.mkdtemp(prefix=Owner.here().name(of) + "-", dir=place)


def places() -> list[str]:
    """Where such folders are."""
    return list(dict.fromkeys([tempfile.gettempdir(), "/tmp"]))  # noqa: S108 - looked through, by name and owner


def clear_dead() -> None:
    """Remove those whose makers have died, as far as they are ours."""
    for place in places():
        for folder in Path(place).glob(f"{PREFIX}-*"):
            owner = owner_of(folder.name)
            with suppress(OSError):
                if owner is not None and owner.known_dead and folder.lstat().st_uid == os.geteuid():
                    shutil.rmtree(folder)
