"""What is known of effects, what a retry leaves unknown, and which cursors a call may go on from."""

from __future__ import annotations

import pytest
from msgspec import structs
from msgspec.structs import replace

from holdfast.errors import InvalidTransition, Refused
from holdfast.model import (
    SETUP,
    Call,
    Entry,
    EntryKind,
    EntryStatus,
    Failure,
    FailureKind,
    Identity,
    Journal,
    Mismatch,
    Reason,
    Resolution,
    ResolutionKind,
    RunState,
    StepCursor,
)
from holdfast.rules import effects, transitions
from holdfast.rules.effects import EffectState
from holdfast.rules.journal import Blocked, Cursor, Execute, Recorded, Unknown, superseded_by
from tests.rules.runs import a_run

INTENDED, OK, FAILED = EntryStatus.INTENDED, EntryStatus.OK, EntryStatus.FAILED
RETRIED, ABANDONED, UNSEEN = EntryStatus.RETRIED, EntryStatus.ABANDONED, EntryStatus.UNSEEN


def identity(name: str = "pay", *, segment: int = 0, scope: str = "", occurrence: int = 0) -> Identity:
    return Identity(segment, scope, name, None, occurrence)


def journal(*told: tuple[str, EntryStatus] | Entry) -> list[Entry]:
    """Entries at the positions that follow each other."""
    entries: list[Entry] = []
    for position, one in enumerate(told, 1):
        if isinstance(one, tuple):
            one = Entry(identity(one[0]), EntryKind.STEP, one[1], b"null")
        entries.append(structs.replace(one, position=position))
    return entries


def cursor_over(entries: list[Entry], *resolutions: Resolution) -> Cursor:
    cursor = Cursor(Journal(checkpoint=None, entries=tuple(entries), resolutions=resolutions))
    cursor.restore()
    return cursor


def call(cursor: Cursor, name: str = "pay", args_hash: bytes = b"") -> Call:
    return Call(identity=cursor.identify("", name, None), args_hash=args_hash)


# --- the cursor -------------------------------------------------------------------------------------------------


def test_an_intent_without_an_outcome_is_unknown() -> None:
    cursor = cursor_over(journal(("pay", INTENDED)))
    answer = cursor.answer(call(cursor))
    assert isinstance(answer, Unknown)
    assert (answer.intent.position, answer.verdict) == (1, None)
    assert cursor.waiting
    cursor.take_up(identity())
    assert not cursor.waiting and cursor.finish() is None


@pytest.mark.parametrize("status", [OK, FAILED, ABANDONED])
def test_an_outcome_answers_in_the_place_of_its_intent(status: EntryStatus) -> None:
    cursor = cursor_over(journal(("pay", INTENDED), ("pay", status)))
    answer = cursor.answer(call(cursor))
    assert isinstance(answer, Recorded) and answer.entry.position == 2


def test_a_try_that_did_nothing_closes_its_intent() -> None:
    cursor = cursor_over(journal(("pay", INTENDED), ("pay", RETRIED)))
    assert isinstance(cursor.answer(call(cursor)), Execute)
    assert cursor.tries(identity()) == 1


def test_an_outcome_that_nobody_saw_is_abandoned_and_no_intent_is_left() -> None:
    cursor = cursor_over(journal(("pay", INTENDED), ("pay", OK), ("pay", UNSEEN)))
    answer = cursor.answer(call(cursor))
    assert isinstance(answer, Recorded) and answer.entry.status is ABANDONED


def test_only_the_newest_intent_counts_and_it_says_how_often_the_body_was_begun() -> None:
    cursor = cursor_over(journal(("pay", INTENDED), ("pay", RETRIED), ("pay", INTENDED), ("pay", INTENDED)))
    answer = cursor.answer(call(cursor))
    assert isinstance(answer, Unknown) and (answer.intent.position, answer.begun) == (4, 2)


@pytest.mark.parametrize("does", ["another call", "return", "checkpoint", "other arguments"])
def test_code_does_not_go_past_an_effect_in_doubt(does: str) -> None:
    (intent,) = journal(("pay", INTENDED))
    cursor = cursor_over([structs.replace(intent, args_hash=b"1")])
    found = {
        "another call": lambda: cursor.answer(call(cursor, "charge")),
        "return": cursor.finish,
        "checkpoint": cursor.checkpoint,
        "other arguments": lambda: cursor.answer(call(cursor, "pay", b"2")),
    }[does]()
    assert isinstance(found, Mismatch) and found.entry == 1


def test_an_effect_in_doubt_waits_for_its_recorded_siblings() -> None:
    group = "map pay.0.0"
    entries = journal(
        Entry(identity(scope=f"{group}/x"), EntryKind.STEP, INTENDED, b"null"),
        Entry(identity(scope=f"{group}/y"), EntryKind.STEP, OK, b"null"),
    )
    cursor = cursor_over(entries)
    cursor.open_branch(f"{group}/x")
    doubtful = Call(identity=cursor.identify(f"{group}/x", "pay", None))
    assert isinstance(cursor.answer(doubtful), Blocked)
    assert cursor.left(f"{group}/x")[0] is INTENDED
    assert cursor.left("nowhere") == []
    cursor.open_branch(f"{group}/y")
    assert isinstance(cursor.answer(doubtful), Unknown)


def test_a_race_that_is_decided_spends_the_intents_of_its_losers() -> None:
    cursor = cursor_over(journal(Entry(identity(scope="race.0.0/x"), EntryKind.STEP, INTENDED, b"null")))
    cursor.spend("race.0.0")
    assert cursor.finish() is None


def verdict(kind: ResolutionKind, position: int = 1, after: int = 9) -> Resolution:
    return Resolution(kind=kind, position=position, after=after)


def test_a_verdict_speaks_of_its_intent_only() -> None:
    done = verdict(ResolutionKind.DONE)
    cursor = cursor_over(journal(("pay", INTENDED)), done)
    answer = cursor.answer(call(cursor))
    assert isinstance(answer, Unknown) and answer.verdict == done
    cursor = cursor_over(
        journal(("pay", INTENDED), ("pay", INTENDED)), verdict(ResolutionKind.NOT_DONE, 1, 1)
    )
    answer = cursor.answer(call(cursor))
    assert isinstance(answer, Unknown) and answer.verdict is None


def reopening(*positions: int, after: int = 9, kind: ResolutionKind = ResolutionKind.REOPEN) -> Resolution:
    return Resolution(kind=kind, reopened=positions, after=after)


def test_a_reopened_effect_is_unknown_when_code_comes_by_and_in_nobodys_way() -> None:
    cursor = cursor_over(journal(("pay", INTENDED)), reopening(1))
    assert isinstance(cursor.answer(call(cursor, "before")), Execute)
    answer = cursor.answer(call(cursor))
    assert isinstance(answer, Unknown) and answer.intent.position == 1
    cursor.take_up(identity())
    assert isinstance(cursor.answer(Call(identity=identity())), Execute)
    assert cursor.finish() is None
    assert cursor.unaccounted() is None


def test_a_new_outcome_forgets_that_the_effect_was_reopened() -> None:
    entries = journal(("pay", INTENDED), ("pay", INTENDED), ("pay", OK))
    cursor = cursor_over(entries, reopening(1, 7, after=1))
    assert isinstance(cursor.answer(call(cursor)), Recorded)


def test_effects_of_a_superseded_tail_are_accounted_for_one_by_one() -> None:
    kind = ResolutionKind.FROM_CHECKPOINT
    entries = journal(("pay", INTENDED), ("refund", INTENDED))
    cursor = cursor_over(entries, reopening(1, 2, kind=kind), verdict(ResolutionKind.DONE, 1))
    orphan = cursor.unaccounted()
    assert orphan is not None and orphan.position == 2
    cursor.take_up(identity("refund"))
    assert cursor.unaccounted() is None


def test_behind_a_checkpoint_call_a_reopened_effect_is_forgotten() -> None:
    cursor = cursor_over(journal(("pay", INTENDED)), reopening(1, kind=ResolutionKind.FROM_CHECKPOINT))
    assert cursor.unaccounted() is not None
    assert cursor.checkpoint() is None
    assert cursor.unaccounted() is None
    assert cursor.checkpoint() is None


def test_a_reopened_effect_follows_its_call_when_others_are_inserted() -> None:
    insert = Resolution(kind=ResolutionKind.INSERT, position=2, call=Call(identity=identity()), after=2)
    cursor = cursor_over(journal(("pay", INTENDED), ("other", OK)), reopening(1, after=1), insert)
    inserted = call(cursor)
    assert isinstance(cursor.answer(inserted), Execute)
    assert cursor.nonce(inserted.identity) == 2
    assert cursor.nonce(identity("other")) == 0
    other = cursor.answer(call(cursor, "other"))
    assert isinstance(other, Recorded)
    cursor.use(other.entry)
    assert isinstance(cursor.answer(Call(identity=identity(occurrence=1))), Unknown)


def accept(position: int, new: str, recorded: str = "pay") -> Resolution:
    return Resolution(
        kind=ResolutionKind.ACCEPT,
        position=position,
        call=Call(identity=identity(new)),
        after=2,
        recorded=identity(recorded),
        before=position,
    )


def test_an_accepted_intent_goes_by_the_new_name() -> None:
    cursor = cursor_over(journal(("pay", INTENDED)), accept(1, "charge"))
    assert isinstance(cursor.answer(call(cursor, "charge")), Unknown)


def test_an_accepted_outcome_that_was_superseded_leaves_its_intent_by_the_new_name() -> None:
    cursor = cursor_over(journal(("pay", INTENDED)), accept(2, "charge"), reopening(1))
    assert isinstance(cursor.answer(call(cursor, "charge")), Unknown)
    assert isinstance(cursor.answer(Call(identity=identity())), Execute)


def test_an_accepted_outcome_without_an_intent_leaves_nothing() -> None:
    cursor = cursor_over(journal(("other", OK)), accept(2, "charge"), accept(3, "charge", "other"))
    assert isinstance(cursor.answer(call(cursor, "other")), Recorded)


# --- what is superseded -----------------------------------------------------------------------------------------


def test_a_superseded_outcome_leaves_its_intent_unknown() -> None:
    entries = journal(("work", FAILED), ("pay", INTENDED), ("pay", OK))
    superseded, resolution = effects.superseding(None, entries, (1, 2, 3), 3)
    assert superseded == (1, 3)
    assert resolution == Resolution(kind=ResolutionKind.REOPEN, reopened=(2,), after=3)


def test_tries_that_did_nothing_leave_nothing_unknown() -> None:
    entries = journal(("pay", INTENDED), ("pay", RETRIED), ("pay", FAILED))
    assert effects.superseding(None, entries, (1, 2, 3), 3) == ((1, 2, 3), None)


def test_what_is_outside_all_order_or_superseded_already_reopens_nothing() -> None:
    once = Entry(identity("once"), EntryKind.ONCE, OK, b"null")
    gone = Entry(identity(), EntryKind.STEP, INTENDED, b"null", superseded=True)
    assert effects.reopened(journal(once, gone, ("pay", OK)), (1, 3)) == ()


def test_from_checkpoint_names_what_it_reopens() -> None:
    given = Resolution(kind=ResolutionKind.FROM_CHECKPOINT, after=2)
    superseded, resolution = effects.superseding(given, journal(("pay", INTENDED), ("pay", OK)), (1, 2), 2)
    assert superseded == (2,)
    assert resolution == replace(given, reopened=(1,))


@pytest.mark.parametrize("kind", [ResolutionKind.DROP, ResolutionKind.RERUN])
def test_a_way_out_that_names_an_effect_forgets_its_intent(kind: ResolutionKind) -> None:
    entries = journal(("pay", INTENDED), ("pay", OK))
    way = Resolution(kind=kind, position=2, recorded=identity(), call=Call(identity=identity()))
    assert superseded_by(way, entries) == (1, 2)


# --- what is known ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (OK, EffectState.DONE),
        (FAILED, EffectState.FAILED),
        (ABANDONED, EffectState.ABANDONED),
        (UNSEEN, EffectState.ABANDONED),
        (RETRIED, EffectState.NOT_DONE),
    ],
)
def test_the_state_of_an_effect_is_what_followed_its_intent(status: EntryStatus, state: EffectState) -> None:
    (effect,) = effects.effects_of(journal(("other", OK), ("pay", INTENDED), ("pay", status)), None)
    assert (effect.intent.position, effect.state) == (2, state)
    assert effect.outcome is None or effect.outcome.position == 3


def test_an_effect_is_in_flight_only_in_the_attempt_that_runs_now() -> None:
    (intent,) = journal(("pay", INTENDED))
    intent = structs.replace(intent, token=4)
    assert [one.state for one in effects.effects_of([intent], 4)] == [EffectState.IN_FLIGHT]
    assert [one.state for one in effects.effects_of([intent], 5)] == [EffectState.UNKNOWN]
    assert effects.effects_of([structs.replace(intent, superseded=True)], 5) == []


def test_a_superseded_outcome_is_shown_beside_the_effect_that_it_leaves_unknown() -> None:
    intent, done = journal(("pay", INTENDED), ("pay", OK))
    done = structs.replace(done, superseded=True)
    again = structs.replace(intent, position=3)
    (effect,) = effects.effects_of([intent, done, again], None)
    assert (effect.intent.position, effect.state, effect.outcome) == (3, EffectState.UNKNOWN, done)


def test_only_an_unknown_effect_is_settled() -> None:
    entries = journal(("pay", INTENDED), ("refund", INTENDED), ("refund", OK))
    settled = effects.settle(ResolutionKind.DONE, 1, b"1", entries, 3)
    assert settled == Resolution(kind=ResolutionKind.DONE, position=1, payload=b"1", after=3)
    with pytest.raises(Refused, match=r"an effect that is done.*unknown are: 1"):
        effects.settle(ResolutionKind.DONE, 2, b"1", entries, 3)
    with pytest.raises(Refused, match=r"no effect.*unknown are: none"):
        effects.settle(ResolutionKind.DONE, 3, b"1", entries[1:], 3)


# --- the run ------------------------------------------------------------------------------------------------------


def test_a_run_goes_on_when_the_effect_that_it_is_held_for_is_settled() -> None:
    failure = Failure(kind=FailureKind.UNKNOWN, type="EffectUnknown", message="?", entries=(4,))
    held = a_run(RunState.WAITING, Reason.EFFECT_UNKNOWN, failure=failure)
    other = transitions.settle_effect(held, 5, resolution=verdict(ResolutionKind.DONE, 3))
    assert (other.run, [note.type for note in other.notes]) == (held, ["effect.settled"])
    mine = transitions.settle_effect(held, 5, resolution=verdict(ResolutionKind.DONE, 4))
    assert (mine.run.state, mine.run.failure, mine.run.available_at_us) == (RunState.QUEUED, None, 5)
    assert [note.type for note in mine.notes] == ["effect.settled", "run.queued"]
    unnamed = transitions.settle_effect(
        structs.replace(held, failure=None), 5, resolution=verdict(ResolutionKind.DONE)
    )
    assert unnamed.run.state is RunState.QUEUED
    with pytest.raises(InvalidTransition, match="holdfast approve r-1 4"):
        transitions.resume(held, 5)
    with pytest.raises(InvalidTransition, match="holdfast approve r-1 ENTRY"):
        transitions.resume(structs.replace(held, failure=None), 5)
    with pytest.raises(InvalidTransition, match="told what became of an effect"):
        transitions.settle_effect(
            structs.replace(held, reason=Reason.PAUSED), 5, resolution=verdict(ResolutionKind.DONE)
        )


# --- cursors ------------------------------------------------------------------------------------------------------


def place(name: str = "crawl", *, segment: int = 0, position: int = 5) -> StepCursor:
    return StepCursor(identity=identity(name, segment=segment), args_hash=b"", cursor=b"1", position=position)


def test_a_call_goes_on_from_its_cursor() -> None:
    assert effects.usable([place()], ()) == {place().identity: place()}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (Resolution(kind=ResolutionKind.FROM_CHECKPOINT, after=5), False),
        (Resolution(kind=ResolutionKind.FROM_CHECKPOINT, after=4), True),
        (Resolution(kind=ResolutionKind.DROP, recorded=identity("crawl", occurrence=3), after=5), False),
        (Resolution(kind=ResolutionKind.DROP, recorded=identity("other"), after=5), True),
        (Resolution(kind=ResolutionKind.INSERT, call=Call(identity=identity("crawl")), after=5), False),
        (Resolution(kind=ResolutionKind.INSERT, call=Call(identity=identity("crawl")), after=4), True),
        (verdict(ResolutionKind.DONE), True),
    ],
)
def test_a_cursor_from_before_a_way_out_may_be_another_calls(given: Resolution, kept: bool) -> None:
    assert bool(effects.usable([place()], [given])) is kept


def test_a_cursor_of_the_setup_stays_when_the_tail_is_superseded() -> None:
    given = Resolution(kind=ResolutionKind.FROM_CHECKPOINT, after=9)
    assert effects.usable([place(segment=SETUP)], [given])
