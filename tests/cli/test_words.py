"""Words for figures."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from holdfast.cli import words

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


@pytest.mark.parametrize(
    ("length_s", "text"),
    [
        (-1, "0s"),
        (0.04, "40ms"),
        (0.44, "0.4s"),
        (12.4, "12s"),
        (59.7, "1m 00s"),
        (185, "3m 05s"),
        (7805, "2h 10m"),
        (356400, "4d 3h"),
    ],
)
def test_a_duration_has_at_most_two_units(length_s: float, text: str) -> None:
    assert words.duration(length_s) == text


@pytest.mark.parametrize(
    ("ago_s", "text"), [(-5, "0s"), (5, "5s"), (200, "3m"), (7300, "2h"), (300_000, "3d")]
)
def test_an_age_is_its_largest_unit(ago_s: int, text: str) -> None:
    assert words.age(NOW - timedelta(seconds=ago_s), NOW) == text


@pytest.mark.parametrize(
    ("low_s", "high_s", "text"),
    [(None, None, ""), (0, 0, "about to end"), (20, 45, "20s to 45s left"), (119, 121, "about 2m left")],
)
def test_an_eta_is_a_range(low_s: float | None, high_s: float | None, text: str) -> None:
    assert words.eta(low_s, high_s) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (812, "812 B"), (3140, "3.1 KB"), (64_000_000, "64 MB")]
)
def test_sizes(count: int, text: str) -> None:
    assert words.size(count) == text


def test_times_are_rfc_3339_in_utc() -> None:
    assert words.rfc3339(NOW) == "2026-01-02T03:04:05.000678Z"


def test_one_line_is_one_line() -> None:
    assert words.one_line("a\nb") == "a"
    assert words.one_line("") == ""
    assert words.one_line("x" * 200, 10) == "x" * 9 + "…"
