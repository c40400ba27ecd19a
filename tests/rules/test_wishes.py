"""What may be asked of the one who executes a run."""

from __future__ import annotations

import pytest

from holdfast.errors import InvalidTransition
from holdfast.model import FINAL_STATES, Reason, RunState, Wish
from holdfast.rules.wishes import check
from tests.rules.runs import a_run


@pytest.mark.parametrize("wish", Wish)
def test_a_run_that_runs_may_be_throttled_and_killed(wish: Wish) -> None:
    check(a_run(RunState.RUNNING), wish)


@pytest.mark.parametrize("state", [RunState.QUEUED, RunState.WAITING])
def test_a_run_that_nobody_executes_may_be_throttled_in_advance_but_not_killed(state: RunState) -> None:
    run = a_run(state)
    check(run, Wish.THROTTLE)
    with pytest.raises(InvalidTransition, match=rf"is {state}: no attempt of it runs.*holdfast cancel"):
        check(run, Wish.KILL)
    with pytest.raises(InvalidTransition, match=rf"is {state} \(sleep\)"):
        check(a_run(state, Reason.SLEEP), Wish.KILL)


@pytest.mark.parametrize("wish", Wish)
@pytest.mark.parametrize("state", sorted(FINAL_STATES))
def test_nothing_can_be_asked_of_a_run_that_has_ended(state: RunState, wish: Wish) -> None:
    with pytest.raises(InvalidTransition, match=f"is {state}: it uses nothing any more.*holdfast retry"):
        check(a_run(state), wish)
