"""The ladder: every rung can fire, nothing flaps, and all of it is taken back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.model import Level, Metric, TreeSample
from holdfast.rules import ladder as the_ladder
from holdfast.rules.ladder import (
    GRACE_US,
    LEAVE_US,
    PATIENCE_US,
    SAMPLES_TO_ENTER,
    TOP,
    Calm,
    Ladder,
    Look,
    Move,
    Rung,
    Stand,
    climb,
)
from holdfast.rules.limits import Limits
from holdfast.rules.pressure import Thresholds

SECOND = 1_000_000
EVERYTHING = Ladder(
    bounds={metric: (50.0, 100.0) for metric in Metric if metric is not Metric.DISK_FREE}
    | {Metric.DISK_FREE: (100.0, 50.0)},
    walls={},
)
GOOD = dict.fromkeys(Metric, 1.0) | {Metric.DISK_FREE: 1_000.0}
BAD = dict.fromkeys(Metric, 200.0) | {Metric.DISK_FREE: 10.0}
UNEASY = dict.fromkeys(Metric, 60.0) | {Metric.DISK_FREE: 90.0}


def only(metric: Metric, figures: Mapping[Metric, float] = BAD) -> dict[Metric, float]:
    return {**GOOD, metric: figures[metric]}


def looks(
    ladder: Ladder, samples: Iterable[Mapping[Metric, float]], stand: Stand | None = None, from_s: int = 0
) -> list[Look]:
    """One sample a second."""
    stand = stand or Stand.at_the_foot()
    seen = []
    for at_s, figures in enumerate(samples, start=from_s):
        seen.append(climb(ladder, stand, figures, at_s * SECOND))
        stand = seen[-1].stand
    return seen


def moves(seen: list[Look]) -> list[tuple[int, str]]:
    return [
        (second, f"{'+' if move.taken else '-'}{move.rung.name}")
        for second, look in enumerate(seen)
        for move in look.moves
    ]


def test_the_whole_ladder_one_rung_after_the_other():
    seen = looks(EVERYTHING, [only(Metric.MEMORY)] * 60)
    assert moves(seen) == [
        (2, "+EVENT"),
        (2, "+HINT"),
        (7, "+WEIGHT"),
        (12, "+QUOTA"),
        (17, "+FREEZE"),
        (22, "+PARK"),
        (52, "+KILL"),
    ]


def test_a_warning_goes_no_higher_than_a_smaller_weight():
    seen = looks(EVERYTHING, [only(Metric.MEMORY, UNEASY)] * 100)
    assert moves(seen) == [(2, "+EVENT"), (2, "+HINT"), (7, "+WEIGHT")]
    assert seen[-1].level is Level.WARNING


@pytest.mark.parametrize("metric", Metric)
def test_each_metric_leads_as_high_as_its_top_and_no_higher(metric: Metric):
    seen = looks(EVERYTHING, [only(metric)] * 100)
    assert seen[-1].stand.rung == TOP[metric]
    assert seen[-1].metrics == (metric,)


def test_a_busy_run_is_never_frozen_parked_or_killed():
    seen = looks(EVERYTHING, [only(Metric.CPU)] * 1_000)
    assert max(move.rung for look in seen for move in look.moves) is Rung.QUOTA


@pytest.mark.parametrize("rung", Rung)
def test_each_rung_can_fire(rung: Rung):
    fired = {
        move.rung
        for metric in Metric
        for look in looks(EVERYTHING, [only(metric)] * 100)
        for move in look.moves
        if move.taken
    }
    assert rung in fired


def test_one_spike_or_two_do_nothing():
    seen = looks(EVERYTHING, [GOOD, BAD, BAD, GOOD, BAD, BAD, GOOD])
    assert moves(seen) == []
    assert {look.level for look in seen} == {Level.OK}


def test_a_level_is_left_after_ten_seconds_below_four_fifths():
    entered = looks(EVERYTHING, [only(Metric.MEMORY, UNEASY)] * 3)
    near = {**GOOD, Metric.MEMORY: 41.0}
    for below in (near, GOOD):
        after = looks(EVERYTHING, [below] * 30, entered[-1].stand, from_s=3)
        left = [at for at, look in enumerate(after) if look.level is Level.OK]
        assert left == ([] if below is near else list(range(10, 30)))


def test_what_falls_is_left_a_quarter_above():
    entered = looks(EVERYTHING, [only(Metric.DISK_FREE)] * 3)
    for free, left in ((124.0, False), (126.0, True)):
        after = looks(EVERYTHING, [{**GOOD, Metric.DISK_FREE: free}] * 30, entered[-1].stand, from_s=3)
        assert (after[-1].level is Level.OK) is left


def test_a_return_above_begins_the_ten_seconds_anew():
    entered = looks(EVERYTHING, [only(Metric.MEMORY, UNEASY)] * 3)
    after = looks(EVERYTHING, [*[GOOD] * 9, UNEASY, *[GOOD] * 9, UNEASY], entered[-1].stand, from_s=3)
    assert {look.level for look in after} == {Level.WARNING}


def test_it_steps_down_the_last_thing_first():
    up = looks(EVERYTHING, [only(Metric.MEMORY)] * 20)
    assert up[-1].stand.rung == Rung.FREEZE
    down = looks(EVERYTHING, [GOOD] * 12, up[-1].stand, from_s=20)
    assert moves(down) == [(10, "-FREEZE"), (10, "-QUOTA"), (10, "-WEIGHT"), (10, "-HINT"), (10, "-EVENT")]
    assert down[-1].stand.rung == 0


def test_a_figure_that_is_coming_back_takes_a_run_no_higher():
    up = looks(EVERYTHING, [only(Metric.MEMORY)] * 8)
    assert up[-1].stand.rung == Rung.WEIGHT
    assert moves(looks(EVERYTHING, [GOOD] * 10, up[-1].stand, from_s=8)) == []


def test_what_hovers_below_its_threshold_is_not_taken_higher():
    up = looks(EVERYTHING, [only(Metric.MEMORY)] * 13)
    assert up[-1].stand.rung == Rung.QUOTA
    assert moves(looks(EVERYTHING, [{**GOOD, Metric.MEMORY: 90.0}] * 40, up[-1].stand, from_s=13)) == []


def test_what_hovers_below_its_threshold_is_not_left_frozen():
    up = looks(EVERYTHING, [only(Metric.MEMORY)] * 18)
    hovers = looks(EVERYTHING, [{**GOOD, Metric.MEMORY: 90.0}] * 40, up[-1].stand, from_s=18)
    assert [move for _, move in moves(hovers)] == ["+PARK", "+KILL"]


def test_from_critical_to_warning_only_what_a_warning_allows_is_kept():
    up = looks(EVERYTHING, [only(Metric.MEMORY)] * 20)
    down = looks(EVERYTHING, [only(Metric.MEMORY, UNEASY)] * 12, up[-1].stand, from_s=20)
    assert moves(down) == [(10, "-FREEZE"), (10, "-QUOTA")]
    assert down[-1].level is Level.WARNING


def test_a_rung_without_a_mechanism_is_passed_over():
    ladder = Ladder(
        bounds=EVERYTHING.bounds, walls={}, can=frozenset(Rung) - {Rung.WEIGHT, Rung.QUOTA, Rung.FREEZE}
    )
    seen = looks(ladder, [only(Metric.MEMORY)] * 20)
    assert moves(seen) == [(2, "+EVENT"), (2, "+HINT"), (7, "+PARK")]
    assert "-FREEZE" not in [one for _, one in moves(looks(ladder, [GOOD] * 20, seen[-1].stand, from_s=20))]


def test_a_wall_that_only_we_watch_is_a_limit_at_once():
    ladder = Ladder.of(Limits(memory="100MB"), Thresholds(), watched=frozenset({"memory"}))
    (look,) = looks(ladder, [{Metric.MEMORY: 100_000_001.0}])
    assert look.moves == (
        Move(
            rung=Rung.KILL,
            taken=True,
            metric=Metric.MEMORY,
            value=100_000_001.0,
            bound=100_000_000.0,
            wall=True,
        ),
    )
    (again,) = looks(ladder, [{Metric.MEMORY: 100_000_001.0}], look.stand)
    assert again.moves == ()


def test_a_limit_that_the_kernel_holds_is_no_wall_of_ours():
    ladder = Ladder.of(Limits(memory="100MB", processes=5, disk="1MB"), Thresholds())
    assert ladder.walls == {}
    watched = Ladder.of(
        Limits(memory="100MB", processes=5, disk="1MB"), Thresholds(), watched=frozenset({"disk"})
    )
    assert watched.walls == {Metric.WORKSPACE: 1_000_000}


def test_the_stricter_of_threshold_and_limit_is_judged():
    wide = Ladder.of(Limits(memory=100 << 20, processes=1_000), Thresholds(memory_mb=(90.0, 95.0)))
    assert wide.bounds[Metric.MEMORY] == pytest.approx((70 << 20, 85 << 20))
    assert wide.bounds[Metric.PROCESSES] == (500.0, 2_000.0)
    narrow = Ladder.of(Limits(memory=100 << 20), Thresholds(memory_mb=(10.0, 20.0), cpu_percent=(50.0, 90.0)))
    assert narrow.bounds[Metric.MEMORY] == (10 << 20, 20 << 20)
    assert narrow.bounds[Metric.CPU] == (50.0, 90.0)


def test_what_has_no_bounds_is_not_judged():
    ladder = Ladder.of(Limits(), Thresholds(disk_mb=None, processes=None))
    assert set(ladder.bounds) == {Metric.MEMORY_STALL}
    assert looks(Ladder(bounds={}, walls={}), [BAD] * 9)[-1].moves == ()


def test_a_figure_that_is_missing_changes_nothing():
    up = looks(EVERYTHING, [only(Metric.MEMORY)] * 3)
    blind = looks(EVERYTHING, [{}] * 2, up[-1].stand, from_s=3)
    assert blind[-1].level is Level.CRITICAL
    assert blind[-1].stand.edges == up[-1].stand.edges


def sample(read: Mapping[Metric, float | None]) -> TreeSample:
    return TreeSample(
        at_us=0,
        span_us=1,
        cpu_percent=read.get(Metric.CPU) or 0.0,
        memory_bytes=read.get(Metric.MEMORY) or 0,  # type: ignore[arg-type]
        processes=read.get(Metric.PROCESSES) or 0,  # type: ignore[arg-type]
        memory_stall=read.get(Metric.MEMORY_STALL),
        workspace_bytes=read.get(Metric.WORKSPACE),  # type: ignore[arg-type]
        disk_free_bytes=read.get(Metric.DISK_FREE),  # type: ignore[arg-type]
    )


def test_the_ladder_reads_what_was_measured():
    assert the_ladder.figures(sample(GOOD)) == GOOD
    unmeasured = {Metric.MEMORY_STALL: None, Metric.WORKSPACE: None, Metric.DISK_FREE: None}
    assert set(the_ladder.figures(sample({**GOOD, **unmeasured}))) == {
        Metric.CPU,
        Metric.MEMORY,
        Metric.PROCESSES,
    }


@pytest.mark.parametrize("metric", Metric)
def test_a_figure_past_its_threshold_is_not_calm(metric: Metric):
    calm = Calm.of(EVERYTHING)
    assert calm.holds(sample(GOOD))
    assert not calm.holds(sample(only(metric, UNEASY)))
    assert not calm.holds(sample({**GOOD, metric: EVERYTHING.bounds[metric][0]})), "a threshold is reached"


def test_what_was_not_measured_or_has_no_bounds_is_calm():
    unmeasured = {Metric.MEMORY_STALL: None, Metric.WORKSPACE: None, Metric.DISK_FREE: None}
    assert Calm.of(EVERYTHING).holds(sample({**GOOD, **unmeasured}))
    assert Calm.of(Ladder(bounds={}, walls={})).holds(sample(BAD))


def test_a_figure_past_its_wall_is_not_calm():
    calm = Calm.of(Ladder(bounds={Metric.MEMORY: (70.0, 85.0)}, walls={Metric.WORKSPACE: 50.0}))
    assert not calm.holds(sample({Metric.WORKSPACE: 51.0}))
    assert calm.holds(sample({Metric.WORKSPACE: 49.0}))
    assert not Calm.of(Ladder(bounds={Metric.MEMORY: (70.0, 85.0)}, walls={Metric.MEMORY: 50.0})).holds(
        sample({Metric.MEMORY: 60.0})
    )


@given(
    st.fixed_dictionaries({metric: st.floats(0.0, 300.0) for metric in Metric}),
    st.dictionaries(st.sampled_from(Metric), st.floats(1.0, 300.0)),
)
def test_who_stands_at_the_foot_and_is_calm_stays_there(
    read: dict[Metric, float], walls: dict[Metric, float]
):
    """So that need not be judged further."""
    ladder = Ladder(bounds=EVERYTHING.bounds, walls=walls)
    (look,) = looks(ladder, [read])
    if Calm.of(ladder).holds(sample(read)):
        assert (look.level, look.metrics, look.moves) == (Level.OK, (), ())
        assert look.stand.low


FIGURES = st.fixed_dictionaries({metric: st.floats(0.0, 300.0) for metric in Metric})
GAPS = st.integers(1, 40)


@given(st.lists(st.tuples(FIGURES, GAPS), max_size=60), st.sets(st.sampled_from(list(Rung))))
def test_whatever_happened_ten_good_seconds_take_everything_back(
    history: list[tuple[dict[Metric, float], int]], can: set[Rung]
):
    ladder = Ladder(bounds=EVERYTHING.bounds, walls={}, can=frozenset(can))
    stand, now_us = Stand.at_the_foot(), 0
    standing: list[Rung] = []
    for figures, gap_s in [*history, (GOOD, 1), (GOOD, LEAVE_US // SECOND)]:
        now_us += gap_s * SECOND
        look = climb(ladder, stand, figures, now_us)
        for move in look.moves:
            assert move.rung in can
            if move.taken:
                assert not standing or standing[-1] < move.rung, "taken twice, or out of order"
                standing.append(move.rung)
            else:
                assert standing.pop() is move.rung, "not the last one first"
        stand = look.stand
    assert look.level is Level.OK
    assert standing == [] and stand.rung == 0


@given(st.lists(st.tuples(FIGURES, GAPS), max_size=60))
def test_felt_rungs_are_never_taken_two_at_once_nor_too_soon(history: list[tuple[dict[Metric, float], int]]):
    stand, now_us, last_us = Stand.at_the_foot(), 0, None
    for figures, gap_s in history:
        now_us += gap_s * SECOND
        look = climb(EVERYTHING, stand, figures, now_us)
        felt = [move for move in look.moves if move.taken and move.rung > Rung.HINT]
        assert len(felt) <= 1
        if felt and last_us is not None and stand.rung:
            wait_us = GRACE_US if felt[0].rung is Rung.KILL else PATIENCE_US
            assert now_us - last_us >= wait_us
        if any(move.taken for move in look.moves):
            last_us = now_us
        stand = look.stand


@given(st.integers(1, SAMPLES_TO_ENTER - 1))
def test_fewer_samples_than_three_never_enter(count: int):
    assert moves(looks(EVERYTHING, [BAD] * count)) == []


def test_without_the_top_rung_a_wall_is_judged_like_anything_else():
    ladder = Ladder(bounds=EVERYTHING.bounds, walls={Metric.MEMORY: 100.0}, can=frozenset(Rung) - {Rung.KILL})
    assert moves(looks(ladder, [only(Metric.MEMORY)] * 3)) == [(2, "+EVENT"), (2, "+HINT")]


def test_a_stall_that_nobody_judges_leads_nowhere() -> None:
    stalled = {Metric.MEMORY_STALL: 99.0}
    for thresholds, level in ((Thresholds(), Level.CRITICAL), (Thresholds(memory_stall=None), Level.OK)):
        ladder, stand = Ladder.of(Limits(), thresholds), Stand.at_the_foot()
        for second in range(5):
            look = climb(ladder, stand, stalled, second * 1_000_000)
            stand = look.stand
        assert look.level is level
