"""The replay cursor by example: identities, order, lines and groups."""

from __future__ import annotations

import pickle

import pytest
from msgspec import structs

from holdfast.errors import UsageError
from holdfast.model import (
    SETUP,
    Call,
    Entry,
    EntryKind,
    EntryStatus,
    Identity,
    Mismatch,
)
from holdfast.rules.journal import CALLED, Blocked, Cursor, Execute, Recorded, superseded_by_retry, within
from tests.rules.walks import G, Run, ask, branches, entry, journal, opened

OK, FAILED, ABANDONED = EntryStatus.OK, EntryStatus.FAILED, EntryStatus.ABANDONED
RETRIED, UNSEEN = EntryStatus.RETRIED, EntryStatus.UNSEEN


# --- identities, order, lines -------------------------------------------------------------------------------


def test_recorded_calls_are_answered_and_the_rest_runs() -> None:
    run = Run("s restore a b | c")
    assert run.walk("s restore a b | c d return") == "s=1 restore a=2 b=3 | c=4 d runs return"
    assert run.walk("s restore a b | c d return") == "s=1 restore a=2 b=3 | c=4 d=5 return"


@pytest.mark.parametrize(
    "calls, said",
    [
        ("s restore x b return", "s=1 restore x!=2"),  # renamed
        ("s restore a x b return", "s=1 restore a=2 x!=3"),  # inserted
        ("s restore b c return", "s=1 restore b!=2"),  # removed
        ("s restore b a c return", "s=1 restore b!=2"),  # moved
        ("s restore a b return", "s=1 restore a=2 b=3 return!=4"),  # removed at the end
        ("s restore a b c x return", "s=1 restore a=2 b=3 c=4 x runs return"),  # added at the end
        ("s restore a | b c return", "s=1 restore a=2 |!=3"),  # checkpoint inserted
        ("s x restore a b c return", "s=1 x!=2"),  # setup longer
        ("restore a b c return", "restore!=1"),  # setup shorter
        ("s a restore b c return", "s=1 a!=2"),  # body to setup
        ("restore s a b c return", "restore!=1"),  # setup to body
    ],
)
def test_an_edit_is_held_at_the_call_or_changes_nothing(calls: str, said: str) -> None:
    assert Run("s restore a b c").walk(calls) == said


def test_a_checkpoint_removed_under_a_stopped_run_is_held() -> None:
    assert Run("restore a | b").walk("restore a b") == "restore a=1 b!=2"


def test_two_equal_calls_reordered_are_held_by_their_arguments() -> None:
    assert Run("restore a:1 a:2").walk("restore a:2 a:1") == "restore a:2!=1"


def test_arguments_without_a_hash_are_not_compared() -> None:
    assert Run("restore a:1 b").walk("restore a b:1") == "restore a=1 b:1=2"


def test_both_sides_of_a_mismatch_are_named() -> None:
    run = Run("restore a")
    run.walk("restore b")
    assert run.mismatch is not None and run.mismatch.call is not None
    assert run.mismatch.message == (
        "the code calls 'b' (segment 0, occurrence 0), but entry 1 is recorded next: 'a' (segment 0, occurrence 0)"
    )
    cursor = Cursor(journal([entry(1, "a", 0, "G.0.0/k", key="K")]))
    cursor.restore()
    finished = cursor.finish()
    assert finished is not None and "(segment 0, scope G.0.0/k, key 'K')" in finished.message


def test_nothing_executes_while_a_later_segment_has_entries_left() -> None:
    assert Run("restore a | b").walk("restore a x") == "restore a=1 x!=2"


def test_a_resume_goes_on_in_the_segment_of_its_checkpoint() -> None:
    run = Run("s restore a | b | c")
    assert run.walk("s restore c d return", base=2) == "s=1 restore c=4 d runs return"


def test_falling_back_to_an_older_checkpoint_repeats_nothing() -> None:
    run = Run("s restore a | b | c")
    assert run.walk("s restore b | c d", base=1) == "s=1 restore b=3 | c=4 d runs"
    assert run.walk("s restore a | b | c d return") == "s=1 restore a=2 | b=3 | c=4 d=5 return"


def test_setup_added_while_the_tail_was_empty_comes_before_all_segments_after_a_fallback() -> None:
    run = Run("s restore a | b")
    assert run.walk("s t restore c return", base=2) == "s=1 t runs restore c runs return"
    assert run.walk("s t restore b | c return", base=1) == "s=1 t=4 restore b=3 | c=5 return"


def test_a_key_replaces_the_occurrence_and_is_free_again_after_a_checkpoint() -> None:
    cursor = Cursor(journal())
    cursor.restore()
    assert cursor.identify("", "a", "k") == Identity(0, "", "a", "k", 0)
    assert cursor.identify("", "a", None) == Identity(0, "", "a", None, 0)
    assert cursor.identify("", "a", None) == Identity(0, "", "a", None, 1)
    assert cursor.identify("G.0.0/x", "a", "k") == Identity(0, "G.0.0/x", "a", "k", 0)
    cursor.checkpoint()
    assert cursor.identify("", "a", "k") == Identity(1, "", "a", "k", 0)
    assert cursor.identify("", "a", None) == Identity(1, "", "a", None, 0)


def test_a_key_used_twice_raises_at_once() -> None:
    cursor = Cursor(journal())
    cursor.identify("", "a", "k")
    with pytest.raises(UsageError, match="key 'k' of step 'a' is used twice"):
        cursor.identify("", "a", "k")


def test_an_outcome_stays_unanswered_until_it_is_used() -> None:
    cursor = Cursor(journal([entry(1, "a")]))
    cursor.restore()
    identity = cursor.identify("", "a", None)
    assert cursor.holds(identity) and not cursor.holds(identity._replace(name="b"))
    answer = cursor.answer(Call(identity=identity))
    assert isinstance(answer, Recorded) and cursor.waiting
    cursor.use(answer.entry)
    assert not cursor.waiting and not cursor.holds(identity)


def test_a_call_is_free_only_when_nothing_is_left_that_could_answer_one() -> None:
    cursor = Cursor(journal([entry(1, "a"), entry(2, "b", status=RETRIED)]))
    cursor.restore()
    first, second = cursor.identify("", "a", None), cursor.identify("", "b", None)
    assert cursor.free(first) is None and cursor.free(second) is None
    cursor.use(entry(1, "a"))
    assert cursor.free(second) == 1 and isinstance(cursor.answer(Call(identity=second)), Execute)
    doubtful = Cursor(journal([entry(1, "a", status=EntryStatus.INTENDED)]))
    doubtful.restore()
    assert doubtful.free(doubtful.identify("", "b", None)) is None


def test_nothing_recorded_leaves_every_call_free() -> None:
    cursor = Cursor(journal())
    cursor.restore()
    assert cursor.free(cursor.identify("", "a", None)) == 0


def test_chance_is_seeded_by_the_calls_answered_in_the_segment_live_and_replayed_alike() -> None:
    cursor = Cursor(journal([entry(1, "a")]))
    cursor.restore()
    assert cursor.moment("") == (0, "", 0)
    cursor.use(entry(1, "a"))
    assert cursor.moment("") == (0, "", 1)
    cursor.recorded(cursor.identify("", "b", None))
    assert cursor.moment("") == (0, "", 2)
    cursor.checkpoint()
    assert cursor.moment("") == (1, "", 0)


def test_an_unseen_outcome_is_abandoned() -> None:
    cursor = Cursor(journal([entry(1, "a"), entry(2, "a", status=UNSEEN), entry(3, "b")]))
    cursor.restore()
    first = ask(cursor, "a")
    assert isinstance(first, Recorded) and first.entry.status is ABANDONED and first.entry.position == 1
    cursor.use(first.entry)
    assert isinstance(ask(cursor, "b"), Recorded)


def test_tries_are_counted_and_answer_nothing() -> None:
    cursor = Cursor(journal([entry(1, "a", status=RETRIED), entry(2, "a", status=RETRIED)]))
    cursor.restore()
    identity = cursor.identify("", "a", None)
    assert cursor.tries(identity) == 2 and cursor.tries(identity._replace(name="b")) == 0
    assert isinstance(cursor.answer(Call(identity=identity)), Execute)


def test_once_is_outside_scopes_and_their_order() -> None:
    once = entry(1, "once", SETUP, key="k", kind=EntryKind.ONCE)
    cursor = Cursor(journal([once, structs.replace(once, status=UNSEEN, position=2), entry(3, "a")]))
    assert cursor.restore() is None
    assert isinstance(ask(cursor, "a"), Recorded)


# --- groups -------------------------------------------------------------------------------------------------


def test_each_branch_is_answered_in_its_own_order() -> None:
    cursor = opened(branches((f"{G}/x", "a"), (f"{G}/y", "a"), (f"{G}/x", "b")))
    assert cursor.open_group(G, ["x", "y"]) is None
    for scope in (f"{G}/x", f"{G}/y"):
        cursor.open_branch(scope)
    for scope, name in ((f"{G}/y", "a"), (f"{G}/x", "a"), (f"{G}/x", "b")):
        answer = ask(cursor, name, scope)
        assert isinstance(answer, Recorded)
        cursor.use(answer.entry)
    assert cursor.close(f"{G}/x") is None and cursor.close(G) is None and cursor.finish() is None


def test_a_call_in_a_branch_waits_until_every_recorded_sibling_is_open_again() -> None:
    cursor = opened(branches((f"{G}/x", "a"), (f"{G}/y", "a"), (f"{G}/y", "b")))
    cursor.open_group(G, ["x", "y", "z"])
    cursor.open_branch(f"{G}/z")
    call = Call(identity=cursor.identify(f"{G}/z", "a", None))
    assert cursor.answer(call) == Blocked((f"{G}/x", f"{G}/y"), 1)
    cursor.open_branch(f"{G}/x")
    assert cursor.answer(call) == Blocked((f"{G}/y",), 2)
    cursor.open_branch(f"{G}/y")
    assert isinstance(cursor.answer(call), Execute)


def test_a_call_in_a_nested_branch_waits_for_the_siblings_around_it_too() -> None:
    cursor = opened(branches((f"{G}/y", "a")))
    cursor.open_branch(f"{G}/x")
    inner = f"{G}/x/H.0.0/1"
    cursor.open_branch(inner)
    assert ask(cursor, "a", inner) == Blocked((f"{G}/y",), 1)


def test_a_call_in_a_branch_does_not_execute_while_the_scope_around_has_entries_left() -> None:
    cursor = opened(branches((f"{G}/x", "a"), ("", "after")))
    cursor.open_group(G, ["x"])
    cursor.open_branch(f"{G}/x")
    answer = ask(cursor, "a", f"{G}/x")
    assert isinstance(answer, Recorded)
    cursor.use(answer.entry)
    added = ask(cursor, "new", f"{G}/x")
    assert isinstance(added, Mismatch) and added.entry == 2


def test_a_group_out_of_its_turn_is_held() -> None:
    cursor = opened(branches(("", "a"), (f"{G}/x", "b")))
    mismatch = cursor.open_group(G, ["x"])
    assert mismatch is not None and mismatch.entry == 1


def test_a_group_that_recorded_nothing_disturbs_nothing() -> None:
    cursor = opened(branches(("", "a")))
    assert cursor.open_group(G, ["x"]) is None and cursor.close(G) is None
    assert isinstance(ask(cursor, "a"), Recorded)


def test_a_recorded_branch_that_the_code_lacks_is_held() -> None:
    cursor = opened(branches((f"{G}/x", "a"), (f"{G}/y", "a")))
    mismatch = cursor.open_group(G, ["x", "z"])
    assert mismatch is not None and mismatch.entry == 2 and mismatch.call is None


def test_a_call_after_a_group_is_held_while_the_group_has_entries_left() -> None:
    cursor = opened(branches((f"{G}/x", "a"), ("", "b")))
    answer = ask(cursor, "b")
    assert isinstance(answer, Mismatch) and answer.entry == 1


def test_a_scope_that_ends_with_entries_left_is_held() -> None:
    cursor = opened(branches((f"{G}/x/H.0.0/1", "a")))
    for scope in (f"{G}/x/H.0.0/1", f"{G}/x/H.0.0", f"{G}/x", G):
        mismatch = cursor.close(scope)
        assert mismatch is not None and mismatch.entry == 1
    assert cursor.close("other.0.0/x") is None


def test_the_recorded_branches_of_a_group_come_in_the_order_of_their_last_outcomes_that_are_left() -> None:
    cursor = opened(branches((f"{G}/y", "a"), (f"{G}/x", "a"), (f"{G}/y", "b"), (f"{G}/z/H.0.0/1", "a")))
    assert cursor.branches(G) == (f"{G}/x", f"{G}/y", f"{G}/z")
    assert [len(cursor.left(f"{G}/{branch}")) for branch in "xyza"] == [1, 2, 1, 0]
    cursor.spend(f"{G}/y")
    assert cursor.branches(G) == (f"{G}/x", f"{G}/z")
    assert cursor.branches("other.0.0") == ()


def test_a_scope_says_how_the_outcomes_ended_that_are_left_in_it() -> None:
    (first,) = branches((f"{G}/x", "a"))
    second = structs.replace(first, identity=first.identity._replace(name="b"), position=2, status=ABANDONED)
    cursor = opened([first, second])
    assert cursor.left(f"{G}/x") == [OK, ABANDONED]
    cursor.use(first)
    assert cursor.left(f"{G}/x") == [ABANDONED] and cursor.left(f"{G}/y") == []


def test_a_scope_that_is_over_leaves_nothing_behind() -> None:
    cursor = opened([])
    size = len(pickle.dumps([getattr(cursor, name) for name in Cursor.__slots__]))
    for number in range(100):
        scope = f"{G}/{number}"
        cursor.open_branch(scope)
        cursor.recorded(cursor.identify(scope, "a", None))
        cursor.recorded(cursor.identify(scope, "a", f"key {number}"))
        assert cursor.close(scope) is None
    assert len(pickle.dumps([getattr(cursor, name) for name in Cursor.__slots__])) == size


def test_a_spent_scope_counts_as_answered() -> None:
    cursor = opened(branches((f"{G}/x", "a"), (f"{G}/y/H.0.0/1", "a"), ("", "winner")))
    cursor.spend(G)
    cursor.spend(G)
    answer = ask(cursor, "winner")
    assert isinstance(answer, Recorded)
    cursor.use(answer.entry)
    assert cursor.finish() is None and not cursor.waiting


def test_a_call_of_a_spent_scope_may_still_deliver() -> None:
    entries = branches((f"{G}/x", "a"), ("", "winner"))
    cursor = opened(entries)
    cursor.spend(G)
    cursor.use(entries[0])
    assert cursor.waiting
    cursor.use(entries[1])
    assert not cursor.waiting


def test_within_compares_whole_parts_of_a_path() -> None:
    assert within("a/b", "a") and within("a", "a") and within("a", "")
    assert not within("ab", "a") and not within("a", "a/b")


# --- calls of children ----------------------------------------------------------------------------------------


def a_call(scope: str, *statuses: EntryStatus, at: int) -> list[Entry]:
    """What a call of a child recorded: how it began, and perhaps how it ended."""
    identity = Identity(0, scope, "read", None, 0)
    begun = Entry(identity._replace(name=f"read{CALLED}"), EntryKind.CHILD, OK, b'"c"', position=at)
    ended = (Entry(identity, EntryKind.CHILD, status, b"1", position=at + 1) for status in statuses)
    return [begun, *ended]


def test_a_spent_scope_names_the_calls_of_children_whose_end_the_code_never_met() -> None:
    entries = [*a_call(f"{G}/x", at=1), *a_call(f"{G}/y", OK, at=2), *a_call(f"{G}/z", ABANDONED, at=4)]
    cursor = opened(entries)
    assert cursor.spend(G) == entries[:1]
    assert cursor.spend(G) == []


def test_a_step_that_is_named_as_a_called_agent_is_neither_the_end_of_its_call_nor_in_its_way() -> None:
    """It has the identity that the outcome of the first call would have, which takes the next occurrence."""

    def named(at: int) -> list[Entry]:
        step = Entry(Identity(0, f"{G}/x", "read", None, 0), EntryKind.STEP, OK, b"1", position=at)
        return [step, *a_call(f"{G}/x", at=at + 1)]

    entries = named(1)
    outcome = Entry(Identity(0, f"{G}/x", "read", None, 1), EntryKind.CHILD, OK, b"1", position=3)
    assert opened(entries).spend(G) == entries[1:]
    assert opened([*entries, outcome]).spend(G) == []
    begun, another = a_call(f"{G}/x", at=1), structs.replace(entries[0], position=2)
    assert opened([*begun, another]).spend(G) == begun  # its outcome was dropped
    cursor = opened([*entries, outcome])
    answer = ask(cursor, "read", scope=f"{G}/x")
    assert isinstance(answer, Recorded)
    cursor.use(answer.entry)
    assert cursor.spend(G) == []


def test_a_retry_begins_the_calls_again_that_were_under_way_beside_its_failure() -> None:
    entries = [
        *a_call(f"{G}/x", at=1), *a_call(f"{G}/y", OK, at=2), *a_call(f"{G}/z", ABANDONED, at=4),
        *a_call(f"{G}/bad", FAILED, at=6),
    ]  # fmt: skip
    assert superseded_by_retry(entries, [7]) == (1, 5, 7)
