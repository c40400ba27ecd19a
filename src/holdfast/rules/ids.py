"""What a run may be called, what a child is called that nobody named, and what a run's folder is called."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from holdfast.errors import UsageError

ID_LONGEST: Final = 200
"""Characters of an id: it is shown in every list, and typed."""
FOLDER_LONGEST: Final = 40
"""Characters of an id that its folder is told by: enough for people, and paths stay short."""
_FOLDER: Final = re.compile(r"([1-9][0-9]{0,18})\.[a-z0-9-]+\.[0-9a-f]{16}")


def checked_id(run_id: str) -> str:
    """The id, if people can type it and a line can hold it. Raises UsageError."""
    if not run_id or len(run_id) > ID_LONGEST:
        raise UsageError(f"a run's id has 1 to {ID_LONGEST} characters, this one has {len(run_id)}")
    if not run_id.isprintable() or any(character.isspace() for character in run_id):
        raise UsageError(f"a run's id holds no spaces and no control characters, not {run_id!r}")
    if run_id.startswith("-"):
        raise UsageError(f"a run's id cannot begin with a dash (the shell reads it as an option): {run_id!r}")
    return run_id


def child_id(parent_id: str, agent: str, digest: str) -> str:
    """The id of a child: its parent's, its agent's, and what tells it from its siblings. Deep down in a tree the
    parent's is left out, and more of the digest says whose it is."""
    together = f"{parent_id}.{agent}-{digest[:10]}"
    return together if len(together) <= ID_LONGEST else f"{agent}-{digest}"


def folder_name(key: int, run_id: str, created_at_us: int) -> str:
    """What the folder of a run is called: its key, its id for people, and a digest of what it is.

    ids come from anybody, so only small ASCII letters, digits and dashes of them are left: no part of a path, and one
    file name on every file system. A key is used once in a store; the digest tells runs of one key in two stores apart.
    """
    plain = re.sub(r"[^a-z0-9]+", "-", run_id.lower())[:FOLDER_LONGEST].strip("-") or "run"
    told = f"{key} {created_at_us} {run_id}".encode("utf-8", "surrogatepass")
    return f"{key}.{plain}.{hashlib.sha256(told).hexdigest()[:16]}"


def key_of_folder(name: str) -> int | None:
    """The key of the run that a folder of this name is of; None for what is called otherwise."""
    found = _FOLDER.fullmatch(name)
    return None if found is None else int(found[1])
