"""Promises about approvals: a question is durable with its entry, is answered once, and wakes its run."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import msgspec.json
import pytest
from msgspec import structs
from msgspec.structs import replace

from holdfast.errors import ApprovalNotFound, HoldfastError, Refused, RunNotFound, UsageError
from holdfast.model import (
    Answer,
    ApprovalOutcome,
    ApprovalRecord,
    ApprovalStatus,
    Beside,
    CloseApproval,
    Committed,
    Entry,
    EntryKind,
    EntryStatus,
    Failed,
    NewApproval,
    NewSignal,
    Park,
    Reason,
    RefusedChange,
    RunFilter,
    RunState,
    Succeeded,
)
from holdfast.rules.approvals import signal_name
from holdfast.rules.transitions import cancel, pause, retry
from holdfast.store.protocol import Store
from holdfast.testing.conformance.claims import claimed_ids
from holdfast.testing.conformance.place import (
    FAILURE,
    SECOND_US,
    Attempt,
    Place,
    Promises,
    commit_one,
    event_types,
    fingerprint,
    new_run,
    register,
    save,
    start,
    step,
    take,
)

QUESTION = NewApproval(
    question_hash=b"h", segment=0, question="Deploy?", options=("yes", "no"), context=b'{"to":"reef"}'
)
YES = Answer(question_hash=b"h", choice="yes", by="ann", comment="go")
NO = replace(YES, choice="no", by="bob")


def asking(occurrence: int = 0, *, segment: int = 0) -> Entry:
    """The entry of a question."""
    return step("approval:asked", kind=EntryKind.APPROVAL, occurrence=occurrence, segment=segment)


async def along(attempt: Attempt, entry: Entry | None, *things: Beside) -> None:
    """Commit an entry with what stands beside it."""
    change = attempt.change(*(() if entry is None else (entry,)))
    answer = await commit_one(attempt.store, structs.replace(change, beside=things))
    assert isinstance(answer, Committed), answer
    attempt.position = answer.position


async def ask(attempt: Attempt, **changes: Any) -> int:
    """Ask the question, changed so; its number."""
    number = attempt.position
    await along(attempt, asking(number), structs.replace(QUESTION, **changes))
    return attempt.position


def wait(n: int, until_us: int | None = None) -> Park:
    """Park for the answer to question `n`, nothing of the inbox seen."""
    return Park(reason=Reason.APPROVAL, wait_name=signal_name(n), until_us=until_us)


async def asked(store: Store, run_id: str = "r") -> list[ApprovalStatus]:
    """The statuses of the run's questions."""
    return [one.status for one in await store.list_approvals(run_id)]


async def verdicts(store: Store, attempt: Attempt) -> list[tuple[str, str | None]]:
    """The names and choices of the answers in the inbox."""
    _, signals = await store.read_inbox(attempt.run.key)
    return [
        (one.name, msgspec.json.decode(one.payload, type=ApprovalOutcome).choice)
        for one in signals
        if one.name.startswith("holdfast:approval/")
    ]


class ApprovalPromises(Promises):
    """What the store promises about approvals."""

    async def test_a_question_is_there_with_its_entry_and_only_then(self, store: Store, place: Place) -> None:
        attempt = await start(store, await register(store))
        now_us = place.clock.wall_us()
        refused = structs.replace(attempt.change(asking()), beside=(QUESTION,), position=7)
        assert isinstance(await commit_one(store, refused), RefusedChange)
        assert await store.list_approvals("r") == await store.list_open_approvals(10) == []
        n = await ask(attempt, expires_at_us=now_us + 9, escalate_at_us=now_us + 5, escalate_to="ops")
        (found,) = await (await place.open()).list_open_approvals(10)
        assert found == ApprovalRecord(
            run="r",
            agent=attempt.run.agent,
            n=n,
            question_hash=b"h",
            question="Deploy?",
            options=("yes", "no"),
            context=b'{"to":"reef"}',
            status=ApprovalStatus.OPEN,
            asked_at_us=now_us,
            expires_at_us=now_us + 9,
            escalate_at_us=now_us + 5,
            escalate_to="ops",
        )

    async def test_an_answer_is_kept_wakes_the_run_and_is_told(self, store: Store, place: Place) -> None:
        worker = await register(store)
        attempt = await start(store, worker)
        n = await ask(attempt)
        await attempt.settle(wait(n))
        assert await claimed_ids(store, worker) == []
        answered = await store.answer_approval("r", n, YES)
        assert (answered.status, answered.choice, answered.answered_by, answered.comment) == (
            ApprovalStatus.ANSWERED,
            "yes",
            "ann",
            "go",
        )
        assert answered.answered_at_us == place.clock.wall_us()
        assert await store.list_approvals("r") == [answered]
        assert await store.list_open_approvals(10) == []
        assert await claimed_ids(store, worker) == ["r"]
        assert await verdicts(store, attempt) == [(signal_name(n), "yes")]
        assert (await event_types(store, "r"))[-2:] == ["approval.answered", "run.running"]

    @pytest.mark.parametrize("given_first", [True, False])
    async def test_no_wake_is_lost_in_a_race_of_answer_and_park(
        self, store: Store, place: Place, given_first: bool
    ) -> None:
        other = await place.open()
        worker = await register(store)
        for number in range(12):
            run_id = f"r{number}"
            attempt = await start(store, worker, run_id)
            n = await ask(attempt)
            park = attempt.commit(outcome=wait(n))
            give = other.answer_approval(run_id, n, YES)
            await asyncio.gather(*((give, park) if given_first else (park, give)))
            assert await claimed_ids(store, worker) == [run_id]

    async def test_the_same_answer_again_changes_nothing_and_another_one_is_refused(
        self, store: Store
    ) -> None:
        attempt = await start(store, await register(store))
        n = await ask(attempt)
        first = await store.answer_approval("r", n, YES)
        before = await fingerprint(store, "r")
        assert await store.answer_approval("r", n, replace(YES, by="bob")) == first
        with pytest.raises(Refused, match="ann said 'yes'"):
            await store.answer_approval("r", n, NO)
        assert await fingerprint(store, "r") == before
        assert await store.list_approvals("r") == [first]

    async def test_of_two_people_who_answer_at_once_one_is_told_of_the_other(
        self, store: Store, place: Place
    ) -> None:
        other = await place.open()
        attempt = await start(store, await register(store))
        for _ in range(6):
            n = await ask(attempt)
            answers = await asyncio.gather(
                store.answer_approval("r", n, YES),
                other.answer_approval("r", n, NO),
                return_exceptions=True,
            )
            given = [one for one in answers if isinstance(one, ApprovalRecord)]
            assert len(given) == 1
            assert sum(isinstance(one, Refused) for one in answers) == 1
            assert (await verdicts(store, attempt))[-1] == (signal_name(n), given[0].choice)
        assert len(await verdicts(store, attempt)) == 6

    async def test_what_is_no_answer_changes_nothing(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        n = await ask(attempt)
        before = await fingerprint(store, "r")
        wrong: list[tuple[str, int, Answer, type[HoldfastError]]] = [
            ("nobody", n, YES, RunNotFound),
            ("r", n + 1, YES, ApprovalNotFound),
            ("r", n, replace(YES, choice="maybe"), UsageError),
            ("r", n, replace(YES, question_hash=b"as it was"), Refused),
        ]
        for run_id, number, answer, error in wrong:
            with pytest.raises(error):
                await store.answer_approval(run_id, number, answer)
        assert await fingerprint(store, "r") == before
        assert await asked(store) == [ApprovalStatus.OPEN]

    async def test_after_its_end_a_question_is_neither_listed_nor_answered(
        self, store: Store, place: Place
    ) -> None:
        attempt = await start(store, await register(store))
        n = await ask(attempt, expires_at_us=place.clock.wall_us() + SECOND_US)
        place.clock.advance(SECOND_US - 1)
        assert len(await store.list_open_approvals(10)) == 1
        place.clock.advance(1)
        assert await store.list_open_approvals(10) == []
        with pytest.raises(Refused, match="too late"):
            await store.answer_approval("r", n, YES)
        assert await verdicts(store, attempt) == []

    async def test_the_store_decides_once_between_the_answer_and_the_end(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        answered, late = await ask(attempt), await ask(attempt)
        await store.answer_approval("r", answered, YES)
        for n in (answered, late, late):
            await along(attempt, None, CloseApproval(n=n, status=ApprovalStatus.EXPIRED))
        assert await asked(store) == [ApprovalStatus.ANSWERED, ApprovalStatus.EXPIRED]
        assert await verdicts(store, attempt) == [(signal_name(answered), "yes"), (signal_name(late), None)]
        with pytest.raises(Refused, match="expired"):
            await store.answer_approval("r", late, YES)

    async def test_a_question_that_the_code_went_past_is_not_answered(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        n = await ask(attempt)
        gone = step("approval", kind=EntryKind.APPROVAL, status=EntryStatus.ABANDONED, payload=b"null")
        await along(attempt, gone, CloseApproval(n=n, status=ApprovalStatus.WITHDRAWN))
        with pytest.raises(Refused, match="withdrawn"):
            await store.answer_approval("r", n, YES)
        assert await store.list_open_approvals(10) == []

    async def test_a_checkpoint_withdraws_what_was_asked_before_it(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        await ask(attempt)
        await attempt.commit(step(), checkpoint=save(segment=1))
        await ask(attempt, segment=1, question_hash=b"i")
        assert await asked(store) == [ApprovalStatus.WITHDRAWN, ApprovalStatus.OPEN]
        events = await store.read_events("r", 0, 100)
        assert [one.n for one in events] == list(range(1, len(events) + 1))
        assert "approval.withdrawn" in [one.type for one in events]
        await attempt.commit(step(occurrence=5))

    @pytest.mark.parametrize("ending", ["done", "failed", "cancelled"])
    async def test_a_run_that_ends_withdraws_its_questions_and_a_retry_asks_them_again(
        self, store: Store, ending: str
    ) -> None:
        worker = await register(store)
        attempt = await start(store, worker)
        answered, n = await ask(attempt), await ask(attempt, question_hash=b"i")
        await store.answer_approval("r", answered, YES)
        if ending == "cancelled":
            await store.update_run("r", cancel)
        else:
            await attempt.settle(Succeeded(result=b"1") if ending == "done" else Failed(failure=FAILURE))
        assert await asked(store) == [ApprovalStatus.ANSWERED, ApprovalStatus.WITHDRAWN]
        assert await store.list_open_approvals(10) == []
        with pytest.raises(Refused, match="withdrawn"):
            await store.answer_approval("r", n, replace(YES, question_hash=b"i"))
        if ending == "done":
            return
        await store.update_run("r", retry)
        assert await asked(store) == [ApprovalStatus.ANSWERED, ApprovalStatus.OPEN]
        await store.answer_approval("r", n, replace(YES, question_hash=b"i"))
        told = [kind for kind in await event_types(store, "r") if kind.startswith("approval.")]
        assert told == ["approval.answered", "approval.withdrawn", "approval.asked", "approval.answered"]

    async def test_superseding_the_entry_that_asked_withdraws_the_question(self, store: Store) -> None:
        worker = await register(store)
        attempt = await start(store, worker)
        n = await ask(attempt)
        await attempt.settle(Failed(failure=FAILURE))
        await store.update_run("r", lambda run, now: retry(run, now, supersede=(n,)))
        assert await asked(store) == [ApprovalStatus.WITHDRAWN]
        again = await take(store, worker)
        m = await ask(again)
        assert await asked(store) == [ApprovalStatus.WITHDRAWN, ApprovalStatus.OPEN]
        with pytest.raises(Refused, match="withdrawn"):
            await store.answer_approval("r", n, YES)
        await store.answer_approval("r", m, YES)

    async def test_superseding_what_went_past_a_question_opens_it_again(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        n = await ask(attempt)
        gone = step("approval", kind=EntryKind.APPROVAL, status=EntryStatus.ABANDONED, payload=b"null")
        await along(attempt, gone, CloseApproval(n=n, status=ApprovalStatus.WITHDRAWN))
        await attempt.settle(Failed(failure=FAILURE))
        await store.update_run("r", lambda run, now: retry(run, now, supersede=(n + 1,)))
        assert await asked(store) == [ApprovalStatus.OPEN]
        assert (await store.answer_approval("r", n, YES)).choice == "yes"

    async def test_the_same_question_asked_again_has_the_answer_that_was_given(self, store: Store) -> None:
        worker = await register(store)
        attempt = await start(store, worker)
        n = await ask(attempt)
        await store.answer_approval("r", n, YES)
        outcome = step("approval", kind=EntryKind.APPROVAL, signal=1)
        await attempt.commit(outcome)
        await attempt.settle(Failed(failure=FAILURE))
        await store.update_run("r", lambda run, now: retry(run, now, supersede=(n, n + 1)))
        again = await take(store, worker)
        same = await ask(again)
        other = await ask(again, question_hash=b"of another context")
        first, second, third = await store.list_approvals("r")
        assert replace(second, n=n) == replace(first, asked_at_us=second.asked_at_us)
        assert third.status is ApprovalStatus.OPEN
        assert (signal_name(same), "yes") in await verdicts(store, again)
        assert signal_name(other) not in dict(await verdicts(store, again))

    async def test_an_overdue_question_is_marked_once_by_many_controllers(
        self, store: Store, place: Place
    ) -> None:
        worker = await register(store)
        controllers = [store, await place.open(), await place.open()]
        now_us = place.clock.wall_us()
        for number in range(5):
            attempt = await start(store, worker, f"r{number}")
            n = await ask(attempt, escalate_at_us=now_us + SECOND_US, escalate_to="ops")
            if number == 3:
                await store.answer_approval("r3", n, YES)
            if number == 4:
                await store.update_run("r4", cancel)
        await asyncio.gather(*(each.sweep(10) for each in controllers))
        assert not any(one.escalated for one in await store.list_open_approvals(10))
        place.clock.advance(SECOND_US)
        await asyncio.gather(*(each.sweep(10) for each in controllers))
        await asyncio.gather(*(each.sweep(10) for each in controllers))
        for number in range(5):
            told = (await event_types(store, f"r{number}")).count("approval.escalated")
            assert told == (number < 3)
        assert [one.escalated for one in await store.list_open_approvals(10)] == [True] * 3
        assert (await store.get_run("r0")).state is RunState.RUNNING
        assert (await store.get_run("r0")).attempts == 1

    async def test_a_sweep_marks_no_more_questions_than_its_limit(self, store: Store, place: Place) -> None:
        attempt = await start(store, await register(store))
        for _ in range(5):
            await ask(attempt, escalate_at_us=place.clock.wall_us())
        assert await store.sweep(2) == 2
        assert sum(one.escalated for one in await store.list_open_approvals(10)) == 2

    async def test_open_questions_are_listed_the_overdue_first_then_as_they_were_asked(
        self, store: Store, place: Place
    ) -> None:
        worker = await register(store)
        for run_id in ("a", "b", "c"):
            attempt = await start(store, worker, run_id)
            await ask(attempt, escalate_at_us=place.clock.wall_us() if run_id == "b" else None)
            place.clock.advance(SECOND_US)
        await store.sweep(10)
        assert [one.run for one in await store.list_open_approvals(10)] == ["b", "a", "c"]
        assert [one.run for one in await store.list_open_approvals(2)] == ["b", "a"]

    async def test_a_paused_run_keeps_its_question_and_its_answer(self, store: Store) -> None:
        worker = await register(store)
        attempt = await start(store, worker)
        n = await ask(attempt)
        await attempt.settle(wait(n))
        await store.update_run("r", pause)
        await store.answer_approval("r", n, YES)
        assert await claimed_ids(store, worker) == []
        assert await verdicts(store, attempt) == [(signal_name(n), "yes")]

    async def test_runs_are_listed_by_what_they_wait_for(self, store: Store) -> None:
        worker = await register(store)
        for run_id, reason in (("a", Reason.PAUSED), ("b", Reason.APPROVAL), ("c", Reason.SIGNAL)):
            await (await start(store, worker, run_id)).settle(Park(reason=reason, wait_name="go"))
        await start(store, worker, "d")

        async def listed(*reasons: Reason) -> list[str]:
            return [run.id for run in await store.list_runs(RunFilter(reasons=frozenset(reasons)))]

        assert await listed(Reason.PAUSED, Reason.APPROVAL) == ["b", "a"]
        assert await listed(Reason.SIGNAL, Reason.PAUSED) == ["c", "a"]
        assert await listed(Reason.POISON) == []

    # --- a signal with the start ------------------------------------------------------------------------------

    async def test_a_run_and_its_first_signal_are_there_together_and_once(
        self, store: Store, place: Place
    ) -> None:
        new = dataclasses.replace(new_run(), signal=NewSignal(name="go", payload=b"1", dedup="k"))
        other = await place.open()
        answers = await asyncio.gather(*((store, other)[n % 2].create_run(new) for n in range(6)))
        assert sum(not one.existed for one in answers) == 1
        assert {one.run.inbox_no for one in answers} == {1}
        _, signals = await store.read_inbox(answers[0].run.key)
        assert [(one.name, one.payload) for one in signals] == [("go", b"1")]
        await other.create_run(dataclasses.replace(new, signal=NewSignal(name="go", payload=b"2", dedup="l")))
        assert (await store.read_inbox(answers[0].run.key))[0] == 2

    async def test_a_signal_with_the_start_wakes_the_run_that_is_there(self, store: Store) -> None:
        worker = await register(store)
        attempt = await start(store, worker)
        await attempt.settle(Park(reason=Reason.SIGNAL, wait_name="go"))
        await store.create_run(
            dataclasses.replace(new_run(), signal=NewSignal(name="go", payload=b"1", dedup="k"))
        )
        assert await claimed_ids(store, worker) == ["r"]

    async def test_a_signal_with_the_start_of_a_final_run_is_refused_unless_it_had_it(
        self, store: Store
    ) -> None:
        new = dataclasses.replace(new_run(), signal=NewSignal(name="go", payload=b"1", dedup="k"))
        await store.create_run(new)
        await store.update_run("r", cancel)
        assert (await store.create_run(new)).existed
        before = await fingerprint(store, "r")
        with pytest.raises(Refused):
            await store.create_run(
                dataclasses.replace(new, signal=NewSignal(name="go", payload=b"2", dedup="l"))
            )
        assert await fingerprint(store, "r") == before
