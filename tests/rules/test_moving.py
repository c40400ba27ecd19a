"""What may be moved, and which lines a run can have."""

from __future__ import annotations

import pytest
from msgspec import Raw
from msgspec.structs import replace

from holdfast.errors import InvalidExport, InvalidTransition, Refused
from holdfast.model import EntryKind, EntryStatus, Reason, Resolution, ResolutionKind, RunState, Unit
from holdfast.model.approvals import ApprovalStatus
from holdfast.model.moving import (
    MovedAccount,
    MovedApproval,
    MovedArtifact,
    MovedBudget,
    MovedCheckpoint,
    MovedCursor,
    MovedEntry,
    MovedEvent,
    MovedHistory,
    MovedLane,
    MovedProgress,
    MovedResolution,
    MovedRun,
    MovedSignal,
    MovedTag,
    PartOfRun,
    json_or_base64,
    payload_of,
)
from holdfast.rules.moving import RunCheck, check_run, check_unchanged, stands_still
from holdfast.rules.transitions import check_whole
from tests.rules.runs import a_run as run

RUN = MovedRun(
    id="r",
    agent="a",
    version="1",
    created_at_us=1,
    state=RunState.WAITING,
    reason=Reason.PAUSED,
    input=Raw(b"{}"),
)
DONE = replace(RUN, state=RunState.SUCCEEDED, reason=None, finished_at_us=2)
HASH = "0" * 64


def event(n: int) -> MovedEvent:
    return MovedEvent(n=n, at_us=1, type="log", payload=Raw(b"1"))


def entry(n: int, position: int) -> MovedEntry:
    return MovedEntry(
        n=n, at_us=1, type="step.finished", position=position, kind=EntryKind.STEP, status=EntryStatus.OK,
        segment=0, name="s", payload=Raw(b"1"),
    )  # fmt: skip


def approval(n: int) -> MovedApproval:
    return MovedApproval(
        n=n, segment=0, question_hash=b"h", question="?", options=("yes",), status=ApprovalStatus.OPEN, asked_at_us=1,
        context=Raw(b"1"),
    )  # fmt: skip


ALL: list[PartOfRun] = [
    MovedTag(name="a"),
    MovedTag(name="b"),
    MovedLane(key="k", at_most=1),
    MovedBudget(soft_percent=80, units=(MovedAccount(unit=Unit.USD, used=1),)),
    MovedProgress(current=1, started_at_us=1, updated_at_us=1),
    MovedHistory(samples=Raw(b"[]")),
    MovedResolution(n=1, resolution=Resolution(kind=ResolutionKind.DROP)),
    MovedCursor(identity="[]", at_us=1, cursor=Raw(b"1")),
    approval(1),
    approval(3),
    MovedSignal(n=1, name="go", at_us=1, payload=Raw(b"1")),
    MovedCheckpoint(
        n=1, segment=1, at_us=1, event_no=1, keep=1, now_us=0, size_bytes=2, sha256=HASH, state=Raw(b"{}")
    ),
    event(1),
    entry(2, 1),
    event(3),
    MovedArtifact(position=1, name="x", content=HASH, media_type="a/b", at_us=1),
]


def check(run: MovedRun, *parts: PartOfRun) -> None:
    taken = RunCheck(run)
    for part in parts:
        taken.take(part)
    taken.end()


# --- which ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED])
def test_a_run_that_ended_stands_still(state: RunState) -> None:
    assert stands_still(run(state=state))


@pytest.mark.parametrize("state", [RunState.QUEUED, RunState.RUNNING])
def test_a_run_that_is_queued_or_executed_does_not(state: RunState) -> None:
    assert not stands_still(run(state=state))


WAITS_FOR_NOBODY = {
    Reason.PAUSED, Reason.PARKED, Reason.LOOP, Reason.BUDGET, Reason.POISON, Reason.MISMATCH, Reason.CHECKPOINT_LOST,
    Reason.EFFECT_UNKNOWN, Reason.DISK,
}  # fmt: skip


@pytest.mark.parametrize("reason", list(Reason))
def test_a_waiting_run_stands_still_when_only_a_person_lets_it_go_on(reason: Reason) -> None:
    waiting = replace(run(state=RunState.WAITING, reason=reason), available_at_us=None)
    assert stands_still(waiting) is (reason in WAITS_FOR_NOBODY)
    assert not stands_still(replace(waiting, available_at_us=5))


def test_a_signal_does_not_change_a_run_that_stands_still() -> None:
    before = run(state=RunState.WAITING, reason=Reason.PAUSED)
    check_unchanged(before, replace(before, inbox_no=7))


@pytest.mark.parametrize(
    "change",
    [{"state": RunState.QUEUED, "reason": None}, {"token": 9}, {"event_no": 99}, {"available_at_us": 5}],
    ids=str,
)
def test_a_run_that_moved_is_named(change: dict[str, object]) -> None:
    before = replace(run(state=RunState.WAITING, reason=Reason.PAUSED), available_at_us=None)
    with pytest.raises(Refused, match=f"run {before.id} was changed while it was exported: it was waiting"):
        check_unchanged(before, replace(before, **change))


def test_a_run_that_is_being_imported_is_not_to_be_changed() -> None:
    check_whole(run(state=RunState.QUEUED))
    with pytest.raises(InvalidTransition, match="holdfast import FILE"):
        check_whole(run(state=RunState.QUEUED, reason=Reason.IMPORTING))


# --- lines ------------------------------------------------------------------------------------------------------


def test_a_run_with_every_kind_of_line_is_taken() -> None:
    check(replace(RUN, event_no=3, position=1), *ALL)
    check(DONE)


@pytest.mark.parametrize("at", range(len(ALL) - 1))
def test_lines_that_are_swapped_are_refused(at: int) -> None:
    parts = [*ALL[:at], ALL[at + 1], ALL[at], *ALL[at + 2 :]]
    if isinstance(ALL[at], MovedTag) and isinstance(ALL[at + 1], MovedTag):
        return  # nothing follows from the order of tags; the hash tells
    with pytest.raises(InvalidExport, match="run r: "):
        check(replace(RUN, event_no=3, position=1), *parts)


@pytest.mark.parametrize(
    "at", [at for at, part in enumerate(ALL) if not isinstance(part, MovedTag | MovedCursor)]
)
def test_a_line_that_stands_twice_is_refused(at: int) -> None:
    with pytest.raises(InvalidExport, match="run r: "):
        check(replace(RUN, event_no=3, position=1), *ALL[: at + 1], *ALL[at:])


def test_a_gap_between_entries_is_refused() -> None:
    with pytest.raises(InvalidExport, match="entry 2 stands where entry 1 belongs"):
        check(replace(RUN, event_no=1, position=1), entry(1, 2))


@pytest.mark.parametrize("counters", [(2, 1), (1, 0), (3, 1)])
def test_a_run_has_as_many_events_as_it_says(counters: tuple[int, int]) -> None:
    events, entries = counters
    with pytest.raises(InvalidExport, match="here stand 1 and 1"):
        check(replace(RUN, event_no=events, position=entries), entry(1, 1))


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (replace(RUN, id=""), "1 to 200 characters"),
        (replace(RUN, id="a b"), "no spaces"),
        (MovedRun(id="r", agent="a", version="1", created_at_us=1, state=RunState.WAITING, reason=Reason.PAUSED),
         "no input"),
        (replace(RUN, state=RunState.QUEUED, reason=None), "only runs that stand still"),
        (replace(RUN, state=RunState.RUNNING, reason=None), "only runs that stand still"),
        (replace(RUN, reason=Reason.SLEEP), "only runs that stand still"),
        (replace(RUN, reason=None), "only runs that stand still"),
        (replace(RUN, finished_at_us=1), "its end"),
        (replace(DONE, finished_at_us=None), "its end"),
        (replace(RUN, position=2, event_no=1), "counters disagree"),
        (replace(RUN, claimed_position=2, position=1, event_no=1), "counters disagree"),
    ],
)  # fmt: skip
def test_a_run_that_cannot_be_is_refused(wrong: MovedRun, why: str) -> None:
    with pytest.raises(InvalidExport, match=why):
        check_run(wrong)


def test_a_payload_stands_as_json_when_that_keeps_every_byte() -> None:
    for payload in (b"{}", b'{"a":  [1, 2.50]}', b"1e400", '"é"'.encode()):
        json, base64 = json_or_base64(payload)
        assert (bytes(memoryview(json)), base64) == (payload, None)
        assert payload_of(json, base64) == payload


def test_any_other_payload_stands_as_base64() -> None:
    for payload in (b"", b" {}", b"{} ", b"[1,\n2]", b"NaN", b"\xff", b'"\xff"', b'"\\ud800"', b"{"):
        json, base64 = json_or_base64(payload)
        assert (bytes(memoryview(json)), base64) == (b"", payload)
        assert payload_of(json, base64) == payload
