"""Loops: every rule can fire, and none fires where results differ."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from holdfast.rules.loops import ALTERNATED, FAILED, REPEATED, SAID, Act, Loop, Rule, Turns, advice


def act(name: str = "search", args: str = "kelp", result: str = "nothing", **more: bool) -> Act:
    return Act(name, args.encode(), result.encode(), **more)


def after(*acts: Act, group: str | None = None) -> list[Loop | None]:
    turns = Turns()
    return [turns.observe(each, group) for each in acts]


def parks(found: list[Loop | None]) -> list[int]:
    """After which acts the run is parked."""
    return [number for number, loop in enumerate(found, 1) if loop is not None and loop.parks]


def told(found: list[Loop | None]) -> list[int]:
    return [number for number, loop in enumerate(found, 1) if loop is not None]


# --- every rule can fire ----------------------------------------------------------------------------------------


def test_the_same_call_with_the_same_result_nudges_at_3_and_parks_at_6_and_at_12() -> None:
    found = after(*[act()] * 13)
    assert told(found) == list(range(REPEATED[0], 14))
    assert parks(found) == [6, 12]
    assert [loop.begins for loop in found if loop] == [True] + [False] * 10
    assert found[2] is not None and found[2].rule is Rule.REPEATED


def test_the_same_call_with_the_same_error_nudges_at_3_and_parks_at_5() -> None:
    found = after(*[act(failed=True)] * 6)
    assert told(found)[0] == FAILED[0]
    assert parks(found) == [5]
    assert found[-1] is not None and found[-1].rule is Rule.FAILED


def test_two_calls_in_turn_nudge_at_6_and_park_at_10() -> None:
    found = after(*[act(), act("read")] * 5)
    assert told(found) == list(range(ALTERNATED[0], 11))
    assert parks(found) == [10]
    last = found[-1]
    assert last is not None and last.rule is Rule.ALTERNATED
    assert last.names == "read and search"


def test_a_model_that_says_the_same_nudges_at_4_and_parks_at_8() -> None:
    found = after(*[act("ask", result="hm", model=True)] * 8)
    assert told(found)[0] == SAID[0]
    assert parks(found) == [8]
    assert found[-1] is not None and found[-1].rule is Rule.SAID


def test_every_advice_names_what_is_repeated() -> None:
    for rule in Rule:
        assert "search" in advice(Loop(rule, 6, (act(),), parks=True, begins=False))


# --- and none fires where it should not -------------------------------------------------------------------------

ACTS = st.builds(
    Act,
    st.sampled_from(["a", "b"]),
    st.sampled_from([b"1", b"2"]),
    st.just(b""),
    st.booleans(),
    st.booleans(),
)


@given(st.lists(ACTS, max_size=60), st.lists(st.sampled_from([None, "g", "h"]), max_size=60))
def test_distinct_results_never_fire_any_rule(acts: list[Act], groups: list[str | None]) -> None:
    turns = Turns()
    for number, (each, group) in enumerate(zip(acts, groups, strict=False)):
        assert turns.observe(each._replace(result=str(number).encode()), group) is None
        assert turns.loop is None


@given(ACTS, st.lists(ACTS, max_size=8))
def test_whatever_is_repeated_fires_whatever_came_before(one: Act, before: list[Act]) -> None:
    turns = Turns()
    for number, each in enumerate(before):
        turns.observe(each._replace(result=b"before %d" % number))
    found = [turns.observe(one) for _ in range(8)]
    assert any(loop is not None and loop.parks for loop in found)


def test_a_result_that_changes_begins_anew() -> None:
    found = after(act(), act(), act(result="kelp!"), act(), act())
    assert found == [None] * 5


def test_a_model_between_does_not_hide_a_tool_that_repeats_and_a_tool_ends_a_monologue() -> None:
    asks = [act("ask", result=str(number), model=True) for number in range(6)]
    found = after(*[each for ask in asks for each in (ask, act())])
    assert parks(found) == [12], "the sixth call of the tool"
    same = act("ask", result="hm", model=True)
    assert told(after(same, same, same, act(), same, same, same)) == []


def test_identical_calls_side_by_side_count_once() -> None:
    turns = Turns()
    assert [turns.observe(act(), "g") for _ in range(12)] == [None] * 12
    found = [turns.observe(act(result=str(number)), "h") for number in range(4)]
    assert found == [None] * 4
    said = act("ask", result="hm", model=True)
    assert [turns.observe(said, "g") for _ in range(12)] == [None] * 12


def test_turns_of_several_calls_are_equal_in_whatever_order_they_ended() -> None:
    turns, found = Turns(), []
    for number in range(6):
        both = [act("read"), act("list")] if number % 2 else [act("list"), act("read")]
        found += [turns.observe(each, f"g{number}") for each in both]
    last = found[-1]
    assert last is not None and (last.rule, last.turns, last.parks) == (Rule.REPEATED, 6, True)


@given(st.lists(ACTS, max_size=30), st.lists(st.sampled_from([None, "g", "h"]), min_size=30, max_size=30))
def test_a_checkpoint_changes_no_verdict(acts: list[Act], groups: list[str | None]) -> None:
    whole, resumed = Turns(), Turns()
    for each, group in zip(acts, groups, strict=False):
        again = Turns()
        again.go_on(resumed.tell())
        resumed = again
        assert whole.observe(each, group) == resumed.observe(each, group)
        assert whole.loop == resumed.loop
    nothing = Turns()
    nothing.go_on(Turns().tell())
    assert nothing.tell() == b""
    assert nothing.loop is None


def test_a_model_that_says_the_same_between_polls_is_no_monologue() -> None:
    turns = Turns()
    for _ in range(12):
        assert turns.observe(act("ask", result="wait", model=True)) is None
        turns.poll()


def test_a_poll_hides_no_tool_that_repeats() -> None:
    turns, found = Turns(), []
    for _ in range(6):
        found.append(turns.observe(act()))
        turns.poll()
    assert parks(found) == [6]


def test_a_turn_of_ten_thousand_calls_is_kept_small_and_known_again() -> None:
    turns, found = Turns(), []
    numbers = list(range(2_000))
    for turn in range(6):
        numbers.reverse()
        found += [turns.observe(act(args=str(number)), f"g{turn}") for number in numbers]
        found += [turns.observe(act(args=str(number)), f"g{turn}") for number in numbers]
    assert found[-2_001] is not None and found[-2_001].parks
    assert len(turns.tell()) < 20_000
    other = [turns.observe(act(args=str(number)), "h") for number in (*range(1_999), 7_777)]
    assert other[-1] is None, "one of them differs"
