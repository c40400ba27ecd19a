"""When schedules are due: DST in three zones, leap days, errors that name the field, and the past in bounded time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import UsageError
from holdfast.model import After, Cron, Interval, Trigger
from holdfast.rules import timing
from holdfast.rules.timing import SECOND_US

DAY_US = 86_400 * SECOND_US
LORD_HOWE = "Australia/Lord_Howe"


def us(text: str) -> int:
    """An instant with its offset, as `2026-03-29 03:00+02:00`."""
    return (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def times(expression: str, zone: str, since: str, count: int) -> list[str]:
    """The next due times, as clocks in the zone show them."""
    where, at_us, found = ZoneInfo(zone), us(since), []
    for _ in range(count):
        next_us = timing.next_due(Cron(expression=expression, zone=zone), where, at_us)
        assert next_us is not None
        assert next_us > at_us
        at_us = next_us
        found.append(datetime.fromtimestamp(at_us / SECOND_US, where).isoformat(" ", "minutes"))
    return found


# What fixed hours do in the gap and in the hour that comes twice: once each, as Debian's cron.
FIXED = [
    # spring: the hour of 02:00 is not there
    ("30 2 * * *", "Europe/Berlin", "2026-03-28 12:00+01:00", ["2026-03-29 03:00+02:00", "2026-03-30 02:30+02:00"]),
    ("0 3 * * *", "Europe/Berlin", "2026-03-28 12:00+01:00", ["2026-03-29 03:00+02:00", "2026-03-30 03:00+02:00"]),
    ("0,30 2 * * *", "Europe/Berlin", "2026-03-28 12:00+01:00", ["2026-03-29 03:00+02:00", "2026-03-30 02:00+02:00"]),
    ("30 2 * * *", "America/New_York", "2026-03-07 12:00-05:00", ["2026-03-08 03:00-04:00", "2026-03-09 02:30-04:00"]),
    # half an hour is missing there: 02:00 to 02:30
    ("15 2 * * *", LORD_HOWE, "2026-10-03 12:00+10:30", ["2026-10-04 02:30+11:00", "2026-10-05 02:15+11:00"]),
    ("45 2 * * *", LORD_HOWE, "2026-10-03 12:00+10:30", ["2026-10-04 02:45+11:00", "2026-10-05 02:45+11:00"]),
    # autumn: it comes twice, and the first of the two counts
    ("30 2 * * *", "Europe/Berlin", "2026-10-24 12:00+02:00", ["2026-10-25 02:30+02:00", "2026-10-26 02:30+01:00"]),
    ("30 1 * * *", "America/New_York", "2026-10-31 12:00-04:00", ["2026-11-01 01:30-04:00", "2026-11-02 01:30-05:00"]),
    ("45 1 * * *", LORD_HOWE, "2026-04-04 12:00+11:00", ["2026-04-05 01:45+11:00", "2026-04-06 01:45+10:30"]),
]  # fmt: skip

# What wildcards do: they follow the passing of time.
WILD = [
    ("*/30 * * * *", "Europe/Berlin", "2026-03-29 01:20+01:00",
     ["2026-03-29 01:30+01:00", "2026-03-29 03:00+02:00", "2026-03-29 03:30+02:00"]),
    ("*/30 * * * *", "Europe/Berlin", "2026-10-25 01:45+02:00",
     ["2026-10-25 02:00+02:00", "2026-10-25 02:30+02:00", "2026-10-25 02:00+01:00", "2026-10-25 02:30+01:00",
      "2026-10-25 03:00+01:00"]),
    ("0 * * * *", "America/New_York", "2026-11-01 00:30-04:00",
     ["2026-11-01 01:00-04:00", "2026-11-01 01:00-05:00", "2026-11-01 02:00-05:00"]),
    ("*/15 2 * * *", "America/New_York", "2026-03-08 00:30-05:00",       # the hour it names is not there that day
     ["2026-03-09 02:00-04:00", "2026-03-09 02:15-04:00"]),
    ("*/30 * * * *", LORD_HOWE, "2026-10-04 01:20+10:30",
     ["2026-10-04 01:30+10:30", "2026-10-04 02:30+11:00", "2026-10-04 03:00+11:00"]),
    ("*/30 * * * *", LORD_HOWE, "2026-04-05 01:20+11:00",
     ["2026-04-05 01:30+11:00", "2026-04-05 01:30+10:30", "2026-04-05 02:00+10:30"]),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "zone", "since", "expected"), FIXED + WILD)
def test_daylight_saving_follows_the_table(
    expression: str, zone: str, since: str, expected: list[str]
) -> None:
    assert times(expression, zone, since, len(expected)) == expected


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        ("2026-10-25 02:40+02:00", "2026-10-26 02:30+01:00"),  # after the first of the two
        (
            "2026-10-25 02:10+01:00",
            "2026-10-26 02:30+01:00",
        ),  # between them, where cronsim begins with the past
        ("2026-10-25 02:40+01:00", "2026-10-26 02:30+01:00"),  # after both
    ],
)
def test_a_look_in_the_hour_that_comes_twice_never_goes_back(since: str, expected: str) -> None:
    assert times("30 2 * * *", "Europe/Berlin", since, 1) == [expected]


def test_leap_days_come_every_four_years() -> None:
    found = times("0 0 29 2 *", "UTC", "2026-01-01 00:00+00:00", 3)
    assert found == ["2028-02-29 00:00+00:00", "2032-02-29 00:00+00:00", "2036-02-29 00:00+00:00"]


def test_the_last_day_of_february_is_that_of_its_year() -> None:
    found = times("0 12 L 2 *", "UTC", "2027-01-01 00:00+00:00", 2)
    assert found == ["2027-02-28 12:00+00:00", "2028-02-29 12:00+00:00"]


def test_what_has_no_time_left_in_this_century_is_never_due() -> None:
    new_year = us("2099-06-01 00:00+00:00")
    assert timing.next_due(Cron(expression="0 0 29 2 *"), UTC, new_year) is None
    assert (
        timing.next_due(Interval(every_us=365 * DAY_US, anchor_us=new_year), UTC, new_year + DAY_US) is None
    )


@given(
    st.integers(0, 4_000_000_000), st.sampled_from(["30 2 * * *", "*/20 * * * *", "0 1,2,3 * * *", "5 4 * * SUN"]),
    st.sampled_from(["Europe/Berlin", "America/New_York", LORD_HOWE, "UTC"]),
)  # fmt: skip
def test_time_only_goes_forward(at_s: int, expression: str, zone: str) -> None:
    at_us = at_s * SECOND_US
    for _ in range(4):
        next_us = timing.next_due(Cron(expression=expression, zone=zone), ZoneInfo(zone), at_us)
        assert next_us is not None
        assert next_us > at_us
        at_us = next_us


# --- intervals, the past, jitter ----------------------------------------------------------------------------


def test_an_interval_counts_from_its_anchor() -> None:
    trigger = Interval(every_us=10, anchor_us=100)
    assert [timing.next_due(trigger, UTC, at) for at in (0, 100, 109, 110, 115)] == [110, 110, 110, 120, 120]


@pytest.mark.parametrize("most", [1, 3, 100])
@pytest.mark.parametrize(
    "trigger",
    [
        Interval(every_us=7 * SECOND_US, anchor_us=0),
        Cron(expression="*/3 * * * *"),
        Cron(expression="0 0 1 * *"),
    ],
)
def test_the_newest_due_times_are_those_of_walking_through_all(trigger: Cron | Interval, most: int) -> None:
    first_us = timing.next_due(trigger, UTC, us("2026-01-01 00:00+00:00"))
    assert first_us is not None
    until_us = first_us + (400 * DAY_US if trigger == Cron(expression="0 0 1 * *") else DAY_US // 8)
    every: list[int] = []
    at_us: int | None = first_us
    while at_us is not None and at_us <= until_us:
        every.append(at_us)
        at_us = timing.next_due(trigger, UTC, at_us)
    found = timing.dues(trigger, UTC, first_us, until_us, most)
    assert list(found.times_us) == every[-most:]
    assert found.earlier == (len(every) > most)


def test_ten_years_of_seconds_are_looked_at_in_bounded_time() -> None:
    until_us = us("2036-01-01 00:00+00:00")
    found = timing.dues(Cron(expression="* * * * * *"), UTC, us("2026-01-01 00:00+00:00"), until_us, 5)
    assert found.times_us == tuple(until_us - n * SECOND_US for n in range(4, -1, -1))
    assert found.earlier


def test_a_window_that_begins_in_the_hour_that_comes_twice_holds_nothing_before_it() -> None:
    since_us, until_us = us("2026-10-25 02:10+01:00"), us("2026-10-26 12:00+01:00")
    trigger = Cron(expression="30 2 * * *", zone="Europe/Berlin")
    found = timing.dues(trigger, ZoneInfo("Europe/Berlin"), since_us, until_us, 5)
    assert found.times_us == (us("2026-10-26 02:30+01:00"),)


def test_a_window_without_due_times_is_empty() -> None:
    assert timing.dues(Cron(expression="0 0 */31 * SUN#5"), UTC, 0, DAY_US, 5) == timing.Dues((), False)
    assert timing.dues(Interval(every_us=10), UTC, 100, 99, 5) == timing.Dues((), False)


@given(st.text(max_size=20), st.integers(0, 10**15), st.integers(0, 10**10))
def test_jitter_is_the_same_for_everybody_and_below_its_bound(name: str, due_us: int, most_us: int) -> None:
    found = timing.jitter_us(name, due_us, most_us)
    assert found == timing.jitter_us(name, due_us, most_us)
    assert 0 <= found < max(1, most_us)


def test_jitter_spreads_schedules_and_fires() -> None:
    assert len({timing.jitter_us(f"s{n}", 0, 10**6) for n in range(100)}) > 90
    assert len({timing.jitter_us("s", n, 10**6) for n in range(100)}) > 90


def test_a_stamp_is_short_and_exact() -> None:
    assert timing.stamp(us("2026-11-22 02:30+00:00")) == "20261122T023000Z"
    assert timing.stamp(us("2026-11-22 02:30+00:00") + 250_000) == "20261122T023000.25Z"


# --- errors -------------------------------------------------------------------------------------------------


def test_good_expressions_are_normalised() -> None:
    assert timing.check_cron("  30  2 * *  mon-fri ") == "30 2 * * mon-fri"
    assert timing.check_cron("*/10 * * * * *") == "*/10 * * * * *"
    assert timing.check_cron("0 9 LW * *") == "0 9 LW * *"


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("61 * * * *", "'61' is no minute: 0-59"),
        ("* 24 * * *", "'24' is no hour: 0-23"),
        ("* * 32 * *", "'32' is no day of the month: 1-31"),
        ("* * * 13 *", "'13' is no month: 1-12"),
        ("* * * * 8", "'8' is no day of the week: 0-7"),
        ("* * * * MOND-FRI", "'MOND-FRI' is no day of the week (did you mean MON?)"),
        ("* * * JUNE *", "'JUNE' is no month (did you mean JUN?)"),
        ("60 * * * * *", "'60' is no second: 0-59"),
        ("*/0 * * * *", "'*/0' is no minute"),
        ("* * * * MON#1/2", "is no day of the week"),
        ("0 2 * *", "has 4 fields: it takes minute, hour"),
        ("", "has 0 fields"),
        ("@daily", "write '0 0 * * *'"),
        ("0 0 30 2 *", "never comes"),
        ("0 0 31 4,6 *", "never comes"),
        ("0 0 */31 * SUN#5", "never comes"),
    ],
)
def test_a_bad_expression_names_its_field_with_an_example(expression: str, said: str) -> None:
    with pytest.raises(UsageError) as told:
        timing.check_cron(expression)
    assert said in str(told.value)


def test_a_stored_expression_that_the_library_no_longer_reads_is_named() -> None:
    with pytest.raises(UsageError, match="is not understood"):
        timing.next_due(Cron(expression="61 * * * *"), UTC, 0)


def test_an_interval_below_a_second_is_refused() -> None:
    assert timing.check_every(SECOND_US) == SECOND_US
    with pytest.raises(UsageError, match="too often"):
        timing.check_every(SECOND_US - 1)


@pytest.mark.parametrize(
    ("trigger", "most_us", "fits"),
    [
        (Interval(every_us=10 * SECOND_US), 9 * SECOND_US, True),
        (Interval(every_us=10 * SECOND_US), 10 * SECOND_US, False),
        (Cron(expression="0 * * * *"), 3_599 * SECOND_US, True),
        (Cron(expression="0 8,9 * * *"), 3_601 * SECOND_US, False),
        (Cron(expression="0 0 29 2 *"), 30 * DAY_US, True),
        (After(name="collect"), 30 * DAY_US, False),
        (After(name="collect"), 0, True),
    ],
)
def test_a_jitter_is_shorter_than_the_time_between_two_fires(
    trigger: Trigger, most_us: int, fits: bool
) -> None:
    if fits:
        timing.check_jitter(trigger, UTC, most_us, us("2026-01-01 00:00+00:00"))
    else:
        with pytest.raises(UsageError, match="jitter"):
            timing.check_jitter(trigger, UTC, most_us, us("2026-01-01 00:00+00:00"))
