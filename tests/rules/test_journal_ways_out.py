"""The ways out of a mismatch, and what a retry of the run undoes, by example."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs
from msgspec.structs import replace

from holdfast.errors import Refused
from holdfast.model import (
    SETUP,
    Call,
    Entry,
    EntryKind,
    EntryStatus,
    Identity,
    Mismatch,
    Resolution,
    ResolutionKind,
)
from holdfast.rules.journal import (
    Cursor,
    Execute,
    Recorded,
    end_of,
    resolve,
    superseded_by,
    superseded_by_retry,
)
from tests.rules.walks import G, Run, ask, branches, entry, journal, opened

FAILED, ABANDONED = EntryStatus.FAILED, EntryStatus.ABANDONED
RETRIED, UNSEEN = EntryStatus.RETRIED, EntryStatus.UNSEEN
ACCEPT, INSERT, DROP, RERUN = (
    ResolutionKind.ACCEPT,
    ResolutionKind.INSERT,
    ResolutionKind.DROP,
    ResolutionKind.RERUN,
)


# --- the ways out of a mismatch -----------------------------------------------------------------------------


def test_accept_takes_an_outcome_for_a_call_with_other_arguments() -> None:
    run = Run("restore a:1 b")
    assert run.walk("restore a:2 b") == "restore a:2!=1"
    run.take(ACCEPT, 1)
    assert run.walk("restore a:2 b return") == "restore a:2=1 b=2 return"
    assert run.walk("restore a:1 b return") == "restore a:1!=1"


def test_accept_of_a_renamed_step_shifts_the_later_occurrences_of_both_names() -> None:
    run = Run("restore a a b a")
    assert run.walk("restore b a b a") == "restore b!=1"
    run.take(ACCEPT, 1)
    assert run.walk("restore b a b a return") == "restore b=1 a=2 b=3 a=4 return"


def test_accept_of_each_of_several_renamed_steps() -> None:
    run = Run("restore a a a")
    for n in (1, 2, 3):
        assert run.walk("restore b b b return").endswith(f"b!={n}")
        run.take(ACCEPT, n)
    assert run.walk("restore b b b return") == "restore b=1 b=2 b=3 return"


def test_accept_of_a_later_entry_moves_it_to_the_call() -> None:
    run = Run("restore a b c a")
    assert run.walk("restore c a b") == "restore c!=1"
    run.take(ACCEPT, 3)
    assert run.walk("restore c a b a return") == "restore c=3 a=1 b=2 a=4 return"


def test_accept_of_two_equal_calls_reordered_exchanges_them() -> None:
    run = Run("restore a:1 a:2 b")
    assert run.walk("restore a:2 a:1 b") == "restore a:2!=1"
    run.take(ACCEPT, 2)
    assert run.walk("restore a:2 a:1 b return") == "restore a:2=2 a:1=1 b=3 return"


def test_accept_over_a_removed_checkpoint_leads_on_and_is_gone_with_its_segment() -> None:
    run = Run("restore a | b | c")
    assert run.walk("restore a b | c") == "restore a=1 b!=2"
    run.take(ACCEPT, 2)
    assert run.walk("restore a b | c") == "restore a=1 b=2 | c!=3"
    run.take(ACCEPT, 3)
    assert run.walk("restore a b | c d return") == "restore a=1 b=2 | c=3 d runs return"
    assert run.walk("restore c d return", base=1) == "restore c=3 d=4 return"


def test_insert_lets_the_call_execute_and_what_is_recorded_follows() -> None:
    run = Run("restore a b")
    assert run.walk("restore a x b") == "restore a=1 x!=2"
    run.take(INSERT)
    assert run.walk("restore a x b return") == "restore a=1 x runs b=2 return"
    assert run.walk("restore a x b return") == "restore a=1 x=3 b=2 return"


def test_insert_does_not_let_the_call_go_past_what_comes_before_it() -> None:
    run = Run("restore a b c")
    assert run.walk("restore a x b c") == "restore a=1 x!=2"
    run.take(INSERT)
    assert run.walk("restore x a b c") == "restore x!=1"


def test_insert_before_a_call_of_the_same_name_shifts_it() -> None:
    run = Run("restore a:1 a:2 a:3")
    assert run.walk("restore a:1 a:9 a:2 a:3") == "restore a:1=1 a:9!=2"
    run.take(INSERT)
    assert run.walk("restore a:1 a:9 a:2 a:3 return") == "restore a:1=1 a:9 runs a:2=2 a:3=3 return"
    assert run.walk("restore a:1 a:9 a:2 a:3 return") == "restore a:1=1 a:9=4 a:2=2 a:3=3 return"


def test_inserts_at_one_place_keep_the_order_of_the_code() -> None:
    run = Run("restore a b")
    for _ in range(3):
        run.walk("restore a x y z b return")
        run.take(INSERT)
    assert run.walk("restore a x y z b return") == "restore a=1 x=3 y=4 z runs b=2 return"
    assert run.walk("restore a x y z b return") == "restore a=1 x=3 y=4 z=5 b=2 return"


def test_insert_before_an_inserted_call() -> None:
    run = Run("restore a b")
    run.walk("restore a x b")
    run.take(INSERT)
    run.walk("restore a x b")
    assert run.walk("restore a y x b") == "restore a=1 y!=3"
    run.take(INSERT)
    assert run.walk("restore a y x b return") == "restore a=1 y runs x=3 b=2 return"
    assert run.walk("restore a z y x b") == "restore a=1 z!=4"
    run.take(INSERT)
    assert run.walk("restore a z y x b return") == "restore a=1 z runs y=4 x=3 b=2 return"
    assert run.walk("restore a z y x b return") == "restore a=1 z=5 y=4 x=3 b=2 return"


def test_insert_of_the_same_name_before_an_inserted_call_that_did_not_run_yet() -> None:
    run = Run("restore a b")
    run.walk("restore a x:1 b")
    run.take(INSERT)
    run.walk("restore x:2 a x:1 b")
    run.take(INSERT)
    assert run.walk("restore x:2 a x:1 b return") == "restore x:2 runs a=1 x:1 runs b=2 return"
    assert run.walk("restore x:2 a x:1 b return") == "restore x:2=3 a=1 x:1=4 b=2 return"


def test_insert_in_the_setup_comes_before_every_segment() -> None:
    run = Run("s restore a | b")
    assert run.walk("s t restore a") == "s=1 t!=2"
    run.take(INSERT)
    assert run.walk("s t restore a | b return") == "s=1 t runs restore a=2 | b=3 return"
    assert run.walk("s t restore a | b return") == "s=1 t=4 restore a=2 | b=3 return"
    assert run.walk("s t restore b return", base=1) == "s=1 t=4 restore b=3 return"


def test_insert_at_the_end_of_a_branch_leads_on() -> None:
    entries = branches((f"{G}/x", "a"), ("", "after"))
    cursor = opened(entries)
    cursor.open_branch(f"{G}/x")
    cursor.use(entries[0])
    mismatch = ask(cursor, "new", f"{G}/x")
    assert isinstance(mismatch, Mismatch)
    insert = resolve(INSERT, mismatch, None, 2)
    cursor = Cursor(journal(entries, (insert,)))
    cursor.restore()
    cursor.open_branch(f"{G}/x")
    early = ask(cursor, "new", f"{G}/x")
    assert isinstance(early, Mismatch) and early.entry == 1
    cursor.use(entries[0])
    assert isinstance(cursor.answer(Call(identity=Identity(0, f"{G}/x", "new", None, 0))), Execute)


def test_drop_of_a_removed_step_shifts_its_later_occurrences() -> None:
    run = Run("restore a:1 a:2 b a:3")
    assert run.walk("restore a:2 b a:3") == "restore a:2!=1"
    run.take(DROP, 1)
    assert run.walk("restore a:2 b a:3 return") == "restore a:2=2 b=3 a:3=4 return"


def test_drop_of_what_is_left_at_the_end() -> None:
    run = Run("restore a b c")
    for n in (2, 3):
        assert run.walk("restore a return") == f"restore a=1 return!={n}"
        run.take(DROP, n)
    assert run.walk("restore a return") == "restore a=1 return"


def test_drop_of_an_inserted_call_takes_its_place_back() -> None:
    run = Run("restore a b")
    run.walk("restore a x b")
    run.take(INSERT)
    run.walk("restore a x b")
    assert run.walk("restore a b return") == "restore a=1 b!=3"
    run.take(DROP, 3)
    assert run.walk("restore a b return") == "restore a=1 b=2 return"
    assert run.walk("restore a x b return") == "restore a=1 x!=2"


def test_rerun_executes_in_the_place_of_the_entry() -> None:
    run = Run("restore a:1 b c")
    assert run.walk("restore a:2 b c") == "restore a:2!=1"
    run.take(RERUN, 1)
    assert run.walk("restore a:2 b c return") == "restore a:2 runs b=2 c=3 return"
    assert run.walk("restore a:2 b c return") == "restore a:2=4 b=2 c=3 return"


def test_rerun_of_a_renamed_step_executes_under_its_new_name() -> None:
    run = Run("restore a a b")
    assert run.walk("restore b a b") == "restore b!=1"
    run.take(RERUN, 1)
    assert run.walk("restore b a b return") == "restore b runs a=2 b=3 return"
    assert run.walk("restore b a b return") == "restore b=4 a=2 b=3 return"


def test_rerun_of_another_entry_than_the_next_executes_that_call_again() -> None:
    run = Run("restore a b:1 c:1")
    assert run.walk("restore a b:1 c:2") == "restore a=1 b:1=2 c:2!=3"
    run.take(RERUN, 2)
    assert run.walk("restore a b:1 c:2") == "restore a=1 b:1 runs c:2!=3"
    run.take(RERUN, 3)
    assert run.walk("restore a b:1 c:2 return") == "restore a=1 b:1=4 c:2 runs return"


def test_rerun_of_an_inserted_call_keeps_its_place() -> None:
    run = Run("restore a b")
    run.walk("restore a x:1 b")
    run.take(INSERT)
    run.walk("restore a x:1 b")
    assert run.walk("restore a x:2 b") == "restore a=1 x:2!=3"
    run.take(RERUN, 3)
    assert run.walk("restore a x:2 b return") == "restore a=1 x:2 runs b=2 return"
    assert run.walk("restore a x:2 b return") == "restore a=1 x:2=4 b=2 return"


def test_a_retried_insert_keeps_its_place() -> None:
    run = Run("restore a b")
    run.walk("restore a x b")
    run.take(INSERT)
    run.walk("restore a x b")
    run.entries[2] = structs.replace(run.entries[2], superseded=True)
    assert run.walk("restore a x b return") == "restore a=1 x runs b=2 return"


def test_going_back_to_the_checkpoint_forgets_the_places_of_its_tail() -> None:
    run = Run("s restore a b c")
    run.walk("s t restore a x b c")
    run.take(INSERT)
    run.walk("s t restore a x b c")
    run.take(INSERT)
    run.walk("s t restore a x b c")
    back = Resolution(kind=ResolutionKind.FROM_CHECKPOINT, after=len(run.entries))
    run.resolutions = (*run.resolutions, back)
    run.entries = [structs.replace(e, superseded=e.identity.segment != SETUP) for e in run.entries]
    walk = "s t restore a x b c return"
    assert run.walk(walk) == "s=1 t=5 restore a runs x runs b runs c runs return"
    assert run.walk(walk) == "s=1 t=5 restore a=7 x=8 b=9 c=10 return"


def test_keyed_calls_do_not_shift() -> None:
    entries = [entry(1, "a", key="k"), entry(2, "a", key="l")]
    drop = Resolution(kind=DROP, position=1, recorded=entries[0].identity, after=2)
    cursor = Cursor(journal(entries[1:], (drop,)))
    cursor.restore()
    assert isinstance(ask(cursor, "a", key="l"), Recorded)


def test_tries_of_a_call_that_is_not_over_move_with_it() -> None:
    entries = [entry(1, "b"), entry(2, "a", status=RETRIED)]
    call = Call(identity=Identity(0, "", "a", None, 0))
    insert = Resolution(kind=INSERT, position=1, call=call, after=2)
    cursor = Cursor(journal(entries, (insert,)))
    assert cursor.tries(call.identity) == 0
    assert cursor.tries(call.identity._replace(occurrence=1)) == 1


def test_a_resolution_whose_entry_is_gone_changes_nothing() -> None:
    gone = (
        Resolution(kind=ACCEPT, position=9, call=Call(identity=Identity(0, "", "x", None, 0)), after=9),
        Resolution(kind=DROP, position=8, after=9),
    )
    run = Run("restore a b")
    run.resolutions = gone
    assert run.walk("restore a b return") == "restore a=1 b=2 return"


@pytest.mark.parametrize(("kind", "end"), [(EntryKind.TIMER, ":timeout"), (EntryKind.APPROVAL, ":asked")])
def test_rerun_of_a_wait_that_has_an_end_lasts_as_long_as_the_first_time(kind: EntryKind, end: str) -> None:
    """Also beside an earlier one without an end, whose occurrence the end does not share."""
    entries = [
        entry(1, "w"),
        entry(2, f"w{end}", kind=kind),
        entry(3, "w", occurrence=1, status=FAILED),
        entry(4, "old"),
    ]
    ending = () if kind is EntryKind.TIMER else (2,)
    assert end_of(entries[0], entries, ending) is None
    mismatch = Mismatch(message="", call=Call(identity=Identity(0, "", "new", None, 0)), entry=4)
    dropped = resolve(DROP, mismatch, entries[2], 4, end_of(entries[2], entries, ending))
    assert superseded_by(dropped, entries) == (3,)
    rerun = resolve(RERUN, mismatch, entries[2], 4, end_of(entries[2], entries, ending))
    assert superseded_by(rerun, entries) == (2, 3)

    left = [entries[0], entries[3]]
    for again in ([], [entry(5, f"w{end}", kind=kind), entry(6, "w", occurrence=1)]):
        cursor = Cursor(journal([*left, *again], (rerun,)))
        cursor.restore()
        found = []
        for name in ("w", f"w{end}", "w", "old"):
            answer = ask(cursor, name)
            found.append(answer.entry.position if isinstance(answer, Recorded) else 0)
            assert isinstance(answer, Recorded | Execute)
            if isinstance(answer, Recorded):
                cursor.use(answer.entry)
        assert cursor.finish() is None
        assert found == ([1, 5, 6, 4] if again else [1, 0, 0, 4])


def test_a_resolution_supersedes_tries_and_marks_with_the_entry() -> None:
    entries = [
        entry(1, "a", status=RETRIED),
        entry(2, "a"),
        entry(3, "a", status=UNSEEN),
        entry(4, "b", status=RETRIED),
    ]
    mismatch = Mismatch(message="", call=None, entry=2)
    assert superseded_by(resolve(DROP, mismatch, entries[1], 4), entries) == (1, 2, 3)
    assert superseded_by(resolve(RERUN, mismatch, entries[1], 4), entries) == (1, 2, 3)
    held = replace(mismatch, call=Call(identity=Identity(0, "", "b", None, 0)))
    assert superseded_by(resolve(ACCEPT, held, entries[1], 4), entries) == ()
    left = [e for e in entries if e.position == 3]  # an operator who superseded the outcome alone
    assert Cursor(journal(left)).finish() is None


def test_a_way_out_that_does_not_fit_is_refused() -> None:
    at_end = Mismatch(message="", call=None, entry=1)
    in_setup = Mismatch(message="", call=Call(identity=Identity(SETUP, "", "a", None, 0)), entry=1)
    later = Mismatch(message="", call=Call(identity=Identity(1, "", "a", None, 0)), entry=1)
    with pytest.raises(Refused, match="no call is at hand before"):
        resolve(INSERT, at_end, None, 1)
    with pytest.raises(Refused, match="no call is at hand that"):
        resolve(ACCEPT, at_end, entry(1, "a"), 1)
    with pytest.raises(Refused, match="over `restore`"):
        resolve(ACCEPT, in_setup, entry(1, "a"), 1)
    with pytest.raises(Refused, match="later segment"):
        resolve(ACCEPT, later, entry(1, "a"), 1)
    with pytest.raises(Refused, match="drop needs the number of an entry"):
        resolve(DROP, at_end, None, 1)


# --- what a retry undoes ------------------------------------------------------------------------------------


def test_a_retry_undoes_the_failure_its_tries_and_the_cleanup_after_it() -> None:
    entries = [
        entry(1, "a", SETUP),
        entry(2, "f", status=RETRIED),
        entry(3, "f", status=FAILED),
        entry(4, "undo"),
        entry(5, "x", scope=f"{G}/x"),  # a cleanup in a group
    ]
    assert superseded_by_retry(entries, [3]) == (2, 3, 4, 5)


def test_a_retry_keeps_ctx_once_but_for_the_failure_of_one() -> None:
    once = entry(3, "once", SETUP, key="k", kind=EntryKind.ONCE)
    entries = [entry(1, "a"), entry(2, "f", status=FAILED), once, entry(4, "u")]
    assert superseded_by_retry(entries, [2]) == (2, 4)
    failed = structs.replace(once, status=FAILED)
    tries = structs.replace(once, status=RETRIED, position=1)
    assert superseded_by_retry([tries, entry(2, "a"), failed, entry(4, "u")], [3]) == (1, 3)


def test_a_retry_of_a_failure_that_is_gone_undoes_nothing() -> None:
    assert superseded_by_retry([structs.replace(entry(1, "f", status=FAILED), superseded=True)], [1, 7]) == ()


def test_a_retry_undoes_a_failure_in_a_branch_and_the_unhappy_ends_of_its_siblings() -> None:
    entries = [
        entry(1, "a", scope=f"{G}/1"),
        entry(2, "b", scope=f"{G}/2", status=FAILED),  # handled: not its last
        entry(3, "c", scope=f"{G}/2"),
        entry(4, "f", scope=f"{G}/1", status=FAILED),
        entry(5, "d", scope=f"{G}/2", status=ABANDONED),
        entry(6, "e", scope=f"{G}/3"),
        entry(7, "g", scope=f"{G}/4", status=FAILED),
        entry(8, "undo", scope=f"{G}/1"),
        entry(9, "undo"),  # at the root, after the group
    ]
    assert superseded_by_retry(entries, [4]) == (4, 5, 7, 8, 9)


def test_a_retry_keeps_an_outcome_that_a_sibling_only_did_not_see() -> None:
    entries = [
        entry(1, "f", scope=f"{G}/1", status=FAILED),
        entry(2, "a", scope=f"{G}/2"),
        entry(3, "a", scope=f"{G}/2", status=UNSEEN),
        entry(4, "b", scope=f"{G}/3", status=FAILED),
        entry(5, "b", scope=f"{G}/3", status=UNSEEN),
    ]
    assert superseded_by_retry(entries, [1]) == (1, 3, 4, 5)


def test_a_retry_keeps_a_handled_failure_in_a_group_inside_a_sibling() -> None:
    inner = f"{G}/2/H.0.0"
    entries = [
        entry(1, "a", scope=f"{inner}/1", status=FAILED),
        entry(2, "b", scope=f"{inner}/2", status=ABANDONED),
        entry(3, "handle", scope=f"{G}/2"),
        entry(4, "f", scope=f"{G}/1", status=FAILED),
    ]
    assert superseded_by_retry(entries, [4]) == (4,)
    cancelled = [entry(3, "c", scope=f"{inner}/3", status=ABANDONED)]
    assert superseded_by_retry([*entries[:2], *cancelled, entries[3]], [4]) == (1, 2, 3, 4)


def test_a_retry_undoes_a_failure_of_a_nested_branch_up_to_the_root() -> None:
    inner = f"{G}/1/H.0.0"
    entries = [
        entry(1, "f", scope=f"{inner}/1", status=FAILED),
        entry(2, "a", scope=f"{inner}/2", status=ABANDONED),
        entry(3, "undo", scope=f"{G}/1"),
        entry(4, "b", scope=f"{G}/2", status=ABANDONED),
        entry(5, "c", scope=f"{G}/3"),
        entry(6, "undo", scope="Z.0.0/1"),
    ]
    assert superseded_by_retry(entries, [1]) == (1, 2, 3, 4, 6)


def timer(position: int, name: str, **where: Any) -> Entry:
    return entry(position, name, kind=EntryKind.TIMER, **where)


def test_a_retry_of_a_wait_that_was_in_vain_undoes_its_timer_and_no_other() -> None:
    entries = [
        timer(1, "go:timeout"),
        entry(2, "go"),  # came in time
        entry(3, "go", occurrence=1),  # without a time
        timer(4, "stop:timeout"),
        entry(5, "stop"),
        timer(6, "go:timeout", occurrence=1),
        timer(7, "go:timeout", scope=f"{G}/1"),
        entry(8, "go", status=FAILED, occurrence=2),
    ]
    assert superseded_by_retry(entries, [8]) == (6, 8)


def test_a_retry_lets_a_wait_without_a_time_alone_though_one_with_a_time_came_before() -> None:
    entries = [timer(1, "go:timeout"), entry(2, "go"), entry(3, "go", status=FAILED, occurrence=1)]
    assert superseded_by_retry(entries, [3]) == (3,)


def test_a_retry_gives_the_waits_of_siblings_their_whole_time_again() -> None:
    entries = [
        timer(1, "go:timeout", scope=f"{G}/1"),
        timer(2, "go:timeout", scope=f"{G}/2", key="k"),
        timer(3, "sleep", scope=f"{G}/3"),
        timer(4, "go:timeout", scope=f"{G}/4"),
        entry(5, "f", scope=f"{G}/0", status=FAILED),
        entry(6, "go", scope=f"{G}/1", status=ABANDONED),
        entry(7, "go", scope=f"{G}/2", key="k", status=FAILED),
        timer(8, "sleep", scope=f"{G}/3", status=UNSEEN),
        timer(9, "go:timeout", scope=f"{G}/4", status=UNSEEN),  # cut off while the time was recorded
    ]
    assert superseded_by_retry(entries, [5]) == (1, 2, 4, 5, 6, 7, 8, 9)


def test_a_retry_asks_a_siblings_question_anew_when_it_has_an_end_and_opens_it_again_when_it_has_none() -> (
    None
):
    entries = [
        entry(1, "approval:asked", scope=f"{G}/1", kind=EntryKind.APPROVAL),
        entry(2, "approval:asked", scope=f"{G}/2", kind=EntryKind.APPROVAL),
        entry(3, "f", scope=f"{G}/0", status=FAILED),
        entry(4, "approval", scope=f"{G}/1", kind=EntryKind.APPROVAL, status=ABANDONED),
        entry(5, "approval", scope=f"{G}/2", kind=EntryKind.APPROVAL, status=ABANDONED),
    ]
    assert superseded_by_retry(entries, [3], ending=[2]) == (2, 3, 4, 5)
