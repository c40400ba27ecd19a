"""Which question of a run an answer is meant for, and who gives it."""

from __future__ import annotations

import getpass
from collections.abc import Sequence

from holdfast.client.view import ApprovalView
from holdfast.errors import ApprovalNotFound, Refused
from holdfast.model import ApprovalStatus


def meant(run_id: str, asked: Sequence[ApprovalView], n: int | None) -> ApprovalView:
    """The question that an answer is for: number `n`, else the only open one; when none is open, the last one, which
    then says what became of it. Raises ApprovalNotFound, and Refused when several are open."""
    if n is not None:
        found = next((one for one in asked if one.n == n), None)
        if found is None:
            numbers = ", ".join(str(one.n) for one in asked) or "none"
            raise ApprovalNotFound(f"run {run_id} asked no question {n}; it asked: {numbers}")
        return found
    if not asked:
        raise ApprovalNotFound(
            f"run {run_id} has asked nothing yet; `holdfast show {run_id}` says what it does"
        )
    still_open = [one for one in asked if one.status is ApprovalStatus.OPEN]
    if len(still_open) > 1:
        listed = "; ".join(f"{one.n}: {one.question[:60]!r}" for one in still_open)
        raise Refused(f"run {run_id} asks {len(still_open)} questions ({listed}): say which, --question N")
    return still_open[0] if still_open else asked[-1]


def whoever() -> str:
    """The person at this machine, by the name of their account."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # an account without a name, as in some containers
        return "unknown"
