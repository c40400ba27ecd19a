"""What a run waits for: the name of a signal, or several of them that its branches wait for at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from holdfast.errors import UsageError

OURS: Final = "holdfast:"
"""Signals that begin so are sent by holdfast itself: a child that ended, an approval that was given."""
_CHILD: Final = f"{OURS}child/"
_BETWEEN: Final = "\n"


def any_of(names: Iterable[str]) -> str:
    """What a run waits for that waits for any of these signals."""
    return _BETWEEN.join(sorted(set(names)))


def waits_for(wait_name: str | None, signal: str) -> bool:
    """Whether a run that waits so is woken by this signal."""
    return signal in names(wait_name)


def names(wait_name: str | None) -> list[str]:
    """The signals that a run waits for."""
    return [] if wait_name is None else wait_name.split(_BETWEEN)


def of_child(child_id: str) -> str:
    """The signal that tells a parent of the end of this child."""
    return _CHILD + child_id


def child_of(signal: str) -> str | None:
    """The child whose end the signal tells of; None for any other signal."""
    return signal.removeprefix(_CHILD) if signal.startswith(_CHILD) else None


def check_signal(name: str) -> str:
    """Return the name of a signal of the user's, or raise UsageError when it cannot be one."""
    if not name or _BETWEEN in name:
        raise UsageError(f"a signal needs a name of one line, not {name!r}")
    if name.startswith(OURS):
        raise UsageError(
            f"the signal {name!r} begins with {OURS!r}, as those do that holdfast sends: rename it"
        )
    return name
