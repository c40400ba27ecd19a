"""Hung or working: each sign can be, and each needs what it says."""

from __future__ import annotations

import pytest

from holdfast.rules.clocks import BUSY_PERCENT, SILENT_US, Clocks, Sign, sign


def clocks(silent_us: int, lease_left_us: int | None = 20_000_000) -> Clocks:
    return Clocks(lease_left_us=lease_left_us, silent_us=silent_us, step_us=None, deadline_left_us=None)


@pytest.mark.parametrize(
    ("silent_us", "lease_left_us", "cpu_percent", "said"),
    [
        (0, 1, None, Sign.WORKING),
        (SILENT_US - 1, None, 0.0, Sign.WORKING),
        (SILENT_US, 1, BUSY_PERCENT, Sign.BUSY),
        (SILENT_US, 1, BUSY_PERCENT - 0.1, Sign.IDLE),
        (SILENT_US, None, None, Sign.SILENT),
        (0, 0, 100.0, Sign.LOST),
        (SILENT_US, -1, None, Sign.LOST),
    ],
)
def test_what_the_clocks_say_together(
    silent_us: int, lease_left_us: int | None, cpu_percent: float | None, said: Sign
) -> None:
    assert sign(clocks(silent_us, lease_left_us), cpu_percent) is said


def test_every_sign_can_be_said() -> None:
    said = {
        sign(clocks(silent_us, left_us), cpu)
        for silent_us in (0, SILENT_US)
        for left_us in (None, -1, 1)
        for cpu in (None, 0.0, 100.0)
    }
    assert said == set(Sign)
