"""What a run waits for."""

from __future__ import annotations

import pytest

from holdfast.errors import UsageError
from holdfast.rules import waits


def test_a_run_that_waits_for_several_signals_is_woken_by_each_of_them() -> None:
    both = waits.any_of(["go", "stop", "go"])
    assert waits.names(both) == ["go", "stop"]
    assert waits.waits_for(both, "go") and waits.waits_for(both, "stop")
    assert not waits.waits_for(both, "o")
    assert waits.names(None) == [] and not waits.waits_for(None, "go")


@pytest.mark.parametrize("name", ["", "two\nlines", "holdfast:child"])
def test_a_name_that_no_signal_of_a_users_can_have_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        waits.check_signal(name)


def test_any_other_name_is_fine() -> None:
    assert waits.check_signal("go on, then") == "go on, then"


def test_the_end_of_a_child_has_a_signal_of_its_own() -> None:
    signal = waits.of_child("r.read-1")
    assert waits.child_of(signal) == "r.read-1"
    assert waits.child_of("go") is None
    with pytest.raises(UsageError):
        waits.check_signal(signal)
