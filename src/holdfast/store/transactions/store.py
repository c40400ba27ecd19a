"""A store on a database: a short method for each promise of the protocol.

What they do stands in the modules beside this one, as functions of a connection; the engine says which thread does it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from holdfast.model import (
    Answer,
    ApprovalRecord,
    Artifact,
    Ask,
    BudgetChange,
    BudgetRecord,
    Change,
    Checkpoint,
    Claim,
    Committed,
    Content,
    Created,
    Entry,
    Event,
    Fire,
    Fired,
    Glimpse,
    Journal,
    Kin,
    NewChild,
    NewReservation,
    NewRun,
    NewSample,
    NewSchedule,
    NewTurn,
    NewWorker,
    Output,
    Progress,
    QueueRecord,
    RateRecord,
    RefusedChange,
    Reserved,
    Run,
    RunFilter,
    Sample,
    ScheduleRecord,
    Served,
    Signal,
    Standing,
    StepCursor,
    Terms,
    TreeSample,
    Turn,
    Wish,
    WorkerRecord,
)
from holdfast.model.moving import (
    Ending,
    ImportRecord,
    MovedHead,
    MovedPaged,
    MovedRun,
    Pages,
    PartOfRun,
)
from holdfast.rules import firing
from holdfast.store.protocol import Decide
from holdfast.store.transactions import (
    approvals,
    artifacts,
    budgets,
    children,
    claim,
    decisions,
    imports,
    inbox,
    moving,
    rates,
    reading,
    runs,
    samples,
    schedules,
    steps,
    sweep,
    tags,
    workers,
)
from holdfast.store.transactions.alone import Alone
from holdfast.store.transactions.connection import Connection
from holdfast.store.transactions.engine import ARTIFACTS, RATES, Engine

FOUND_AT_START: Final = 1000  # runs that a new worker brings the code for; the sweeps do the rest


def _no(_: object) -> bool:
    """Nobody waits for it."""
    return False


class TransactionalStore(Alone):
    """Durable memory in a database. Who inherits says which: its engine, its URL, its folders."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    # --- opening and closing --------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open the file, create or migrate its schema."""
        await self._engine.open()

    async def close(self) -> None:
        """Finish what was begun and close the file. Idempotent."""
        await self._engine.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # --- runs -----------------------------------------------------------------------------------------------

    async def now(self) -> int:
        self._engine.check_open()
        return await self._engine.read(lambda connection: connection.clock.wall_us())

    async def create_run(self, new: NewRun) -> Created:
        return await self._engine.write(
            lambda connection: runs.create(connection, new, connection.clock.wall_us())
        )

    async def create_runs(self, new: Sequence[NewRun]) -> list[Created]:
        def create(connection: Connection) -> list[Created]:
            return runs.create_all(connection, new, connection.clock.wall_us())

        return await self._engine.write(create)

    async def get_run(self, run_id: str) -> Run:
        run = self._engine.glance(lambda connection: decisions.small_run(connection, run_id))
        if run is None:
            run = await self._engine.read_once(lambda connection: decisions.small_run(connection, run_id))
        if run is not None:
            return run
        return await self._engine.read(lambda connection: decisions.run_by_id(connection, run_id))

    async def get_runs(self, run_keys: Sequence[int]) -> dict[int, Run]:
        return await self._engine.read(lambda connection: reading.runs_by_key(connection, run_keys))

    async def get_input(self, run_id: str) -> bytes:
        return await self._engine.read(lambda connection: reading.input_of(connection, run_id))

    async def get_progress(self, run_key: int) -> Progress | None:
        return await self._engine.read(lambda connection: reading.progress(connection, run_key))

    async def list_runs(self, chosen: RunFilter) -> list[Run]:
        return await self._engine.read(lambda connection: reading.runs(connection, chosen))

    async def get_tags(self, run_keys: Sequence[int]) -> dict[int, dict[str, str]]:
        return await self._engine.read(lambda connection: tags.of_runs(connection, run_keys))

    async def tag_run(self, run_id: str, changed: Mapping[str, str | None]) -> dict[str, str]:
        return await self._engine.write(lambda connection: tags.change(connection, run_id, changed))

    async def find_runs_with_input(self, agent: str, input_json: bytes) -> list[Run]:
        return await self._engine.read(
            lambda connection: reading.runs_with_input(connection, agent, input_json)
        )

    async def update_run(self, run_id: str, decide: Decide) -> Run:
        return await self._engine.write(
            lambda connection: runs.update(connection, run_id, decide, connection.clock.wall_us())
        )

    async def delete_run(self, run_id: str) -> None:
        await self._engine.write(lambda connection: runs.delete(connection, run_id))

    async def prunable(self, before_us: int) -> dict[str, int]:
        return await self._engine.read(lambda connection: reading.prunable(connection, before_us))

    async def prune(self, before_us: int, limit: int) -> int:
        return await self._engine.write(lambda connection: runs.prune(connection, before_us, limit))

    # --- attempts -------------------------------------------------------------------------------------------

    async def claim(
        self, worker: int, serves: Sequence[Served], limit: int, *, only: str | None = None
    ) -> list[Claim]:
        def looked(connection: Connection) -> claim.Asking | None:
            self._engine.check_kept()
            asks = claim.asking(connection, connection.clock, worker, serves, limit, only)
            return asks if only is not None or claim.look(connection, connection.clock, asks) else None

        asks = await self._engine.read(looked)
        if asks is None:
            return []
        return await self._engine.write(lambda connection: claim.claim(connection, connection.clock, asks))

    async def commit(self, changes: Sequence[Change]) -> list[Committed | RefusedChange]:
        return await self._engine.commit(changes)

    def commit_now(self, changes: Sequence[Change]) -> list[Committed | RefusedChange] | None:
        return self._engine.commit_now(changes)

    def commit_soon(self, change: Change, answered: Callable[[Committed | Exception | None], None]) -> bool:
        return self._engine.commit_soon(change, answered)

    async def asks(self, worker: int) -> list[Ask]:
        return await self._engine.read(lambda connection: reading.asks(connection, worker))

    async def get_once(self, run_key: int, key: str) -> Entry | None:
        return await self._engine.read(lambda connection: reading.once(connection, run_key, key))

    async def count_once(self, run_key: int) -> int:
        return await self._engine.read(lambda connection: reading.count_once(connection, run_key))

    # --- signals --------------------------------------------------------------------------------------------

    async def add_signal(self, run_id: str, name: str, payload: bytes, dedup: str | None = None) -> Signal:
        return await self._engine.write(
            lambda connection: inbox.add_signal(
                connection, run_id, name, payload, dedup, connection.clock.wall_us()
            )
        )

    async def read_inbox(self, run_key: int) -> tuple[int, list[Signal]]:
        return await self._engine.read(lambda connection: reading.inbox(connection, run_key))

    # --- approvals ------------------------------------------------------------------------------------------

    async def answer_approval(self, run_id: str, n: int, answer: Answer) -> ApprovalRecord:
        return await self._engine.write(
            lambda connection: approvals.answer(connection, run_id, n, answer, connection.clock.wall_us())
        )

    async def list_approvals(self, run_id: str) -> list[ApprovalRecord]:
        return await self._engine.read(lambda connection: approvals.of_run(connection, run_id))

    async def list_open_approvals(self, limit: int) -> list[ApprovalRecord]:
        return await self._engine.read(
            lambda connection: approvals.still_open(connection, connection.clock.wall_us(), limit)
        )

    # --- children -------------------------------------------------------------------------------------------

    async def read_child(self, parent: int, child_id: str) -> Standing | None:
        return await self._engine.read(lambda connection: children.standing(connection, parent, child_id))

    async def check_child(self, parent: int, new: NewChild) -> None:
        await self._engine.read(lambda connection: children.check(connection, parent, new))

    async def list_children(
        self, run_ids: Sequence[str], limit: int, *, unfinished: bool = False
    ) -> list[Kin]:
        return await self._engine.read(
            lambda connection: children.of_parents(connection, run_ids, limit, unfinished)
        )

    async def parents_of(self, run_keys: Sequence[int]) -> dict[int, str]:
        return await self._engine.read(lambda connection: children.parents(connection, run_keys))

    # --- shared rates ---------------------------------------------------------------------------------------

    async def take_turns(self, asked: Sequence[NewTurn]) -> list[Turn]:
        return await self._engine.write(
            lambda connection: rates.take(connection, connection.clock, asked), locks=(RATES,), is_news=_no
        )

    async def hold_back(self, rate: str, terms: Terms, for_us: int) -> None:
        await self._engine.write(
            lambda connection: rates.hold_back(connection, connection.clock, rate, terms, for_us),
            locks=(RATES,),
        )

    async def get_rate(self, rate: str) -> RateRecord | None:
        return await self._engine.read(lambda connection: rates.read(connection, connection.clock, rate))

    async def list_rates(self) -> list[RateRecord]:
        return await self._engine.read(lambda connection: rates.listed(connection, connection.clock))

    async def pin_rate(self, rate: str, terms: Terms | None) -> None:
        await self._engine.write(
            lambda connection: rates.pin(connection, connection.clock, rate, terms), locks=(RATES,)
        )

    async def forget_rate(self, rate: str) -> None:
        await self._engine.write(lambda connection: rates.forget(connection, rate), locks=(RATES,))

    # --- budgets --------------------------------------------------------------------------------------------

    async def reserve(self, asked: Sequence[NewReservation]) -> list[Reserved]:
        return await self._engine.write(
            lambda connection: budgets.reserve(connection, asked, connection.clock.wall_us()), is_news=_no
        )

    async def change_budget(self, scope: str, change: BudgetChange) -> BudgetRecord:
        return await self._engine.write(
            lambda connection: budgets.change(connection, scope, change, connection.clock.wall_us())
        )

    async def forget_budget(self, scope: str) -> None:
        await self._engine.write(
            lambda connection: budgets.forget(connection, scope, connection.clock.wall_us())
        )

    async def get_budget(self, scope: str) -> BudgetRecord | None:
        return await self._engine.read(
            lambda connection: budgets.get(connection, scope, connection.clock.wall_us())
        )

    async def budgets_of(self, run_id: str) -> list[BudgetRecord]:
        return await self._engine.read(
            lambda connection: budgets.of_run(connection, run_id, connection.clock.wall_us())
        )

    async def list_budgets(self, limit: int, *, runs: bool = False) -> list[BudgetRecord]:
        return await self._engine.read(
            lambda connection: budgets.listed(connection, connection.clock.wall_us(), limit, runs=runs)
        )

    # --- reading --------------------------------------------------------------------------------------------

    async def read_events(self, run_id: str, after: int, limit: int) -> list[Event]:
        return await self._engine.read(lambda connection: reading.events(connection, run_id, after, limit))

    async def read_entries(self, run_id: str, *, payloads: bool = False) -> list[Entry]:
        return await self._engine.read(lambda connection: reading.entries(connection, run_id, payloads))

    async def list_checkpoints(self, run_id: str) -> list[Checkpoint]:
        return await self._engine.read(lambda connection: reading.checkpoints(connection, run_id))

    async def load_checkpoint(self, run_id: str, n: int | None = None) -> Checkpoint:
        return await self._engine.read(lambda connection: reading.checkpoint(connection, run_id, n))

    async def load_journal(self, run_id: str, *, whole: bool = False) -> Journal:
        return await self._engine.read(lambda connection: reading.journal_of(connection, run_id, whole))

    # --- steps ----------------------------------------------------------------------------------------------

    async def read_cursors(self, run_id: str) -> list[StepCursor]:
        return await self._engine.read(lambda connection: steps.cursors_of(connection, run_id))

    async def read_output(self, run_id: str, after: int) -> list[Output]:
        return await self._engine.read(lambda connection: steps.output_of(connection, run_id, after))

    # --- workers and queues ---------------------------------------------------------------------------------

    async def register_worker(self, new: NewWorker, lease_us: int) -> int:
        def register(connection: Connection) -> int:
            key = workers.register(connection, connection.clock, new, lease_us)
            served = {(each.agent, one) for each in new.serves for one in (each.version, *each.continues)}
            sweep.find_code(connection, served, connection.clock.wall_us(), FOUND_AT_START)
            return key

        return await self._engine.write(register)

    def renew_lease(self, worker: int, lease_us: int, sample: Sample | None) -> bool:
        """Renew the worker's lease. Blocks; for a thread of its own, on a connection of its own."""
        return self._engine.lease(
            lambda connection: workers.renew(connection, connection.clock, worker, lease_us, sample)
        )

    async def retire_worker(self, worker: int, *, counted: bool = False) -> None:
        await self._engine.write(lambda connection: workers.retire(connection, worker, counted))

    async def mark_draining(self, worker: int) -> None:
        await self._engine.write(lambda connection: workers.mark_draining(connection, worker))

    async def is_draining(self, worker: int) -> bool:
        said = self._engine.glance(lambda connection: workers.is_draining(connection, worker))
        if said is not None:
            return said
        return await self._engine.read(lambda connection: workers.is_draining(connection, worker))

    async def list_workers(self) -> list[WorkerRecord]:
        return await self._engine.read(lambda connection: workers.listed(connection, connection.clock))

    async def sweep(self, limit: int) -> int:
        locks = await self._engine.read(lambda connection: workers.try_locks(connection, connection.clock))
        swept, forgotten = await self._engine.write(
            lambda connection: sweep.sweep(connection, connection.clock, limit, locks), is_news=bool
        )
        for lock in forgotten:
            self._remove_lock(lock)
        return swept

    def _remove_lock(self, lock: Path) -> None:
        """A generation of a worker is over that had this lock file. Where there are such files they are removed."""

    async def limit_queue(self, name: str, limit: int | None) -> None:
        await self._engine.write(lambda connection: runs.limit_queue(connection, name, limit))

    async def list_queues(self) -> list[QueueRecord]:
        return await self._engine.read(reading.queues)

    # --- samples and wishes ---------------------------------------------------------------------------------

    async def save_samples(self, seen: Sequence[NewSample]) -> list[bool]:
        return await self._engine.write(
            lambda connection: samples.save(connection, seen, connection.clock.wall_us()),
            locks=(),
            is_news=_no,
        )

    async def read_history(self, run_id: str) -> tuple[TreeSample, ...]:
        return await self._engine.read(lambda connection: samples.history(connection, run_id))

    async def glimpse(self, run_keys: Sequence[int]) -> dict[int, Glimpse]:
        return await self._engine.read(lambda connection: samples.glimpses(connection, run_keys))

    async def wish(self, run_id: str, wish: Wish, *, wanted: bool = True) -> None:
        await self._engine.write(lambda connection: samples.ask(connection, run_id, wish, wanted))

    # --- schedules ------------------------------------------------------------------------------------------

    async def put_schedule(self, new: NewSchedule) -> ScheduleRecord:
        return await self._engine.write(
            lambda connection: schedules.put(connection, new, connection.clock.wall_us())
        )

    async def get_schedule(self, name: str) -> ScheduleRecord:
        return await self._engine.read(lambda connection: schedules.get(connection, name))

    async def list_schedules(self) -> list[ScheduleRecord]:
        return await self._engine.read(schedules.listed)

    async def list_fires(self, name: str, limit: int) -> list[Fire]:
        return await self._engine.read(lambda connection: schedules.fires(connection, name, limit))

    async def get_fire(self, run_id: str) -> Fire | None:
        return await self._engine.read(lambda connection: schedules.fire_of_run(connection, run_id))

    async def pause_schedule(self, name: str) -> ScheduleRecord:
        return await self._engine.write(
            lambda connection: schedules.change(
                connection, name, lambda found, _: firing.pause(found), connection.clock.wall_us()
            )
        )

    async def resume_schedule(self, name: str) -> ScheduleRecord:
        return await self._engine.write(
            lambda connection: schedules.change(connection, name, firing.resume, connection.clock.wall_us())
        )

    async def remove_schedule(self, name: str) -> None:
        await self._engine.write(lambda connection: schedules.remove(connection, name))

    async def run_schedule_now(self, name: str) -> Fire:
        return await self._engine.write(
            lambda connection: schedules.run_now(connection, name, connection.clock.wall_us())
        )

    async def backfill_schedule(self, name: str, since_us: int, until_us: int) -> list[Fire]:
        return await self._engine.write(
            lambda connection: schedules.backfill(
                connection, name, since_us, until_us, connection.clock.wall_us()
            )
        )

    async def fire_schedules(self, limit: int) -> Fired:
        next_us, now_us = await self._engine.read(
            lambda connection: (schedules.next_wake(connection), connection.clock.wall_us())
        )
        if next_us is None or next_us > now_us:  # nearly always: no lock is taken
            return Fired(schedules=0, next_in_us=None if next_us is None else next_us - now_us)
        return await self._engine.write(
            lambda connection: schedules.fire(connection, limit, connection.clock.wall_us()),
            is_news=lambda fired: fired.schedules > 0,
        )

    # --- artifacts ------------------------------------------------------------------------------------------

    async def begin_content(self) -> int:
        return await self._engine.write(
            lambda connection: artifacts.begin(connection, connection.clock.wall_us()),
            locks=(ARTIFACTS,),
            is_news=_no,
        )

    async def add_chunk(self, upload: int, n: int, chunk: bytes) -> None:
        packed = await self._engine.aside(lambda: artifacts.packed(chunk))
        await self._engine.write(
            lambda connection: artifacts.add_chunk(connection, upload, n, packed, connection.clock.wall_us()),
            locks=(ARTIFACTS,),
            is_news=_no,
        )

    async def seal_content(self, upload: int, content_id: str, size_bytes: int) -> Content:
        sha256 = bytes.fromhex(content_id)
        return await self._engine.write(
            lambda connection: artifacts.seal(
                connection, upload, sha256, size_bytes, connection.clock.wall_us()
            ),
            locks=(ARTIFACTS,),
            is_news=_no,
        )

    async def list_artifacts(self, run_id: str) -> list[Artifact]:
        return await self._engine.read(lambda connection: artifacts.listed(connection, run_id))

    async def get_content(self, content_id: str) -> Content:
        return await self._engine.read(lambda connection: artifacts.content(connection, content_id))

    async def read_chunk(self, content_id: str, n: int) -> bytes:
        return await self._engine.read(lambda connection: artifacts.read_chunk(connection, content_id, n))

    async def sweep_artifacts(self, limit: int) -> int:
        return await self._engine.write(
            lambda connection: artifacts.sweep(connection, connection.clock.wall_us(), limit),
            locks=(ARTIFACTS,),
            is_news=_no,
        )

    # --- moving -------------------------------------------------------------------------------------------

    async def tree_of(self, run_id: str) -> list[tuple[Run, str | None]]:
        return await self._engine.read(lambda connection: moving.tree(connection, run_id))

    async def read_head(self, run_id: str) -> MovedHead:
        return await self._engine.read(lambda connection: moving.head(connection, run_id))

    async def read_page(self, run_id: str, pages: Pages, after: int) -> list[MovedPaged]:
        return await self._engine.read(lambda connection: moving.page(connection, run_id, pages, after))

    async def find_import(self, run_id: str) -> ImportRecord | None:
        return await self._engine.read(lambda connection: imports.find(connection, run_id))

    async def begin_import(self, run: MovedRun) -> int:
        return await self._engine.write(lambda connection: imports.begin(connection, run), is_news=_no)

    async def add_parts(self, key: int, parts: Sequence[PartOfRun]) -> None:
        await self._engine.write(lambda connection: imports.add(connection, key, parts), is_news=_no)

    async def end_imports(self, endings: Sequence[Ending]) -> None:
        await self._engine.write(lambda connection: imports.end(connection, endings))

    async def drop_import(self, run_id: str, key: int | None = None) -> bool:
        return await self._engine.write(lambda connection: imports.drop(connection, run_id, key))

    # --- hints ----------------------------------------------------------------------------------------------

    async def wait_for_news(self, timeout_s: float) -> None:
        """Return when any process has committed, or after the time-out."""
        await self._engine.wait_for_news(timeout_s)
