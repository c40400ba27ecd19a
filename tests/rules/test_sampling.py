"""Which samples are worth a write, and how long the newest one speaks for its run."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from holdfast.model import TreeSample
from holdfast.rules.sampling import AGAIN_US, LEAST_US, MOST_US, SPEAKS_US, history_due, speaks, worth_storing

SECOND_US = 1_000_000
MIB = 1024 * 1024
STORED = TreeSample(
    at_us=100 * SECOND_US, span_us=SECOND_US, cpu_percent=40.0, memory_bytes=200 * MIB, processes=3
)


def test_the_first_sample_of_a_run_is_worth_storing() -> None:
    assert worth_storing(None, STORED)


@pytest.mark.parametrize(
    ("changes", "worth"),
    [
        ({}, False),
        ({"cpu_percent": 40.9}, False),
        ({"cpu_percent": 41.0}, True),
        ({"cpu_percent": 39.0}, True),
        ({"memory_bytes": 203 * MIB}, False),
        ({"memory_bytes": 204 * MIB}, True),
        ({"memory_bytes": 196 * MIB}, True),
        ({"processes": 4}, True),
        ({"oom_kills": 1}, True),
        ({"workspace_bytes": MIB - 1}, False),
        ({"workspace_bytes": MIB}, True),
        ({"at_us": STORED.at_us + AGAIN_US - 1}, False),
        ({"at_us": STORED.at_us + AGAIN_US}, True),
    ],
)
def test_what_a_person_would_see_is_worth_storing(changes: dict[str, Any], worth: bool) -> None:
    assert worth_storing(STORED, replace(STORED, **changes)) is worth


def test_an_idle_run_is_not_written_for_a_tenth_of_a_percent() -> None:
    idle = replace(STORED, cpu_percent=0.1)
    assert not worth_storing(idle, replace(idle, cpu_percent=0.9))


@pytest.mark.parametrize(
    ("age_us", "least_us"),
    [(0, LEAST_US), (60 * SECOND_US, LEAST_US), (3200 * SECOND_US, 100 * SECOND_US), (10**12, MOST_US)],
)
def test_a_long_history_is_stored_rarely_but_not_never(age_us: int, least_us: int) -> None:
    now_us = 10**13
    assert history_due(now_us - age_us, now_us - least_us, now_us)
    assert not history_due(now_us - age_us, now_us - least_us + 1, now_us)


def test_a_sample_speaks_for_its_run_through_two_missed_rounds() -> None:
    assert speaks(2 * AGAIN_US)
    assert speaks(SPEAKS_US - 1)
    assert not speaks(SPEAKS_US)
