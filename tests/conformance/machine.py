"""A Hypothesis state machine: any sequence of operations on a store, zombies and crashes included, beside the model.

After every rule all runs are compared with the model, and the invariants I1–I6 are checked: one outcome a position,
one holder a token, nothing from a fenced attempt, moves along the state table only, counters without gaps, what was
acknowledged is there (through whichever handle, also after it was opened again).
"""

from __future__ import annotations

import asyncio
import os
from abc import abstractmethod
from collections import Counter
from collections.abc import Coroutine
from typing import ClassVar, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec import structs

from holdfast.errors import Conflict, InvalidTransition, Refused
from holdfast.model import (
    Change,
    Committed,
    EntryKind,
    Event,
    Failed,
    Hold,
    NewRun,
    Note,
    Outcome,
    Park,
    Reason,
    Release,
    Retry,
    Served,
    Succeeded,
)
from holdfast.rules import states, transitions
from holdfast.store.protocol import Decide, Store
from holdfast.testing.conformance.place import FAILURE, LEASE_US, Attempt, Place, register, save, step
from tests.conformance.model import Model, ModelRun, ModelWorker

EXAMPLES = int(os.environ.get("HOLDFAST_MACHINE_EXAMPLES", "0"))
"""How many random sequences the state machine tries; 0: the few dozen fixed ones of every test run."""
PLACES = ("accepted", "refused", "running", "succeeded", "failed", "cancelled", "waiting poison")
"""Where the machine must have been, or it proves little."""

T = TypeVar("T")
RUNS = ("a", "b", "c", "d")
SECOND_US = 1_000_000
OUTCOMES = ("succeeded", "failed", "retry", "sleep", "signal", "release", "hold")
ACTS = ("cancel", "pause", "resume", "retry")
MOVES = {(before, after) for (before, _), targets in states.TABLE.items() for after in targets}


class StoreMachine(RuleBasedStateMachine):
    """Any sequence of operations. A subclass says where."""

    seen: ClassVar[Counter[str]] = Counter()
    """How often what was met, so that a test can see that the machine goes everywhere."""

    @abstractmethod
    def new_place(self) -> Place:
        """An empty store."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.place = self.new_place()
        self.handles = [self.do(self.place.open()) for _ in range(2)]
        self.model = Model()
        self.model.wall, self.model.since_boot = self.place.clock.wall_us(), self.place.clock.boot_us()
        self.usable: list[int] = []  # workers whose process is there
        self.attempts: list[Attempt] = []  # every attempt ever, zombies included
        self.written = 0
        self.tokens: set[tuple[int, int]] = set()
        self.acknowledged: dict[int, dict[int, bytes]] = {}  # run → position → payload
        self.feeds: dict[int, list[Event]] = {}
        self.states: dict[int, str] = {}

    def do(self, work: Coroutine[object, object, T]) -> T:
        return self.runner.run(work)

    def teardown(self) -> None:
        self.do(self.place.close())
        self.runner.close()

    @property
    def store(self) -> Store:
        """Now this handle, now that one."""
        return self.handles[self.written % 2]

    # --- runs -----------------------------------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        """Something is going on from the first rule on: one run is claimed, one waits in the queue."""
        self.register(both=True)
        for run_id in ("a", "b"):
            self._create(NewRun(id=run_id, agent="refactor", version="1", input=b"{}"))
            if run_id == "a":
                self._claim(self.usable[0], 1)

    @rule(
        run_id=st.sampled_from(RUNS),
        body=st.sampled_from([b"{}", b"{}", b"{}", b'{"n":1}']),
        priority=st.sampled_from([0, 0, -1, 2]),
        delay_s=st.sampled_from([0, 0, 0, 40]),
        deadline_s=st.sampled_from([None, None, None, 100]),
        version=st.sampled_from(["1", "1", "1", "2"]),
    )
    def create(
        self, run_id: str, body: bytes, priority: int, delay_s: int, deadline_s: int | None, version: str
    ) -> None:
        new = NewRun(
            id=run_id,
            agent="refactor",
            version=version,
            input=body,
            priority=priority,
            delay_us=delay_s * SECOND_US,
            deadline_us=deadline_s and deadline_s * SECOND_US,
        )
        self._create(new)

    def _create(self, new: NewRun) -> None:
        run_id, body = new.id, new.input
        known = self.model.runs.get(run_id)
        try:
            created = self.do(self.store.create_run(new))
        except Conflict:
            assert known is not None and known.input != body
            return
        assert created.existed == (known is not None)
        if known is not None:
            assert known.input == body
            return
        now = self.model.wall
        deadline = None if new.deadline_us is None else now + new.deadline_us
        key = created.run.key
        self.model.runs[run_id] = ModelRun(
            key=key,
            id=run_id,
            input=body,
            created=now,
            priority=new.priority,
            version=new.version,
            available=now + new.delay_us,
            deadline=deadline,
        )
        assert key not in self.feeds, "a key is never used twice"
        self.feeds[key], self.acknowledged[key], self.states[key] = [], {}, "queued"

    @precondition(lambda self: self.model.runs)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        run = self._some_run(data)
        if run.state not in ("succeeded", "failed", "cancelled"):
            self._refused(self.store.delete_run(run.id))
            return
        self.do(self.store.delete_run(run.id))
        del self.model.runs[run.id]

    @precondition(lambda self: self.model.runs)
    @rule(data=st.data(), act=st.sampled_from(ACTS))
    def operate(self, data: st.DataObject, act: str) -> None:
        run = self._some_run(data)
        live = [n for n, (_, superseded) in enumerate(run.entries, 1) if not superseded]
        cut = tuple(live[-1:]) if act == "retry" and data.draw(st.booleans()) else ()
        decide: Decide = getattr(transitions, act)
        if act == "retry":
            decide = lambda run, now_us: transitions.retry(run, now_us, supersede=cut)
        possible = self.model.operate(run, act, cut)
        try:
            self.do(self.store.update_run(run.id, decide))
        except InvalidTransition:
            assert not possible
        else:
            assert possible

    @precondition(lambda self: self.model.runs)
    @rule(data=st.data(), name=st.sampled_from(["go", "go", "stop"]))
    def signal(self, data: st.DataObject, name: str) -> None:
        run = self._some_run(data)
        if self.model.signal(run, name):
            assert self.do(self.store.add_signal(run.id, name, b"null")).n == len(run.signals)
        else:
            self._refused(self.store.add_signal(run.id, name, b"null"))

    # --- workers and time -----------------------------------------------------------------------------------

    @rule(both=st.booleans())
    def register(self, both: bool) -> None:
        versions = ("1", "2") if both else ("1",)
        serves = [Served(agent="refactor", version=version) for version in versions]
        key = self.do(register(self.store, serves=serves))
        self.model.workers[key] = ModelWorker(
            frozenset(versions), self.model.since_boot + LEASE_US, self.model.boot
        )
        self.model.find_code(versions)
        self.usable.append(key)

    @rule(data=st.data(), limit=st.integers(1, 3))
    def claim(self, data: st.DataObject, limit: int) -> None:
        if not self.usable:
            self.register(both=True)
        self._claim(data.draw(st.sampled_from(self.usable)), limit)

    @precondition(lambda self: any(self.model.due(run) for run in self.model.runs.values()))
    @rule(limit=st.integers(1, 3))
    def claim_what_is_due(self, limit: int) -> None:
        self.register(both=True)
        self._claim(self.usable[-1], limit)

    def _claim(self, worker: int, limit: int) -> None:
        self.renew(worker)
        serves = [Served(agent="refactor", version=v) for v in self.model.workers[worker].versions]
        eligible = self.model.eligible(worker)
        claims = self.do(self.store.claim(worker, serves, limit))
        got = [claim.run.id for claim in claims]
        moved = {
            run.id
            for run in eligible
            if run.id not in got and self.do(self.store.get_run(run.id)).token != run.token
        }
        self.model.claim(worker, limit, got, moved)
        for claim in claims:
            holder = (claim.run.key, claim.run.token)
            assert holder not in self.tokens, "I2: a token has one holder"
            self.tokens.add(holder)
            self._check_journal(claim.run.id, [e.payload for e in claim.journal.entries])
            self.attempts.append(Attempt(self.store, claim))

    def _check_journal(self, run_id: str, payloads: list[bytes]) -> None:
        live = [payload for payload, superseded in self.model.runs[run_id].entries if not superseded]
        assert payloads == live[len(live) - len(payloads) :], "a journal is the tail of what lives"

    def renew(self, worker: int) -> None:
        assert self.store.renew_lease(worker, LEASE_US, None) == self.model.renew(worker)

    @precondition(lambda self: self.usable)
    @rule(data=st.data())
    def heartbeat(self, data: st.DataObject) -> None:
        self.renew(data.draw(st.sampled_from(self.usable)))

    @precondition(lambda self: self.usable)
    @rule(data=st.data(), end=st.sampled_from(["crash", "drain", "counted"]))
    def end_worker(self, data: st.DataObject, end: str) -> None:
        worker = data.draw(st.sampled_from(self.usable))
        self.usable.remove(worker)
        if end != "crash":
            self.do(self.store.retire_worker(worker, counted=end == "counted"))
            known = self.model.workers[worker]
            known.retired, known.counted = True, end == "counted"

    @rule(seconds=st.sampled_from([1, 29, 31, 31, 31, 3_600]))
    def advance(self, seconds: int) -> None:
        self.place.clock.advance(seconds * SECOND_US)
        self._read_clock()

    @rule()
    def crash_everything(self) -> None:
        self.usable.clear()
        self.advance(31)
        self.register(both=True)

    @rule()
    def reboot(self) -> None:
        self.place.clock.reboot()
        self.usable.clear()
        self.model.boot += 1
        self._read_clock()
        self.register(both=True)

    def _read_clock(self) -> None:
        self.model.wall, self.model.since_boot = self.place.clock.wall_us(), self.place.clock.boot_us()

    @rule()
    def sweep(self) -> None:
        for _ in range(20):
            if not self.do(self.store.sweep(100)):
                break
        else:
            raise AssertionError("a sweep never comes to its end")
        self.model.sweep()
        self.usable = [key for key in self.usable if not self.model.dead(key) or self.model.held(key)]

    @rule(which=st.integers(0, 1))
    def open_again(self, which: int) -> None:
        old, self.handles[which] = self.handles[which], self.do(self.place.open())
        for attempt in self.attempts:
            attempt.store = self.handles[which]
        self.do(old.close())

    # --- attempts -------------------------------------------------------------------------------------------

    @precondition(lambda self: self.attempts)
    @rule(
        data=st.data(),
        count=st.integers(1, 3),
        twice=st.booleans(),
        consume=st.booleans(),
        keep=st.booleans(),
    )
    def commit(self, data: st.DataObject, count: int, twice: bool, consume: bool, keep: bool) -> None:
        attempt = self._some_attempt(data)
        run = self.model.fenced(attempt.run.key, attempt.run.token, attempt.position)
        signal = run.inbox[0] if run and consume and run.inbox else None
        payloads = [b"%d" % (self.written + n) for n in range(1, count + 1)]
        self.written += count
        entries = [step(occurrence=int(p), payload=p, segment=run.saved if run else 0) for p in payloads]
        if signal is not None:
            entries[0] = structs.replace(entries[0], kind=EntryKind.SIGNAL, signal=signal)
        new = save(run.saved + 1, state=payloads[0], keep=2) if run and keep else None
        change = attempt.change(*entries, notes=(Note("log"),), checkpoint=new)
        if self._commit(attempt, change) and run:
            for position, payload in enumerate(payloads, run.position + 1):
                self.acknowledged[run.key][position] = payload
            run.entries += [(payload, False) for payload in payloads]
            if signal is not None:
                run.signals[signal - 1] = attempt.position - count + 1
            if new is not None:
                run.save(2)
        if twice:
            assert not self._answer(change), "I1: a lost acknowledgement records nothing twice"

    @precondition(lambda self: any(self._is_zombie(attempt) for attempt in self.attempts))
    @rule(data=st.data())
    def zombie(self, data: st.DataObject) -> None:
        """A fenced attempt that guesses everything right but the token, or the state, can still write nothing."""
        attempt = data.draw(st.sampled_from([each for each in self.attempts if self._is_zombie(each)]))
        runs = [run for run in self.model.runs.values() if run.key == attempt.run.key]
        attempt.position = runs[0].position if runs else attempt.position
        for change in (
            attempt.change(step(payload=b'"zombie"')),
            attempt.change(notes=(Note("log"),)),
            attempt.change(checkpoint=save(99)),
            attempt.change(outcome=Succeeded(result=b'"zombie"')),
        ):
            assert not self._answer(change), "I3: a fenced attempt commits nothing"

    def _is_zombie(self, attempt: Attempt) -> bool:
        return self.model.fenced(attempt.run.key, attempt.run.token, None) is None

    @precondition(lambda self: any(run.state == "running" for run in self.model.runs.values()))
    @rule(data=st.data())
    def lose_worker(self, data: st.DataObject) -> None:
        """The lease of a worker that holds runs ends, and another worker claims."""
        held = [run.worker for run in self.model.runs.values() if run.worker is not None]
        worker = data.draw(st.sampled_from(held))
        self.usable = [key for key in self.usable if key != worker]
        self.advance(31)
        self.register(both=True)
        self._claim(self.usable[-1], 3)

    @precondition(lambda self: self.attempts)
    @rule(data=st.data(), drift=st.integers(-2, 2))
    def note(self, data: st.DataObject, drift: int) -> None:
        attempt = self._some_attempt(data)
        change = structs.replace(
            attempt.change(notes=(Note("log"),)), position=max(0, attempt.position + drift)
        )
        assert self._answer(change) == (
            self.model.fenced(attempt.run.key, attempt.run.token, None) is not None
        )

    @precondition(lambda self: any(not self._is_zombie(attempt) for attempt in self.attempts))
    @rule(data=st.data(), outcome=st.sampled_from(OUTCOMES), delay_s=st.sampled_from([0, 5, 35]))
    def settle(self, data: st.DataObject, outcome: str, delay_s: int) -> None:
        attempt = data.draw(st.sampled_from([each for each in self.attempts if not self._is_zombie(each)]))
        run = self.model.fenced(attempt.run.key, attempt.run.token, attempt.position)
        seen = data.draw(st.integers(0, len(run.signals))) if run else 0
        delay = delay_s * SECOND_US
        if self._commit(attempt, attempt.change(outcome=self._outcome(outcome, delay, seen))) and run:
            self.model.settle(run, outcome, delay=delay, seen=seen)

    def _outcome(self, outcome: str, delay: int, seen: int) -> Outcome:
        outcomes: dict[str, Outcome] = {
            "succeeded": Succeeded(result=b"1"),
            "failed": Failed(failure=FAILURE),
            "retry": Retry(failure=FAILURE, delay_us=delay),
            "sleep": Park(reason=Reason.SLEEP, until_us=self.model.wall + delay),
            "signal": Park(reason=Reason.SIGNAL, wait_name="go", inbox_seen=seen),
            "release": Release(),
            "hold": Hold(reason=Reason.MISMATCH, failure=FAILURE),
        }
        return outcomes[outcome]

    def _commit(self, attempt: Attempt, change: Change) -> bool:
        expected = self.model.fenced(change.run, change.token, change.position) is not None
        accepted = self._answer(change)
        assert accepted == expected, f"I3: the fence lets {change} through: {accepted}"
        if accepted:
            attempt.position += len(change.entries)
        return accepted

    def _answer(self, change: Change) -> bool:
        (answer,) = self.do(self.store.commit([change]))
        accepted = isinstance(answer, Committed)
        self.seen["accepted" if accepted else "refused"] += 1
        return accepted

    def _some_run(self, data: st.DataObject) -> ModelRun:
        return self.model.runs[data.draw(st.sampled_from(sorted(self.model.runs)))]

    def _some_attempt(self, data: st.DataObject) -> Attempt:
        """Mostly one that holds its run, sometimes a zombie."""
        holders = [each for each in self.attempts if not self._is_zombie(each)] or self.attempts
        return data.draw(st.sampled_from(holders) | st.sampled_from(self.attempts))

    def _refused(self, work: Coroutine[object, object, object]) -> None:
        try:
            self.do(work)
        except Refused:
            return
        raise AssertionError("this must be refused")

    # --- what holds after every rule ------------------------------------------------------------------------

    @invariant()
    def store_and_model_agree(self) -> None:
        for run in self.model.runs.values():
            self.do(self._compare(run))

    async def _compare(self, model: ModelRun) -> None:
        run = await self.store.get_run(model.id)
        found, wanted = (run.key, run.state, run.reason), (model.key, model.state, model.reason)
        assert found == wanted, f"run {model.id} is {found}, not {wanted}"
        assert (run.token, run.position) == (model.token, model.position)
        assert (run.attempts, run.failures) == (model.attempts, model.failures)
        assert (run.crashes, run.crashes_alone, run.suspect) == (model.crashes, model.alone, model.suspect)
        assert (run.worker, run.asked == "pause", run.wait_name) == (
            model.worker,
            model.asked,
            model.wait_name,
        )
        if run.state in ("queued", "waiting"):
            assert run.available_at_us == model.available
        assert (self.states[run.key], run.state) in MOVES or self.states[run.key] == run.state, "I4"
        if self.states[run.key] != run.state:
            self.seen[f"{run.state} {run.reason or ''}".strip()] += 1
        self.states[run.key] = run.state
        entries = await self.store.read_entries(model.id, payloads=True)
        assert [e.position for e in entries] == list(range(1, run.position + 1)), "I1, I5"
        assert [(e.payload, e.superseded) for e in entries] == model.entries
        for position, payload in self.acknowledged[run.key].items():
            assert entries[position - 1].payload == payload, "I6"
        feed = await self.store.read_events(model.id, 0, 10_000)
        assert [event.n for event in feed] == list(range(1, run.event_no + 1)), "I5"
        assert feed[: len(self.feeds[run.key])] == self.feeds[run.key], "an event is for ever"
        self.feeds[run.key] = feed
        kept = await self.store.list_checkpoints(model.id)
        assert [c.n for c in kept] == model.checkpoints
        assert run.checkpoint_n == model.saved
        top, inbox = await self.store.read_inbox(run.key)
        assert (top, [signal.n for signal in inbox]) == (len(model.signals), model.inbox)


def try_sequences(machine: type[StoreMachine], fixed: int) -> None:
    """So many fixed sequences of operations, or as many random ones as EXAMPLES says."""
    machine.seen.clear()
    wanted = settings(
        max_examples=EXAMPLES or fixed,
        stateful_step_count=80 if EXAMPLES else 50,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=wanted)
    missed = set(PLACES) - machine.seen.keys()
    assert not missed, f"the machine never came to {missed}: {machine.seen}"
