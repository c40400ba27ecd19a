"""Promises about runs as a whole: creating, reading, deciding about, deleting and pruning them."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from msgspec import structs

from holdfast.errors import Conflict, HoldfastError, PayloadTooLarge, Refused, RunNotFound
from holdfast.model import (
    Decision,
    EntryKind,
    Event,
    Failed,
    NewRun,
    Note,
    Park,
    Progress,
    Reason,
    Run,
    RunFilter,
    RunState,
    Succeeded,
)
from holdfast.rules.transitions import cancel, retry
from holdfast.store.protocol import Store
from holdfast.testing.conformance.place import (
    AGENT,
    DAY_US,
    FAILURE,
    SECOND_US,
    SERVES,
    VERSION,
    Place,
    Promises,
    event_types,
    fingerprint,
    new_run,
    register,
    save,
    start,
    step,
    steps,
    take,
)

LIMIT_BYTES = 64 * 1024 * 1024


class RunPromises(Promises):
    """What the store promises about runs."""

    async def test_created_run_is_queued_with_its_event(self, store: Store, place: Place) -> None:
        created = await store.create_run(new_run("a", input=b'{"repo":"."}'))
        assert not created.existed
        run = created.run
        assert (run.id, run.state, run.token, run.position) == ("a", RunState.QUEUED, 0, 0)
        assert run.created_at_us == run.available_at_us == place.clock.wall_us()
        assert await store.get_run("a") == run
        assert await store.get_input("a") == b'{"repo":"."}'
        events = await store.read_events("a", 0, 10)
        assert [(e.run, e.n, e.type, e.at_us) for e in events] == [("a", 1, "run.queued", run.created_at_us)]
        assert run.event_no == 1

    async def test_created_run_is_seen_through_another_handle(self, store: Store, place: Place) -> None:
        created = await store.create_run(new_run("a"))
        assert await (await place.open()).get_run("a") == created.run

    async def test_create_with_same_agent_and_input_answers_the_existing_run(self, store: Store) -> None:
        first = await store.create_run(new_run("a", input=b'{"n":1}'))
        again = await store.create_run(replace(new_run("a", input=b'{"n":1}'), priority=3, queue="other"))
        assert again.existed
        assert again.run == first.run
        assert await event_types(store, "a") == ["run.queued"]

    async def test_create_answers_a_finished_run_with_its_result(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        await attempt.settle(Succeeded(result=b"42"))
        again = await store.create_run(new_run())
        assert again.existed
        assert (again.run.state, again.run.result) == (RunState.SUCCEEDED, b"42")

    @pytest.mark.parametrize(
        "other", [new_run("a", input=b'{"n":2}'), new_run("a", agent="report", input=b'{"n":1}')]
    )
    async def test_create_with_another_agent_or_input_raises_conflict(
        self, store: Store, other: NewRun
    ) -> None:
        await store.create_run(new_run("a", input=b'{"n":1}'))
        before = await fingerprint(store, "a")
        with pytest.raises(Conflict, match="a"):
            await store.create_run(other)
        assert await fingerprint(store, "a") == before

    async def test_create_counts_the_deadline_from_creation(self, store: Store, place: Place) -> None:
        created = await store.create_run(replace(new_run(), deadline_us=5 * SECOND_US))
        assert created.run.deadline_at_us == place.clock.wall_us() + 5 * SECOND_US

    async def test_create_keeps_input_of_any_bytes_and_size_below_the_limit(self, store: Store) -> None:
        big = b'{"x":"' + b"y" * 300_000 + b'\xc3\xa9"}'
        await store.create_run(new_run("big", input=big))
        assert await store.get_input("big") == big

    async def test_payload_over_64_mib_is_refused_and_changes_nothing(self, store: Store) -> None:
        too_big = b'"' + b"x" * LIMIT_BYTES + b'"'
        with pytest.raises(PayloadTooLarge, match="64"):
            await store.create_run(new_run("big", input=too_big))
        with pytest.raises(RunNotFound):
            await store.get_run("big")
        attempt = await start(store, await register(store))
        before = await fingerprint(store, "r")
        with pytest.raises(PayloadTooLarge, match="64"):
            await store.commit([attempt.change(step(payload=too_big))])
        with pytest.raises(PayloadTooLarge, match="64"):
            await store.add_signal("r", "go", too_big)
        assert await fingerprint(store, "r") == before

    async def test_unknown_run_raises_run_not_found_everywhere(self, store: Store) -> None:
        asked: list[Callable[[], Awaitable[object]]] = [
            lambda: store.get_run("no"),
            lambda: store.get_input("no"),
            lambda: store.update_run("no", cancel),
            lambda: store.delete_run("no"),
            lambda: store.add_signal("no", "go", b"null"),
            lambda: store.read_events("no", 0, 10),
            lambda: store.read_entries("no"),
            lambda: store.list_checkpoints("no"),
            lambda: store.load_checkpoint("no"),
        ]
        for ask in asked:
            with pytest.raises(RunNotFound, match="no"):
                await ask()

    async def test_list_runs_newest_first_by_every_condition(self, store: Store) -> None:
        for number, agent in enumerate(["refactor", "report", "refactor", "report"]):
            await store.create_run(replace(new_run(f"{agent}-{number}", agent=agent), queue=f"q{number % 2}"))
        await store.update_run("report-3", cancel)

        async def ids(chosen: RunFilter) -> list[str]:
            return [run.id for run in await store.list_runs(chosen)]

        assert await ids(RunFilter()) == ["report-3", "refactor-2", "report-1", "refactor-0"]
        assert await ids(RunFilter(limit=2)) == ["report-3", "refactor-2"]
        assert await ids(RunFilter(agent="report")) == ["report-3", "report-1"]
        assert await ids(RunFilter(queue="q0")) == ["refactor-2", "refactor-0"]
        assert await ids(RunFilter(id_prefix="report-")) == ["report-3", "report-1"]
        assert await ids(RunFilter(states=frozenset({RunState.CANCELLED}))) == ["report-3"]
        assert await ids(RunFilter(states=frozenset({RunState.QUEUED}), agent="report")) == ["report-1"]
        oldest_shown = (await store.get_run("refactor-2")).key
        assert await ids(RunFilter(before=oldest_shown)) == ["report-1", "refactor-0"]
        await store.create_run(replace(new_run("here"), claimable=False))
        assert await ids(RunFilter(claimable=False)) == ["here"]
        assert await ids(RunFilter(claimable=True, limit=2)) == ["report-3", "refactor-2"]

    async def test_runs_that_go_on_by_themselves_are_told_from_those_that_wait_for_somebody(
        self, store: Store, place: Place
    ) -> None:
        worker = await register(store)
        now_us = place.clock.wall_us()
        soon_us, late_us = now_us + 30 * SECOND_US, now_us + 90 * SECOND_US
        for name, park in {
            "approval-late": Park(reason=Reason.APPROVAL, wait_name="go", until_us=late_us),
            "approval-soon": Park(reason=Reason.APPROVAL, wait_name="go", until_us=soon_us),
            "child": Park(reason=Reason.CHILD, wait_name="go"),
            "paused": Park(reason=Reason.PAUSED),
            "signal": Park(reason=Reason.SIGNAL, wait_name="go"),
            "signal-late": Park(reason=Reason.SIGNAL, wait_name="go", until_us=late_us),
            "sleep-late": Park(reason=Reason.SLEEP, until_us=late_us),
        }.items():
            await (await start(store, worker, name)).settle(park)
        await start(store, worker, "running")
        await store.create_run(replace(new_run("later"), delay_us=DAY_US))
        by_us = now_us + 60 * SECOND_US
        found = [run.id for run in await store.list_runs(RunFilter(goes_on_by_us=by_us))]
        assert sorted(found) == ["approval-soon", "later", "running", "sleep-late"]
        await store.add_signal("signal-late", "go", b"null")
        found = [run.id for run in await store.list_runs(RunFilter(goes_on_by_us=by_us))]
        assert "signal-late" in found  # due at once

    @pytest.mark.parametrize("limited", ["narrow", "*"])
    async def test_runs_in_a_queue_that_is_limited_to_0_do_not_go_on_by_themselves(
        self, store: Store, place: Place, limited: str
    ) -> None:
        worker = await register(store)
        for name in ("running", "asleep"):
            await store.create_run(replace(new_run(name), queue="narrow"))
        await take(store, worker, "running")
        asleep = await take(store, worker, "asleep")
        await asleep.settle(Park(reason=Reason.SLEEP, until_us=place.clock.wall_us() + DAY_US))
        for name, delay_us in (("due", 0), ("later", DAY_US)):
            await store.create_run(replace(new_run(name), queue="narrow", delay_us=delay_us))
        await store.create_run(replace(new_run("wide"), queue="wide"))

        async def found() -> set[str]:
            return {run.id for run in await store.list_runs(RunFilter(goes_on_by_us=place.clock.wall_us()))}

        everything = {"running", "asleep", "due", "later", "wide"}
        await store.limit_queue(limited, 1)
        assert await found() == everything
        await store.limit_queue(limited, 0)
        assert await found() == {"running"} | ({"wide"} if limited == "narrow" else set())
        await store.limit_queue(limited, None)
        assert await found() == everything

    async def test_runs_are_listed_by_agent_and_version_whatever_their_state(self, store: Store) -> None:
        worker = await register(store)
        await start(store, worker, "running")
        for name, agent, version in (("x1", "x", "1"), ("x2", "x", "2"), ("y1", "y", "1"), ("y2", "y", "2")):
            await store.create_run(new_run(name, agent=agent, version=version))
        await (await start(store, worker, "waiting")).settle(Park(reason=Reason.SIGNAL, wait_name="go"))
        chosen = RunFilter(
            served=frozenset({("x", "1"), ("y", "2"), (AGENT, VERSION)}),
            states=frozenset({RunState.QUEUED, RunState.RUNNING, RunState.WAITING}),
        )
        assert [run.id for run in await store.list_runs(chosen)] == ["waiting", "y2", "x1", "running"]
        assert await store.list_runs(RunFilter(served=frozenset())) == []

    async def test_a_run_left_to_a_claim_by_id_is_anybodys_once_a_decision_says_so(
        self, store: Store
    ) -> None:
        await store.create_run(replace(new_run("here"), claimable=False))
        await store.update_run("here", cancel)
        worker = await register(store)
        await store.update_run(
            "here", lambda run, now_us: structs.replace(retry(run, now_us), claimable=False)
        )
        assert not await store.claim(worker, SERVES, 5)
        await store.update_run("here", cancel)
        await store.update_run("here", retry)
        assert [claim.run.id for claim in await store.claim(worker, SERVES, 5)] == ["here"]

    async def test_list_runs_takes_a_prefix_literally(self, store: Store) -> None:
        for run_id in ("a%c", "abc", "a_c", "a*c", "A_c"):
            await store.create_run(new_run(run_id))
        for prefix in ("a%", "a_", "a*"):
            assert [run.id for run in await store.list_runs(RunFilter(id_prefix=prefix))] == [f"{prefix}c"]

    async def test_find_runs_with_input_finds_unfinished_ones_with_exactly_this_input(
        self, store: Store
    ) -> None:
        for run_id, body in (("a", b'{"n":1}'), ("b", b'{"n":2}'), ("c", b'{"n":1}'), ("d", b'{"n":1}')):
            await store.create_run(new_run(run_id, input=body))
        await store.create_run(new_run("e", agent="report", input=b'{"n":1}'))
        await store.update_run("d", cancel)
        found = await store.find_runs_with_input("refactor", b'{"n":1}')
        assert [run.id for run in found] == ["c", "a"]

    # --- update_run -------------------------------------------------------------------------------------------

    async def test_update_makes_run_events_and_superseded_entries_durable_together(
        self, store: Store
    ) -> None:
        attempt = await start(store, await register(store))
        await attempt.commit(*steps(3))
        await attempt.settle(Failed(failure=FAILURE))

        def decide(run: Run, now_us: int) -> Decision:
            decision = retry(run, now_us, supersede=(2, 3))
            return structs.replace(decision, notes=(*decision.notes, Note("warning", b'{"m":1}')))

        answered = await store.update_run("r", decide)
        assert answered == await store.get_run("r")
        assert answered.state is RunState.QUEUED
        assert [e.superseded for e in await store.read_entries("r")] == [False, True, True]
        assert (await event_types(store, "r"))[-2:] == ["run.queued", "warning"]

    async def test_update_sees_the_run_and_the_stores_time(self, store: Store, place: Place) -> None:
        created = await store.create_run(new_run())
        place.clock.advance(SECOND_US)
        seen: list[tuple[Run, int]] = []

        def look(run: Run, now_us: int) -> None:
            seen.append((run, now_us))

        before = await fingerprint(store, "r")
        assert await store.update_run("r", look) == created.run
        assert seen == [(created.run, place.clock.wall_us())]
        assert await fingerprint(store, "r") == before

    async def test_update_whose_decision_raises_leaves_nothing(self, store: Store) -> None:
        await store.create_run(new_run())
        before = await fingerprint(store, "r")

        def refuse(run: Run, now_us: int) -> Decision | None:
            raise Refused(f"run {run.id} does not listen")

        with pytest.raises(Refused, match="does not listen"):
            await store.update_run("r", refuse)
        assert await fingerprint(store, "r") == before
        await store.create_run(new_run("next"))

    async def test_update_that_fails_halfway_leaves_nothing(self, store: Store) -> None:
        await store.create_run(new_run())
        before = await fingerprint(store, "r")

        def decide_too_much(run: Run, now_us: int) -> Decision:
            decision = cancel(run, now_us)
            return structs.replace(
                decision, run=structs.replace(decision.run, result=b"x" * (LIMIT_BYTES + 1))
            )

        with pytest.raises(PayloadTooLarge):
            await store.update_run("r", decide_too_much)
        assert await fingerprint(store, "r") == before

    async def test_update_against_the_state_table_is_refused_by_the_store_itself(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        await attempt.settle(Succeeded(result=b"1"))
        before = await fingerprint(store, "r")

        def wake_the_dead(run: Run, now_us: int) -> Decision:
            return Decision(run=structs.replace(run, state=RunState.RUNNING))

        with pytest.raises(HoldfastError):
            await store.update_run("r", wake_the_dead)
        assert await fingerprint(store, "r") == before

    async def test_runs_by_key_are_those_that_are_there(self, store: Store) -> None:
        keys = [(await store.create_run(new_run(name))).run.key for name in ("a", "b", "c")]
        await store.update_run("b", cancel)
        await store.delete_run("b")
        found = await store.get_runs([keys[2], keys[1], keys[0], 10**9])
        assert {key: run.id for key, run in found.items()} == {keys[0]: "a", keys[2]: "c"}
        assert found[keys[0]] == await store.get_run("a")
        assert await store.get_runs([]) == {}
        again = await store.create_run(new_run("b"))
        assert again.run.key not in keys, "a key is used once, for folders are called by it"

    # --- delete and prune ---------------------------------------------------------------------------------------

    async def test_delete_removes_a_final_run_and_all_that_belongs_to_it(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        await store.add_signal("r", "go", b"1", dedup="d")
        await attempt.commit(step(payload=b'"' + b"x" * 100_000 + b'"'), checkpoint=save(state=b'{"n":1}'))
        await attempt.commit(progress=Progress(current=1, total=2))
        await attempt.settle(Succeeded(result=b"1"))
        await store.delete_run("r")
        with pytest.raises(RunNotFound):
            await store.get_run("r")
        fresh = await store.create_run(new_run(input=b'{"other":1}'))
        assert not fresh.existed
        assert await event_types(store, "r") == ["run.queued"]
        assert await store.read_entries("r") == []
        assert await store.list_checkpoints("r") == []
        assert await store.read_inbox(fresh.run.key) == (0, [])
        assert await store.get_progress(fresh.run.key) is None
        assert (await store.add_signal("r", "go", b"2", dedup="d")).n == 1

    async def test_delete_of_an_unfinished_run_is_refused(self, store: Store) -> None:
        await store.create_run(new_run("waits"))
        running = await start(store, await register(store), "runs")
        for run_id in ("waits", "runs"):
            before = await fingerprint(store, run_id)
            with pytest.raises(Refused, match=run_id):
                await store.delete_run(run_id)
            assert await fingerprint(store, run_id) == before
        await running.commit(step())

    async def test_prune_deletes_what_finished_before_in_batches(self, store: Store, place: Place) -> None:
        for number in range(5):
            await store.create_run(new_run(f"old-{number}"))
            await store.update_run(f"old-{number}", cancel)
        await store.create_run(new_run("unfinished"))
        place.clock.advance(DAY_US)
        cut = place.clock.wall_us()
        await store.create_run(new_run("young"))
        await store.update_run("young", cancel)
        assert [await store.prune(cut, 3), await store.prune(cut, 3), await store.prune(cut, 3)] == [3, 2, 0]
        assert {run.id for run in await store.list_runs(RunFilter())} == {"unfinished", "young"}

    # --- progress and events ---------------------------------------------------------------------------------------

    async def test_progress_is_the_newest_recorded_one(self, store: Store, place: Place) -> None:
        attempt = await start(store, await register(store))
        assert await store.get_progress(attempt.run.key) is None
        await attempt.commit(progress=Progress(current=1, total=0, description="début", phase="collect"))
        place.clock.advance(SECOND_US)
        await attempt.commit(progress=Progress(current=2.5, total=None, description="more", phase="clean"))
        newest = await (await place.open()).get_progress(attempt.run.key)
        assert newest is not None
        assert (newest.current, newest.total, newest.description, newest.phase) == (
            2.5,
            None,
            "more",
            "clean",
        )
        assert newest.updated_at_us == place.clock.wall_us()

    async def test_progress_survives_the_attempt_that_recorded_it(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        await attempt.commit(progress=Progress(current=3, total=4))
        await attempt.settle(Failed(failure=FAILURE))
        kept = await store.get_progress(attempt.run.key)
        assert kept is not None
        assert (kept.current, kept.total) == (3, 4)

    async def test_read_events_pages_without_a_gap(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        await attempt.commit(*steps(20), notes=tuple(Note("log", b'{"line":%d}' % n) for n in range(20)))
        whole = await store.read_events("r", 0, 1_000)
        paged: list[Event] = []
        after = 0
        while page := await store.read_events("r", after, 7):
            assert len(page) <= 7
            paged += page
            after = page[-1].n
        assert paged == whole
        assert [event.n for event in whole] == list(range(1, len(whole) + 1))
        assert (await store.get_run("r")).event_no == len(whole)
        assert all(isinstance(json.loads(event.payload), dict) for event in whole)
        assert [e.payload for e in whole if e.type == "log"] == [b'{"line":%d}' % n for n in range(20)]

    async def test_an_event_once_read_never_changes(self, store: Store, place: Place) -> None:
        worker = await register(store)
        attempt = await start(store, worker)
        await store.add_signal("r", "go", b"1")
        await attempt.commit(*steps(2), step("go", kind=EntryKind.SIGNAL, signal=1), checkpoint=save())
        await attempt.settle(Failed(failure=FAILURE))
        before = await store.read_events("r", 0, 100)
        await store.update_run("r", lambda run, now: retry(run, now, supersede=(1, 2, 3)))
        await place.damage_checkpoint(attempt.run.key, 1)
        await take(store, worker)
        assert (await store.read_events("r", 0, 100))[: len(before)] == before

    async def test_events_of_runs_are_numbered_apart(self, store: Store) -> None:
        worker = await register(store)
        first, second = await start(store, worker, "a"), await start(store, worker, "b")
        await store.commit([first.change(step()), second.change(step()), first.change(notes=(Note("log"),))])
        for run_id in ("a", "b"):
            events = await store.read_events(run_id, 0, 100)
            assert [event.n for event in events] == list(range(1, len(events) + 1))
            assert {event.run for event in events} == {run_id}

    async def test_time_of_the_store_stamps_everything(self, store: Store, place: Place) -> None:
        attempt = await start(store, await register(store))
        place.clock.advance(7 * SECOND_US)
        now_us = place.clock.wall_us()
        assert await store.now() == now_us
        answer = await attempt.commit(step(), notes=(Note("log"),), checkpoint=save())
        assert answer.at_us == now_us
        assert [e.at_us for e in await store.read_entries("r")] == [now_us]
        assert [c.at_us for c in await store.list_checkpoints("r")] == [now_us]
        assert all(event.at_us == now_us for event in await store.read_events("r", 2, 100))
        await attempt.settle(Succeeded(result=b"1"))
        assert (await store.get_run("r")).finished_at_us == now_us

    async def test_clock_set_back_breaks_no_order_and_no_lease(self, store: Store, place: Place) -> None:
        worker = await register(store)
        attempt = await start(store, worker)
        place.clock.set_back(3_600 * SECOND_US)
        await attempt.commit(*steps(2))
        assert await store.claim(await register(store, "other"), SERVES, 5) == []
        assert store.renew_lease(worker, 30 * SECOND_US, None)
        assert [e.n for e in await store.read_events("r", 0, 100)] == [1, 2, 3, 4]
