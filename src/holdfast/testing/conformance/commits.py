"""Promises about commits: the fence, atomic Changes, batches, `once`."""

from __future__ import annotations

import asyncio

import pytest
from msgspec import structs

from holdfast.model import (
    Change,
    Committed,
    EntryKind,
    EntryStatus,
    Identity,
    Note,
    Park,
    Progress,
    Reason,
    RefusedChange,
    Release,
    Retry,
    RunFilter,
    RunState,
    Succeeded,
)
from holdfast.rules.transitions import cancel, pause
from holdfast.store.protocol import Store
from holdfast.testing.conformance.place import (
    FAILURE,
    LEASE_US,
    SECOND_US,
    Attempt,
    Place,
    Promises,
    commit_one,
    event_types,
    fingerprint,
    register,
    save,
    start,
    step,
    steps,
    take,
)


async def must_change_nothing(store: Store, change: Change) -> RefusedChange:
    """Commit a Change that must be refused, and see that nothing of the run moved."""
    (run_id,) = [run.id for run in await store.list_runs(RunFilter()) if run.key == change.run]
    before = await fingerprint(store, run_id)
    answer = await commit_one(store, change)
    assert isinstance(answer, RefusedChange), answer
    assert await fingerprint(store, run_id) == before
    run = await store.get_run(run_id)
    assert (answer.state, answer.token) == (run.state, run.token)
    assert answer.message
    return answer


def every_write(attempt: Attempt) -> list[Change]:
    """One Change of each sort that an attempt can ask for."""
    return [
        attempt.change(step()),
        attempt.change(notes=(Note("log"),)),
        attempt.change(progress=Progress(current=1)),
        attempt.change(checkpoint=save()),
        attempt.change(outcome=Succeeded(result=b"1")),
        attempt.change(outcome=Release()),
    ]


class CommitPromises(Promises):
    """What the store promises about commits."""

    async def test_commit_records_entries_in_order_at_the_positions_that_follow(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        first = await attempt.commit(*steps(2))
        second = await attempt.commit(*steps(3, start=2))
        assert (first.position, second.position) == (2, 5)
        entries = await store.read_entries("r", payloads=True)
        assert [e.position for e in entries] == [1, 2, 3, 4, 5]
        assert [e.payload for e in entries] == [b"0", b"1", b"2", b"3", b"4"]
        assert {e.token for e in entries} == {attempt.run.token}
        run = await store.get_run("r")
        assert (run.position, run.event_no) == (5, second.event_no)

    async def test_an_entry_comes_back_as_it_was_committed(self, store: Store, place: Place) -> None:
        attempt = await start(store, await register(store))
        asked = structs.replace(
            step(payload="“ü”\u2028".encode()),
            identity=Identity(-1, "map[0]/bränch", "naïve name", "k/1", 0),
            args_hash=bytes(range(16)),
            started_at_us=place.clock.wall_us() - 5,
        )
        await attempt.commit(asked)
        (stored,) = await store.read_entries("r", payloads=True)
        now_us = place.clock.wall_us()
        assert stored == structs.replace(asked, position=1, at_us=now_us, token=attempt.run.token)
        (listed,) = await store.read_entries("r")
        assert structs.replace(listed, payload=b"") == structs.replace(stored, payload=b"")

    async def test_a_payload_too_big_for_its_row_comes_back_whole(self, store: Store) -> None:
        worker = await register(store)
        attempt = await start(store, worker)
        sizes = (0, 8 * 1024 - 1, 8 * 1024, 8 * 1024 + 1, 3_000_000)
        payloads = [bytes([65 + n]) * size for n, size in enumerate(sizes)]
        await attempt.commit(*(step(occurrence=n, payload=p) for n, p in enumerate(payloads)))
        assert [e.payload for e in await store.read_entries("r", payloads=True)] == payloads
        await attempt.settle(Release())
        assert [e.payload for e in (await take(store, worker)).claim.journal.entries] == payloads

    async def test_each_entry_is_one_event(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        await attempt.commit(
            step(),
            step(occurrence=1, status=EntryStatus.RETRIED),
            step(occurrence=1, status=EntryStatus.FAILED),
            notes=(Note("log", b'{"m":"x"}'),),
        )
        types = await event_types(store, "r")
        assert types[:2] == ["run.queued", "run.running"]
        assert sorted(types[2:]) == ["log", "step.failed", "step.finished", "step.retried"]

    async def test_events_of_a_change_follow_notes_first_and_outcome_last(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        change = attempt.change(
            step(),
            notes=(Note("log"), Note("warning")),
            checkpoint=save(),
            progress=Progress(current=1),
            outcome=Succeeded(result=b"1"),
        )
        await commit_one(store, change)
        types = (await event_types(store, "r"))[2:]
        assert types[:3] == ["log", "warning", "step.finished"]
        assert sorted(types[3:-1]) == ["checkpoint.saved", "progress"]
        assert types[-1] == "run.succeeded"

    # --- the fence ----------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("which", range(6))
    async def test_commit_with_stale_token_changes_nothing(
        self, store: Store, place: Place, which: int
    ) -> None:
        zombie = await start(store, await register(store, "stalls"))
        await zombie.commit(*steps(2))
        place.clock.advance(LEASE_US + SECOND_US)
        heir = await take(store, await register(store, "heir"))
        refused = await must_change_nothing(store, every_write(zombie)[which])
        assert (refused.state, refused.token) == (RunState.RUNNING, heir.run.token)
        assert (await heir.commit(step(occurrence=2))).position == 3

    @pytest.mark.parametrize("which", range(6))
    async def test_commit_after_cancel_changes_nothing(self, store: Store, which: int) -> None:
        attempt = await start(store, await register(store))
        await attempt.commit(step())
        await store.update_run("r", cancel)
        assert (await must_change_nothing(store, every_write(attempt)[which])).state is RunState.CANCELLED

    @pytest.mark.parametrize("which", range(6))
    async def test_commit_after_settlement_changes_nothing(self, store: Store, which: int) -> None:
        attempt = await start(store, await register(store))
        await attempt.commit(step())
        await attempt.settle(Park(reason=Reason.SIGNAL, wait_name="go"))
        await must_change_nothing(store, every_write(attempt)[which])

    async def test_commit_with_a_token_from_the_future_changes_nothing(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        for change in every_write(attempt):
            await must_change_nothing(store, structs.replace(change, token=change.token + 1))

    @pytest.mark.parametrize("drift", [-1, 1])
    async def test_commit_at_another_position_changes_nothing(self, store: Store, drift: int) -> None:
        attempt = await start(store, await register(store))
        await attempt.commit(*steps(3))
        asked = [
            attempt.change(step(occurrence=3)),
            attempt.change(checkpoint=save()),
            attempt.change(outcome=Succeeded(result=b"1")),
        ]
        for change in asked:
            await must_change_nothing(store, structs.replace(change, position=change.position + drift))

    async def test_a_change_committed_twice_is_recorded_once(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        change = attempt.change(*steps(2))
        assert isinstance(await commit_one(store, change), Committed)
        await must_change_nothing(store, change)

    async def test_notes_compare_token_and_state_but_not_the_position(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        early = attempt.change(notes=(Note("log"),), progress=Progress(current=1))
        await attempt.commit(*steps(3))
        assert isinstance(await commit_one(store, early), Committed)
        assert (await store.get_run("r")).position == 3
        assert isinstance(await commit_one(store, structs.replace(early, position=99)), Committed)

    async def test_an_operators_pause_does_not_fence_the_attempt(self, store: Store) -> None:
        worker = await register(store)
        attempt = await start(store, worker)
        await store.update_run("r", pause)
        assert [(ask.run, ask.asked) for ask in await store.asks(worker)] == [(attempt.run.key, "pause")]
        await attempt.commit(step())
        run = await attempt.settle(Park(reason=Reason.PAUSED))
        assert (run.state, run.reason, run.asked) == (RunState.WAITING, Reason.PAUSED, None)

    async def test_a_change_of_an_unknown_run_is_refused(self, store: Store) -> None:
        answer = await commit_one(store, Change(run=4_711, token=1, position=0, entries=(step(),)))
        assert isinstance(answer, RefusedChange)
        assert answer.state is None

    # --- batches ------------------------------------------------------------------------------------------------

    async def test_a_refused_change_leaves_the_others_untouched(self, store: Store) -> None:
        worker = await register(store)
        a, b, c = [await start(store, worker, run_id) for run_id in "abc"]
        await store.update_run("b", cancel)
        before = await fingerprint(store, "b")
        answers = await store.commit([a.change(step()), b.change(step()), c.change(step())])
        assert [type(answer) for answer in answers] == [Committed, RefusedChange, Committed]
        assert await fingerprint(store, "b") == before
        for run_id in ("a", "c"):
            assert [e.position for e in await store.read_entries(run_id)] == [1]

    async def test_a_refused_change_leaves_others_of_its_own_run_untouched(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        wrong = structs.replace(attempt.change(step("wrong")), position=7)
        right = attempt.change(step("right"))
        answers = await store.commit([wrong, right, wrong])
        assert [type(answer) for answer in answers] == [RefusedChange, Committed, RefusedChange]
        assert [e.identity.name for e in await store.read_entries("r")] == ["right"]

    async def test_changes_of_one_run_apply_in_order_without_gaps(self, store: Store) -> None:
        worker = await register(store)
        a, b = await start(store, worker, "a"), await start(store, worker, "b")
        batch: list[Change] = []
        for number in range(10):
            batch.append(
                structs.replace(a.change(step(occurrence=number), notes=(Note("log"),)), position=number)
            )
            batch.append(structs.replace(b.change(*steps(2, start=2 * number)), position=2 * number))
        answers = await store.commit(batch)
        assert all(isinstance(answer, Committed) for answer in answers)
        assert [x.position for x in answers[::2] if isinstance(x, Committed)] == list(range(1, 11))
        for run_id, count in (("a", 10), ("b", 20)):
            assert [e.position for e in await store.read_entries(run_id)] == list(range(1, count + 1))
            events = await store.read_events(run_id, 0, 1_000)
            assert [e.n for e in events] == list(range(1, (await store.get_run(run_id)).event_no + 1))

    async def test_event_numbers_answered_are_those_recorded(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        answers = await store.commit(
            [
                attempt.change(notes=(Note("log", b"{}"),) * 3),
                attempt.change(step()),
                attempt.change(notes=(Note("log"),)),
            ]
        )
        numbers = [answer.event_no for answer in answers if isinstance(answer, Committed)]
        assert numbers == [5, 6, 7]
        assert (await store.get_run("r")).event_no == 7

    async def test_an_empty_batch_is_answered_by_nothing(self, store: Store) -> None:
        assert await store.commit([]) == []

    async def test_nothing_of_a_run_applies_after_its_outcome_in_one_batch(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        end = attempt.change(step(), outcome=Succeeded(result=b"1"))
        late = structs.replace(attempt.change(step(occurrence=1)), position=1)
        answers = await store.commit([end, late, attempt.change(notes=(Note("log"),))])
        assert [type(answer) for answer in answers] == [Committed, RefusedChange, RefusedChange]
        assert (await store.get_run("r")).position == 1

    async def test_entries_checkpoint_progress_and_outcome_appear_together(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        change = attempt.change(
            *steps(2),
            notes=(Note("log"),),
            checkpoint=save(1, state=b'{"n":2}'),
            progress=Progress(current=2, total=2),
            outcome=Succeeded(result=b'"all"'),
        )
        before = await fingerprint(store, "r")
        stale = structs.replace(change, position=1)
        assert isinstance(await commit_one(store, stale), RefusedChange)
        assert await fingerprint(store, "r") == before
        assert isinstance(await commit_one(store, change), Committed)
        run = await store.get_run("r")
        assert (run.state, run.result, run.position, run.checkpoint_n) == (RunState.SUCCEEDED, b'"all"', 2, 1)
        assert (await store.load_checkpoint("r")).state == b'{"n":2}'
        progress = await store.get_progress(run.key)
        assert progress is not None
        assert progress.current == 2
        assert (await event_types(store, "r"))[-1] == "run.succeeded"

    async def test_concurrent_commits_of_one_position_record_one(self, store: Store, place: Place) -> None:
        other = await place.open()
        attempt = await start(store, await register(store))
        changes = [attempt.change(step(f"s{n}")) for n in range(8)]
        answers = await asyncio.gather(
            *((store if n % 2 else other).commit([change]) for n, change in enumerate(changes))
        )
        assert sorted(type(answer[0]).__name__ for answer in answers) == ["Committed"] + ["RefusedChange"] * 7
        assert len(await store.read_entries("r")) == 1

    # --- the face of a running run --------------------------------------------------------------------------------

    async def test_step_and_reason_of_a_running_run_are_those_of_the_newest_change(
        self, store: Store
    ) -> None:
        attempt = await start(store, await register(store))
        await commit_one(store, structs.replace(attempt.change(), step="fetch", reason=Reason.THROTTLED))
        run = await store.get_run("r")
        assert (run.step, run.reason) == ("fetch", Reason.THROTTLED)
        await commit_one(store, attempt.change(notes=(Note("log"),)))
        run = await store.get_run("r")
        assert (run.step, run.reason) == (None, None)

    async def test_steps_count_the_recorded_outcomes_of_every_call(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        await attempt.commit(
            step(),
            step(occurrence=1, status=EntryStatus.RETRIED),
            step(occurrence=1, status=EntryStatus.FAILED),
            step("sleep", kind=EntryKind.TIMER, payload=b"1"),
            step("pay", kind=EntryKind.ONCE, key="1"),
        )
        run = await store.get_run("r")
        assert run.position == 5
        assert run.steps == 4

    # --- once ---------------------------------------------------------------------------------------------------

    async def test_once_is_found_by_its_key_for_the_runs_life(self, store: Store) -> None:
        worker = await register(store)
        attempt = await start(store, worker)
        other = await start(store, worker, "other")
        await attempt.commit(step("pay", kind=EntryKind.ONCE, key="k1", payload=b'"paid"'))
        await other.commit(step("pay", kind=EntryKind.ONCE, key="k2"))
        for segment in range(1, 4):
            await attempt.commit(step(segment=segment), checkpoint=save(segment, keep=1))
        found = await store.get_once(attempt.run.key, "k1")
        assert found is not None
        assert (found.payload, found.status, found.position) == (b'"paid"', EntryStatus.OK, 1)
        assert await store.get_once(attempt.run.key, "k2") is None
        assert await store.count_once(attempt.run.key) == 1

    async def test_once_is_recorded_at_most_once_per_key(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        await attempt.commit(step("pay", kind=EntryKind.ONCE, key="k", payload=b"1"))
        again = attempt.change(step("pay", kind=EntryKind.ONCE, key="k", payload=b"2", segment=3))
        await must_change_nothing(store, again)
        assert await store.count_once(attempt.run.key) == 1
        other = await start(store, await register(store), "other")
        answers = await store.commit([other.change(step()), again, other.change(notes=(Note("log"),))])
        assert [type(answer) for answer in answers] == [Committed, RefusedChange, Committed]

    async def test_a_step_with_the_key_of_a_once_is_no_once(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        await attempt.commit(step("pay", key="k"))
        assert await store.get_once(attempt.run.key, "k") is None
        await attempt.commit(step("pay", kind=EntryKind.ONCE, key="k"))
        assert await store.count_once(attempt.run.key) == 1

    async def test_a_superseded_once_answers_nothing_and_may_be_recorded_again(self, store: Store) -> None:
        worker = await register(store)
        attempt = await start(store, worker)
        failed = step("pay", kind=EntryKind.ONCE, key="k", status=EntryStatus.FAILED)
        await attempt.commit(failed)
        await attempt.settle(Retry(failure=FAILURE, delay_us=0, supersede=(1,)))
        assert await store.get_once(attempt.run.key, "k") is None
        assert await store.count_once(attempt.run.key) == 0
        second = await take(store, worker)
        await second.commit(step("pay", kind=EntryKind.ONCE, key="k", payload=b"2"))
        found = await store.get_once(attempt.run.key, "k")
        assert found is not None
        assert found.payload == b"2"

    async def test_a_commit_at_once_is_a_commit_or_nothing(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        change = attempt.change(step())
        before = await fingerprint(store, "r")
        answers = store.commit_now([change])
        if answers is None:
            assert await fingerprint(store, "r") == before
            answers = await store.commit([change])
        (answer,) = answers
        assert isinstance(answer, Committed)
        assert [entry.position for entry in await store.read_entries("r")] == [answer.position] == [1]
        refused = store.commit_now([change]) or await store.commit([change])
        assert isinstance(refused[0], RefusedChange)
        assert len(await store.read_entries("r")) == 1

    async def test_a_commit_soon_is_answered_or_was_never_begun(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        for position in range(3):  # a store may want to have been asked before
            change = attempt.change(step())
            answer = await commit_soon(store, change) or await commit_one(store, change)
            assert isinstance(answer, Committed)
            assert [entry.position for entry in await store.read_entries("r")] == [*range(1, position + 2)]
            attempt.position = answer.position
            assert answer.event_no == (await store.get_run("r")).event_no
        before = await fingerprint(store, "r")
        assert await commit_soon(store, structs.replace(attempt.change(step()), position=0)) is None
        assert await fingerprint(store, "r") == before


async def commit_soon(store: Store, change: Change) -> Committed | Exception | None:
    """What a Change is answered that the store has begun; None when it has not, or did nothing."""
    told: asyncio.Future[Committed | Exception | None] = asyncio.get_running_loop().create_future()
    return await told if store.commit_soon(change, told.set_result) else None
