"""Promises about moving: a store that runs were imported into answers every question about them as the old one did."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace

import msgspec
import pytest
import pytest_asyncio
from msgspec import structs

from holdfast.errors import Conflict, InvalidTransition, Refused, RunNotFound
from holdfast.model import (
    BudgetChange,
    Lane,
    NewArtifact,
    NewBudget,
    NewReservation,
    Park,
    Reason,
    RunFilter,
    RunState,
    Wish,
)
from holdfast.model.moving import (
    Ending,
    ExportFooter,
    Line,
    MovedBudget,
    MovedChunk,
    MovedContent,
    MovedHead,
    MovedLane,
    MovedRun,
    PartOfRun,
    RunEnd,
)
from holdfast.moving import export_runs, import_runs
from holdfast.moving.form import parts_of
from holdfast.moving.lines import Reader
from holdfast.rules.transitions import cancel, pause, resume, retry
from holdfast.rules.waits import of_child
from holdfast.store.protocol import Store
from holdfast.testing.conformance.approvals import YES, ask, wait
from holdfast.testing.conformance.artifacts import CHUNKS, bring
from holdfast.testing.conformance.budgets import ASK, OUT, asks, stands
from holdfast.testing.conformance.children import LEAVE, bear, end
from holdfast.testing.conformance.claims import claimed_ids
from holdfast.testing.conformance.place import (
    SECOND_US,
    SERVES,
    Place,
    Promises,
    new_run,
    register,
    save,
    start,
    step,
    steps,
    take,
)
from holdfast.testing.conformance.population import DONE, beside, everything, full, kin, populate

# --- from here to there -----------------------------------------------------------------------------------------


async def exported(store: Store, *ids: str) -> bytes:
    """The file of these runs, or of all."""
    out = io.BytesIO()
    await export_runs(store, ids or None, out, timeout_s=0)
    return out.getvalue()


async def moved(store: Store, elsewhere: Store, *ids: str, resume: bool = False) -> bytes:
    """Carry these runs there, or all; the file."""
    file = await exported(store, *ids)
    done = await import_runs(elsewhere, io.BytesIO(file), "file", resume=resume)
    assert not done.refused, done.refused
    return file


def lines_of(file: bytes) -> list[Line]:
    """The lines of a file, apart from the first."""
    return list(Reader(io.BytesIO(file), "file").parts())


async def begun(
    store: Store, file: bytes, *, parts: bool = True
) -> tuple[int, MovedRun, list[PartOfRun], RunEnd]:
    """The only run of the file, on its way in: all but its end is written."""
    elsewhere = (MovedContent, MovedChunk, MovedLane, MovedBudget)
    run, *rest = [part for part in lines_of(file) if not isinstance(part, elsewhere)]
    assert isinstance(run, MovedRun)
    end_of_run, footer = rest[-2:]
    assert isinstance(end_of_run, RunEnd)
    assert isinstance(footer, ExportFooter)
    key = await store.begin_import(run)
    if parts:
        await store.add_parts(key, rest[:-2])  # type: ignore[arg-type]  # parts of the run, all of them
    return key, run, rest[:-2], end_of_run  # type: ignore[return-value]


class MovingPromises(Promises):
    """What two stores promise about runs that are carried from one to the other."""

    @pytest_asyncio.fixture
    async def elsewhere(self, place: Place) -> AsyncIterator[Store]:
        """An open handle on another store, which is empty."""
        other = place.elsewhere()
        try:
            yield await other.open()
        finally:
            await other.close()

    async def test_a_store_that_runs_came_to_answers_as_the_old_one_did(
        self, store: Store, elsewhere: Store, place: Place
    ) -> None:
        ids = await populate(store, place)
        await moved(store, elsewhere)
        await store.sweep(1_000)  # what attempts had reserved is settled there, too
        for run_id in ids:
            assert await everything(elsewhere, run_id) == await everything(store, run_id), run_id
        for chosen in (
            RunFilter(limit=100, tags=(("customer", "7"),)),
            RunFilter(limit=100, text="line is down"),
            RunFilter(limit=100, top=True),
            RunFilter(limit=100, claimable=False),
            RunFilter(limit=100, states=frozenset({RunState.WAITING}), reasons=frozenset({Reason.POISON})),
        ):
            there = {run.id for run in await elsewhere.list_runs(chosen)}
            assert there == {run.id for run in await store.list_runs(chosen)}, chosen
            assert there
        assert {run.id for run in await elsewhere.list_runs(RunFilter(limit=100))} == set(ids)

    async def test_a_file_of_what_was_imported_is_the_same_file(
        self, store: Store, elsewhere: Store, place: Place
    ) -> None:
        await populate(store, place)
        first = await moved(store, elsewhere)
        again = await exported(elsewhere)
        assert sorted(again.splitlines()[1:-1]) == sorted(first.splitlines()[1:-1])

    async def test_contents_that_several_runs_have_are_carried_once_and_whole(
        self, store: Store, elsewhere: Store, place: Place
    ) -> None:
        worker = await register(store)
        shared = await bring(store, *CHUNKS, b"\xff\x00")
        empty = await bring(store)
        for run_id in ("a", "b"):
            attempt = await full(store, worker, run_id, shared=shared)
            await beside(attempt, NewArtifact(name="none", id=empty, media_type="x/y"))
            await attempt.settle(DONE)
        await moved(store, elsewhere)
        whole = await elsewhere.get_content(shared)
        chunks = [await elsewhere.read_chunk(shared, n) for n in range(whole.chunks)]
        assert b"".join(chunks) == b"".join(CHUNKS) + b"\xff\x00"
        assert (await elsewhere.get_content(empty)).size_bytes == 0
        await elsewhere.delete_run("a")
        place.clock.advance(10**12)
        assert await elsewhere.sweep_artifacts(100) == 0
        await elsewhere.delete_run("b")
        assert await elsewhere.sweep_artifacts(100) > 0

    async def test_a_damaged_checkpoint_is_carried_as_it_is_and_passed_over_there_too(
        self, store: Store, elsewhere: Store, place: Place
    ) -> None:
        attempt = await start(store, await register(store))
        for n in (1, 2):
            await attempt.commit(checkpoint=save(n, state=b'{"n":%d}' % n))
        await attempt.settle(Park(reason=Reason.PAUSED))
        await place.damage_checkpoint(attempt.run.key, 2)
        await moved(store, elsewhere)
        assert [one.good for one in await elsewhere.list_checkpoints("r")] == [True, False]
        assert await everything(elsewhere, "r") == await everything(store, "r")
        assert (await elsewhere.load_checkpoint("r")).n == 1

    async def test_payloads_that_are_no_line_of_json_are_carried_byte_for_byte(
        self, store: Store, elsewhere: Store
    ) -> None:
        attempt = await start(store, await register(store))
        odd = (b"", b" 1", b"[1,\n2]", b"NaN", b"\xff", b'"\xff"', b"{} ", b'"\\ud800"', b'{"a":1,"a":2}')
        await attempt.commit(*(step(occurrence=n, payload=one) for n, one in enumerate(odd)))
        await attempt.settle(DONE)
        await moved(store, elsewhere)
        found = await elsewhere.read_entries("r", payloads=True)
        assert tuple(entry.payload for entry in found) == odd

    # --- what goes on there ---------------------------------------------------------------------------------

    async def test_a_run_goes_on_where_it_was(self, store: Store, elsewhere: Store) -> None:
        attempt = await start(store, await register(store))
        await attempt.commit(*steps(3), checkpoint=save(1, state=b"[1]"))
        await attempt.commit(*steps(2, segment=1))
        await attempt.settle(Park(reason=Reason.SIGNAL, wait_name="go", inbox_seen=0))
        await moved(store, elsewhere, "r", resume=True)
        further = await take(elsewhere, await register(elsewhere))
        assert further.run.token == attempt.run.token + 1
        journal = further.claim.journal
        assert journal.checkpoint is not None
        assert journal.checkpoint.state == b"[1]"
        assert [entry.position for entry in journal.entries] == [4, 5]
        await further.commit(*steps(1, start=2, segment=1))
        assert (await further.settle(DONE)).state is RunState.SUCCEEDED
        here = await store.get_run("r")
        assert (here.state, here.reason, here.token) == (RunState.WAITING, Reason.PAUSED, 1)

    async def test_a_parent_hears_of_the_end_of_its_child(self, store: Store, elsewhere: Store) -> None:
        worker = await register(store)
        parent = await start(store, worker, "parent")
        await bear(parent, "c")
        await parent.settle(Park(reason=Reason.CHILD, wait_name=of_child("c"), inbox_seen=0))
        await moved(store, elsewhere, "parent", resume=True)
        there = await register(elsewhere)
        above = await take(elsewhere, there, "parent")
        await above.settle(Park(reason=Reason.CHILD, wait_name=of_child("c"), inbox_seen=0))
        await end(elsewhere, there, "c")
        assert await claimed_ids(elsewhere, there) == ["parent"]
        _, (told,) = await elsewhere.read_inbox((await elsewhere.get_run("parent")).key)
        assert told.name == of_child("c")

    async def test_the_end_of_a_parent_reaches_its_children_there(
        self, store: Store, elsewhere: Store
    ) -> None:
        parent = await start(store, await register(store), "parent")
        await bear(parent, "c")
        await bear(parent, "kept", policy=LEAVE)
        await parent.settle(Park(reason=Reason.PAUSED))
        await moved(store, elsewhere)
        await elsewhere.update_run("parent", cancel)
        states = [(await elsewhere.get_run(run_id)).state for run_id in ("c", "kept")]
        assert states == [RunState.CANCELLED, RunState.WAITING]

    async def test_a_raised_budget_lets_the_run_go_on_there(self, store: Store, elsewhere: Store) -> None:
        new = replace(new_run(), budget=NewBudget(limits={OUT: 50}))
        attempt = await start(store, await register(store), new=new)
        await store.reserve([asks(attempt, "lost")])
        asked = NewReservation(run=attempt.run.key, token=attempt.run.token, call="c", asked=ASK)
        await store.reserve([asked])
        await attempt.settle(Park(reason=Reason.BUDGET))
        await moved(store, elsewhere)
        assert await stands(elsewhere) == (50, 40, 0)  # what was in flight counts as used
        there = await register(elsewhere)
        assert await claimed_ids(elsewhere, there) == []
        await elsewhere.change_budget("run:r", BudgetChange(add={OUT: 50}))
        assert await claimed_ids(elsewhere, there) == ["r"]

    async def test_an_open_question_is_answered_there(self, store: Store, elsewhere: Store) -> None:
        attempt = await start(store, await register(store))
        n = await ask(attempt)
        await attempt.settle(wait(n))
        await moved(store, elsewhere)
        await elsewhere.answer_approval("r", n, YES)
        await elsewhere.update_run("r", resume)
        further = await take(elsewhere, await register(elsewhere))
        _, (told,) = await elsewhere.read_inbox(further.run.key)
        assert told.name == f"holdfast:approval/{n}"

    async def test_runs_of_one_concurrency_key_take_turns_there(self, store: Store, elsewhere: Store) -> None:
        lane = Lane(key="one", at_most=1)
        for run_id in ("a", "b"):
            await store.create_run(replace(new_run(run_id), lane=lane))
        await moved(store, elsewhere, resume=True)
        there = await register(elsewhere)
        first = await claimed_ids(elsewhere, there, 5)
        assert len(first) == 1

    # --- what stands still ----------------------------------------------------------------------------------

    async def test_what_could_go_on_is_paused_where_it_was_and_comes_paused(
        self, store: Store, elsewhere: Store, place: Place
    ) -> None:
        await populate(store, place)
        out = io.BytesIO()
        done = await export_runs(store, None, out, timeout_s=0)
        await import_runs(elsewhere, io.BytesIO(out.getvalue()), "file")
        place.clock.advance(100 * SECOND_US)
        for one in (store, elsewhere):
            assert await claimed_ids(one, await register(one, "late"), 100) == []
            unfinished = await one.list_runs(
                RunFilter(limit=100, states=frozenset({RunState.QUEUED, RunState.RUNNING}))
            )
            assert unfinished == []
        assert {(await store.get_run(run_id)).state for run_id in done.unfinished} == {RunState.WAITING}

    async def test_a_run_that_reaches_no_safe_point_in_time_is_not_exported(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        with pytest.raises(Refused, match=r"run r reached no safe point .* --timeout"):
            await exported(store)
        assert (await store.get_run("r")).asked == "pause"
        await attempt.settle(Park(reason=Reason.PAUSED))
        assert len(lines_of(await exported(store))) > 3

    async def test_a_run_whose_worker_is_dead_is_paused_and_the_crash_counts(
        self, store: Store, elsewhere: Store, place: Place
    ) -> None:
        attempt = await start(store, await register(store))
        place.clock.advance(100 * SECOND_US)
        await moved(store, elsewhere)
        run = await elsewhere.get_run("r")
        assert (run.state, run.reason, run.crashes) == (RunState.WAITING, Reason.PAUSED, 1)
        assert run.token == attempt.run.token + 1
        assert [one for one in await store.list_workers() if one.name == "export" and one.alive] == []

    async def test_a_child_is_not_exported_without_its_unfinished_parent(self, store: Store) -> None:
        await kin(store, await register(store))
        with pytest.raises(Refused, match=r"run below is a child of waits.*: export parent"):
            await exported(store, "below")
        ids = [part.id for part in lines_of(await exported(store, "left")) if isinstance(part, MovedRun)]
        assert ids == ["left"]  # its parent has ended
        tree = [
            part.id
            for part in lines_of(await exported(store, "waits", "parent"))
            if isinstance(part, MovedRun)
        ]
        assert tree == ["parent", "told", "taken", "waits", "open", "below"]

    async def test_a_run_that_goes_on_during_the_export_is_noticed(self, store: Store) -> None:
        for run_id in ("a", "b"):
            await store.create_run(new_run(run_id))

        with pytest.raises(Refused, match="run a was changed while it was exported"):
            await exported(Meddler(store))  # type: ignore[arg-type]  # a store, apart from one call

    async def test_a_signal_that_comes_during_the_export_stays_here(
        self, store: Store, elsewhere: Store
    ) -> None:
        await store.create_run(new_run("a"))
        await store.add_signal("a", "early", b"1")
        out = io.BytesIO()
        meddler = Meddler(store, signal=True)
        await export_runs(meddler, None, out, timeout_s=0)  # type: ignore[arg-type]  # as above
        await import_runs(elsewhere, io.BytesIO(out.getvalue()), "file")
        highest, inbox = await elsewhere.read_inbox((await elsewhere.get_run("a")).key)
        assert (highest, [one.name for one in inbox]) == (1, ["early"])

    # --- on the way in --------------------------------------------------------------------------------------

    async def test_a_run_that_is_not_whole_is_moved_by_nobody(
        self, store: Store, elsewhere: Store, place: Place
    ) -> None:
        attempt = await full(store, await register(store), "r", shared=await bring(store, *CHUNKS))
        await attempt.settle(Park(reason=Reason.PAUSED))
        await bring(elsewhere, *CHUNKS)
        await begun(elsewhere, await exported(store))
        before = await elsewhere.get_run("r")
        assert (before.state, before.reason) == (RunState.QUEUED, Reason.IMPORTING)
        for decide in (cancel, pause, resume, retry):
            with pytest.raises(InvalidTransition, match="it is being imported: `holdfast import FILE`"):
                await elsewhere.update_run("r", decide)
        (n, *_) = [one.n for one in await elsewhere.list_approvals("r")]
        for deed in (
            elsewhere.add_signal("r", "go", b"1"),
            elsewhere.tag_run("r", {"a": "b"}),
            elsewhere.wish("r", Wish.THROTTLE),
            elsewhere.answer_approval("r", n, YES),
            elsewhere.change_budget("run:r", BudgetChange(set={OUT: 1})),
        ):
            with pytest.raises(InvalidTransition, match="it is being imported"):
                await deed
        worker = await register(elsewhere)
        assert await elsewhere.claim(worker, SERVES, 9) == []
        assert await elsewhere.claim(worker, SERVES, 1, only="r") == []
        place.clock.advance(10**16)  # its deadline, and the time when its question is escalated, have come
        await elsewhere.sweep(100)
        assert await elsewhere.list_open_approvals(9) == []
        assert await elsewhere.get_run("r") == before
        with pytest.raises(InvalidTransition, match="it is being imported"):
            await exported(elsewhere)

    async def test_a_run_that_is_not_whole_can_be_deleted(self, store: Store, elsewhere: Store) -> None:
        await (await start(store, await register(store))).settle(Park(reason=Reason.PAUSED))
        key, _, parts, end_of_run = await begun(elsewhere, await exported(store))
        await elsewhere.delete_run("r")
        with pytest.raises(RunNotFound):
            await elsewhere.get_run("r")
        with pytest.raises(Refused, match="not being imported any more"):
            await elsewhere.add_parts(key, parts)
        ending = Ending(key=key, lines=end_of_run.lines, sha256=end_of_run.sha256)
        with pytest.raises(Refused, match="not being imported any more"):
            await elsewhere.end_imports([ending])

    async def test_a_run_is_whole_only_with_all_of_its_lines(self, store: Store, elsewhere: Store) -> None:
        await (await start(store, await register(store))).settle(Park(reason=Reason.PAUSED))
        key, _, parts, end_of_run = await begun(elsewhere, await exported(store), parts=False)
        await elsewhere.add_parts(key, parts[:-1])
        ending = Ending(key=key, lines=end_of_run.lines, sha256=end_of_run.sha256)
        with pytest.raises(Refused):
            await elsewhere.end_imports([ending])
        record = await elsewhere.find_import("r")
        assert record is not None
        assert record.sha256 is None
        await elsewhere.add_parts(key, parts[-1:])
        await elsewhere.end_imports([ending])
        record = await elsewhere.find_import("r")
        assert record is not None
        assert record.sha256 == end_of_run.sha256
        assert await everything(elsewhere, "r") == await everything(store, "r")
        with pytest.raises(Refused):
            await elsewhere.end_imports([ending])
        assert await elsewhere.drop_import("r") is False

    async def test_runs_of_a_tree_come_into_being_together(self, store: Store, elsewhere: Store) -> None:
        parent = await start(store, await register(store), "parent")
        await bear(parent, "c")
        await parent.settle(Park(reason=Reason.PAUSED))
        endings: list[Ending] = []
        key, lines, run = 0, 0, None
        for part in lines_of(await exported(store)):
            if isinstance(part, MovedRun):
                key, lines, run = await elsewhere.begin_import(part), 1, part
            elif isinstance(part, RunEnd):
                assert run is not None
                assert part.lines == lines
                endings.append(Ending(key=key, lines=lines, sha256=part.sha256, child=run.child))
            elif not isinstance(part, ExportFooter):
                await elsewhere.add_parts(key, [part])  # type: ignore[list-item]  # a part of a run
                lines += 1
        short = structs.replace(endings[1], lines=99)
        with pytest.raises(Refused):
            await elsewhere.end_imports([endings[0], short])
        assert (await elsewhere.get_run("parent")).reason is Reason.IMPORTING
        await elsewhere.end_imports(endings)
        for run_id in ("parent", "c"):
            assert await everything(elsewhere, run_id) == await everything(store, run_id)

    async def test_an_id_that_is_taken_is_not_imported_over(self, store: Store, elsewhere: Store) -> None:
        await store.create_run(new_run("a"))
        await elsewhere.create_run(new_run("a"))
        (run, *_) = lines_of(await exported(store))
        assert isinstance(run, MovedRun)
        with pytest.raises(Conflict):
            await elsewhere.begin_import(run)

    # --- again ----------------------------------------------------------------------------------------------

    async def test_an_import_of_what_is_there_changes_nothing(
        self, store: Store, elsewhere: Store, place: Place
    ) -> None:
        ids = await populate(store, place)
        file = await moved(store, elsewhere)
        before = [await everything(elsewhere, run_id) for run_id in ids]
        for one in (elsewhere, store):  # those that came, and those that it was written of
            done = await import_runs(one, io.BytesIO(file), "file")
            assert (done.imported, done.refused) == ((), ())
            assert set(done.here) == set(ids)
        assert [await everything(elsewhere, run_id) for run_id in ids] == before

    async def test_a_run_that_came_and_went_on_is_left_alone(self, store: Store, elsewhere: Store) -> None:
        await store.create_run(new_run("a"))
        file = await moved(store, elsewhere, resume=True)
        await (await take(elsewhere, await register(elsewhere), "a")).settle(DONE)
        again = await import_runs(elsewhere, io.BytesIO(file), "file", resume=True)
        assert (again.here, again.resumed, again.unfinished) == (("a",), (), ())
        assert (await elsewhere.get_run("a")).state is RunState.SUCCEEDED

    async def test_another_run_of_the_same_id_stays_and_the_others_come(
        self, store: Store, elsewhere: Store
    ) -> None:
        for run_id in ("a", "b"):
            await store.create_run(new_run(run_id))
        await kin(store, await register(store))
        await elsewhere.create_run(new_run("a"))
        await elsewhere.create_run(new_run("below"))
        file = await exported(store)
        done = await import_runs(elsewhere, io.BytesIO(file), "file")
        assert set(done.imported) == {"b", "ended", "left", "swept"}
        refused = dict(done.refused)
        assert "run a is here already" in refused.pop("a")
        assert "run below is here already" in refused.pop("below")
        assert refused.keys() == {"parent", "told", "taken", "waits", "open"}  # its tree
        for run_id in refused:
            with pytest.raises(RunNotFound):
                await elsewhere.get_run(run_id)
        assert (await elsewhere.get_run("a")).event_no == 1

    async def test_what_an_import_left_unfinished_is_written_again(
        self, store: Store, elsewhere: Store, place: Place
    ) -> None:
        await (await start(store, await register(store))).settle(Park(reason=Reason.PAUSED))
        file = await exported(store)
        await begun(elsewhere, file)
        done = await import_runs(elsewhere, io.BytesIO(file), "file")
        assert done.imported == ("r",)
        assert await everything(elsewhere, "r") == await everything(store, "r")

    async def test_of_two_imports_at_once_the_later_one_wins(self, store: Store, elsewhere: Store) -> None:
        await (await start(store, await register(store))).settle(Park(reason=Reason.PAUSED))
        file = await exported(store)

        async def overtake() -> None:
            await elsewhere.drop_import("r")
            await begun(elsewhere, file)

        first = Overtaken(elsewhere, overtake)
        with pytest.raises(Refused, match="another import of it has begun"):
            await import_runs(first, io.BytesIO(file), "file")  # type: ignore[arg-type]  # a store, apart from one call
        record = await elsewhere.find_import("r")
        assert record is not None  # the later one is not harmed
        assert record.sha256 is None

    async def test_the_lines_of_a_run_name_nothing_by_a_number_of_the_store(
        self, store: Store, elsewhere: Store, place: Place
    ) -> None:
        for n in range(5):
            await elsewhere.create_run(new_run(f"other-{n}"))  # numbers differ there
        ids = await populate(store, place)
        await moved(store, elsewhere)
        for run_id in ids:
            here = [msgspec.json.encode(part) async for part in parts_of(store, run_id, with_parent=True)]
            there = [
                msgspec.json.encode(part) async for part in parts_of(elsewhere, run_id, with_parent=True)
            ]
            assert here == there


class Meddler:
    """A store in which somebody resumes run "a" while the second run is exported, or signals it while it is itself."""

    def __init__(self, store: Store, *, signal: bool = False) -> None:
        self._store = store
        self._signal = signal

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def read_head(self, run_id: str) -> MovedHead:
        """The head, and then it happens."""
        head = await self._store.read_head(run_id)
        if self._signal:
            await self._store.add_signal("a", "late", b"2")
        elif run_id == "b":
            await self._store.update_run("a", resume)
        return head


class Overtaken:
    """A store in which something happens just before parts are written."""

    def __init__(self, store: Store, deed: Callable[[], Awaitable[None]]) -> None:
        self._store = store
        self._deed = deed

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def add_parts(self, key: int, parts: Sequence[PartOfRun]) -> None:
        """It happens, and then they are written."""
        await self._deed()
        await self._store.add_parts(key, parts)
