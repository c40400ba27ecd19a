"""The id under which a part keeps what it keeps."""

from __future__ import annotations

from typing import Final

from holdfast.errors import UsageError

ID_LONGEST: Final = 200


def checked(owner: object) -> str:
    """The id, if a line can hold it. Ids of the three parts are apart: a state and a progress may share one."""
    if not isinstance(owner, str) or not 0 < len(owner) <= ID_LONGEST or not owner.isprintable():
        raise UsageError(f"the id of a part is text of 1 to {ID_LONGEST} printable characters, not {owner!r}")
    return owner
