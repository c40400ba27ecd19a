"""What a run may be called, and what a child is called that nobody named."""

from __future__ import annotations

from typing import Final

from holdfast.errors import UsageError

ID_LONGEST: Final = 200
"""Characters of an id: it is shown in every list, and typed."""


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
