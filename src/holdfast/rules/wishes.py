"""What a person may ask of the one who executes a run, and when it cannot be."""

from __future__ import annotations

from holdfast.errors import InvalidTransition
from holdfast.model import Run, RunState, Wish

NOT_ALONE = (
    "its code runs inside its worker, beside other runs. `holdfast pause` parks it at its next safe point, `holdfast "
    "cancel` ends it; with isolation='process' it has a process of its own"
)
"""Why, and what can be done instead."""


def check(run: Run, wish: Wish) -> None:
    """Raise InvalidTransition for what nobody can do any more, or yet."""
    if run.state.final:
        raise InvalidTransition(
            f"run {run.id} is {run.state}: it uses nothing any more; to run it again: holdfast retry {run.id}"
        )
    if wish is Wish.KILL and run.state is not RunState.RUNNING:
        reason = f" ({run.reason})" if run.reason is not None else ""
        raise InvalidTransition(
            f"run {run.id} is {run.state}{reason}: no attempt of it runs that could be killed; "
            f"to end the run itself: holdfast cancel {run.id}"
        )
