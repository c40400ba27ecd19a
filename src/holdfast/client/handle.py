"""A handle on one run: look at it, wait for it, and steer it, from any process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, Generic, TypeVar

from holdfast import codec, workspace
from holdfast.client import artifacts, feed
from holdfast.client.inbox import meant, whoever
from holdfast.client.resources import UsageView, usage_view
from holdfast.client.view import (
    ApprovalView,
    CursorView,
    Detail,
    EffectView,
    Json,
    OutputView,
    RunView,
    StepView,
    StoredCheckpoint,
    approval_view,
    at_or_none,
    cursor_view,
    decode_json,
    effect_views,
    newest,
    run_view,
    step_views,
    stored_checkpoint,
)
from holdfast.errors import PayloadTooLarge, Refused, RunCancelled, RunFailed, UsageError
from holdfast.model import (
    SETUP,
    Answer,
    ApprovalRecord,
    ApprovalStatus,
    Artifact,
    Decision,
    Entry,
    EntryStatus,
    Event,
    Failure,
    FailureKind,
    Glimpse,
    Level,
    Reason,
    Resolution,
    ResolutionKind,
    Run,
    RunState,
    Served,
    Signal,
    Wish,
    WorkerRecord,
)
from holdfast.rules import approvals, effects, journal, labels, transitions
from holdfast.rules.schedule import closed_by
from holdfast.rules.waits import check_signal
from holdfast.rules.wishes import NOT_ALONE
from holdfast.store.protocol import Decide, Store
from holdfast.verdicts import GivenUp, NotDone, Verdict

R = TypeVar("R", covariant=True)

_STOPS: Final[Mapping[Reason | None, str]] = {
    Reason.BUDGET: "budget.reached",
    Reason.LOOP: "loop.parked",
}
"""The events that tell why a run was stopped."""
CHILDREN_SHOWN: Final = 100
"""Of a run with more children `status` has the first ones; `Client.tree` has all."""


class RunHandle(Generic[R]):
    """One run, by its id. It holds no connection and no copy: every call asks the store.

    `decode` turns the recorded result into the agent's return type.
    """

    def __init__(self, store: Store, run_id: str, decode: Callable[[bytes], R]) -> None:
        self._store = store
        self._decode = decode
        self.id = run_id

    def __repr__(self) -> str:
        return f"RunHandle({self.id!r})"

    # --- looking --------------------------------------------------------------------------------------------

    async def status(self) -> RunView:
        """The run as it is now. Raises RunNotFound."""
        run = await self._store.get_run(self.id)
        checkpoints = await self._store.list_checkpoints(self.id) if run.checkpoint_n else []
        now_us, worker = await self._store.now(), await self._worker(run)
        return run_view(
            run,
            now_us=now_us,
            glimpse=(await self._store.glimpse([run.key])).get(run.key) or Glimpse(),
            checkpoint=newest(checkpoints),
            worker=worker,
            tags=(await self._store.get_tags([run.key])).get(run.key),
            parent=(await self._store.parents_of([run.key])).get(run.key),
            children=await self._store.list_children([self.id], CHILDREN_SHOWN),
            workspace=workspace.there(workspace.place_of(self._store.workspace_folder, run)),
        )

    async def detail(self) -> Detail:
        """What a person needs beside `status` to know why nothing moves. Raises RunNotFound."""
        run = await self._store.get_run(self.id)
        position = run.mismatch.entry if run.mismatch else None
        unknown = run.reason is Reason.EFFECT_UNKNOWN
        pressed, lacking = await self._held_up(run)
        return Detail(
            failure=run.failure,
            mismatch=run.mismatch,
            mismatch_entry=None if position is None else await self._entry(position),
            wait_name=run.wait_name,
            due_at=at_or_none(run.available_at_us),
            asked=run.asked,
            effects=tuple(await self.effects()) if unknown else (),
            cursors=() if run.state.final else tuple(await self.cursors()),
            questions=tuple(one for one in await self.approvals() if one.status is ApprovalStatus.OPEN),
            closed=await self._closed(run),
            pressed=pressed,
            needs=run.needs,
            lacking=lacking,
            unserved=run.state is RunState.RUNNING and not await self._serving(run),
            stopped_by=await feed.last_of(self._store, run, _STOPS.get(run.reason)),
        )

    async def _closed(self, run: Run) -> dict[str, str]:
        """Of the run, or the children that it waits for, those that no worker begins, and the queue that says so."""
        queued = [run] if run.state is RunState.QUEUED else []
        if run.reason is Reason.CHILD:
            kin = await self._store.list_children([self.id], CHILDREN_SHOWN, unfinished=True)
            queued = [each.run for each in kin if each.closed and each.run.state is RunState.QUEUED]
        if not queued:
            return {}
        limits = {each.name: each.limit for each in await self._store.list_queues()}
        found = {each.id: closed_by(each.queue, limits) for each in queued}
        return {id: queue for id, queue in found.items() if queue is not None}

    async def _held_up(self, run: Run) -> tuple[str | None, tuple[str, ...]]:
        """Of a queued run: why none of the workers that could begin it begins anything now, in the words of one of
        them; and the labels that it asks for and no worker of its agent has together."""
        if run.state is not RunState.QUEUED:
            return None, ()
        serving = await self._serving(run)
        fitting = [one for one in serving if labels.fit(run.needs, one.labels)]
        if not fitting:
            return None, labels.lacking(run.needs, [one.labels for one in serving])
        samples = [one.sample for one in fitting if one.sample and one.sample.level is Level.CRITICAL]
        return samples[0].why if len(samples) == len(fitting) else None, ()

    async def _serving(self, run: Run) -> list[WorkerRecord]:
        return [
            one
            for one in await self._store.list_workers()
            if one.alive and any(each.fits(run.agent, run.version) for each in one.serves)
        ]

    async def effects(self) -> list[EffectView]:
        """The steps with `effect="once"`, oldest first, and what is known of each. Raises RunNotFound."""
        run = await self._store.get_run(self.id)
        running = run.token if run.state is RunState.RUNNING else None
        return effect_views(await self._store.read_entries(self.id, payloads=True), running)

    async def cursors(self) -> list[CursorView]:
        """Where the long steps are that are not over (or failed, and wait for a retry). Raises RunNotFound."""
        return [cursor_view(one) for one in await self._store.read_cursors(self.id)]

    async def history(self) -> list[UsageView]:
        """What the run has used through all of its attempts, oldest first, in at most some hundred samples: finer while
        it was young. Empty for one without a process of its own. Raises RunNotFound."""
        return [usage_view(one) for one in await self._store.read_history(self.id)]

    async def steps(self) -> list[StepView]:
        """Every recorded outcome in order, tries and superseded ones included. Raises RunNotFound."""
        return step_views(await self._store.read_entries(self.id))

    async def approvals(self) -> list[ApprovalView]:
        """Every question that the run has asked people, in order. Raises RunNotFound."""
        now_us = await self._store.now()
        return [approval_view(one, now_us) for one in await self._store.list_approvals(self.id)]

    async def checkpoints(self) -> list[StoredCheckpoint]:
        """The stored checkpoints, oldest first, each verified. Raises RunNotFound."""
        return [stored_checkpoint(one) for one in await self._store.list_checkpoints(self.id)]

    async def state(self, n: int | None = None) -> Json:
        """The state in checkpoint `n`, or in the newest good one, as plain JSON values.

        Raises CheckpointNotFound, StoreCorrupt.
        """
        checkpoint = await self._store.load_checkpoint(self.id, n)
        return None if checkpoint.state is None else decode_json(checkpoint.state)

    async def input(self) -> Json:
        """The input: an object whose keys are the agent's parameters. Raises RunNotFound."""
        return decode_json(await self._store.get_input(self.id))

    # --- artifacts ------------------------------------------------------------------------------------------

    async def artifacts(self) -> list[Artifact]:
        """What the run made and keeps, in the order it was recorded. Raises RunNotFound."""
        return await self._store.list_artifacts(self.id)

    def open_artifact(self, artifact_id: str) -> AsyncIterator[bytes]:
        """The content in chunks of at most a MiB, each verified before it is handed out, and the whole at the end.

        Raises ArtifactNotFound when the run has none with this id, StoreCorrupt where the content is damaged.
        """
        return artifacts.stream(self._store, self.id, artifact_id)

    async def read_artifact(self, artifact_id: str) -> bytes:
        """The whole content, verified. Raises as `open_artifact`, and PayloadTooLarge over 64 MiB."""
        return await artifacts.read(self._store, self.id, artifact_id)

    # --- waiting --------------------------------------------------------------------------------------------

    async def result(self) -> R:
        """Wait until the run is over and return what the agent returned, in its declared type.

        Raises RunFailed (its `failure` carries class, message, frames and cause), RunCancelled, RunNotFound, and
        StoreUnavailable when the store stays away for a minute.
        """
        pause = feed.Pause(self._store)
        while True:
            run = await feed.patiently(lambda: self._store.get_run(self.id))
            match run.state:
                case RunState.SUCCEEDED:
                    return self._decode(run.result if run.result is not None else b"null")
                case RunState.FAILED:
                    raise RunFailed(self.id, run.failure or _no_failure())
                case RunState.CANCELLED:
                    raise RunCancelled(self.id)
                case _:
                    await pause.until_news(quiet=True, patient=True)

    def watch(self, after: int = 0) -> AsyncIterator[Event]:
        """Events with `n > after`, gapless and in order, across restarts of everything; ends after the final one."""
        return feed.watch(self._store, self.id, after)

    def output(self, after: int = 0) -> AsyncIterator[OutputView]:
        """The text that steps stream (`step_context.emit`), while they do: pieces with `n > after`, until the run is
        over. Best effort: a stretch of it is kept while the run is executed, and nothing afterwards."""
        return feed.output(self._store, self.id, after)

    # --- steering -------------------------------------------------------------------------------------------

    async def cancel(self) -> RunView:
        """Cancel: from now on nothing more of the run is recorded. Raises InvalidTransition when it is final."""
        return await self._update(transitions.cancel)

    async def pause(self) -> RunView:
        """Ask for a pause: at once for a run that nobody executes, else at its next safe point."""
        return await self._update(transitions.pause)

    async def resume(self) -> RunView:
        """End a pause (or take back a wish for one), so that any worker may go on."""
        return await self._update(transitions.resume)

    async def throttle(self, *, off: bool = False) -> RunView:
        """Hold the run back until it is let go (`off=True`), in every attempt: the CPU of its processes is capped and
        their memory reclaimed early; without processes of its own it pauses at each step boundary. Idempotent.
        Raises InvalidTransition when it is final."""
        await self._store.wish(self.id, Wish.THROTTLE, wanted=not off)
        return await self.status()

    async def kill(self) -> RunView:
        """Kill the processes of the attempt that runs now. No crash is counted, and it goes on from its checkpoint.
        Idempotent. Raises InvalidTransition when none runs, and Refused for code that runs inside its worker."""
        run = await self._store.get_run(self.id)
        worker = await self._worker(run)
        if worker is not None and Served(agent=run.agent, version=run.version) not in worker.apart:
            raise Refused(f"run {self.id} cannot be killed alone: {NOT_ALONE}")
        await self._store.wish(self.id, Wish.KILL)
        return await self.status()

    async def signal(self, name: str, data: object = None, *, dedup: str | None = None) -> Signal:
        """Keep a signal for the run; `ctx.wait_for(name)` answers it with `data`, JSON.

        Idempotent by `dedup`. Raises RunNotFound, Refused when the run is final, NotSerializable.
        """
        return await self._store.add_signal(
            self.id, check_signal(name), codec.encode(data, what=f"the data of signal {name!r}"), dedup
        )

    async def approve(
        self,
        choice: str,
        *,
        question: ApprovalView | int | None = None,
        by: str | None = None,
        comment: str = "",
    ) -> ApprovalView:
        """Answer a question of the run: the one that was seen, or number `question`, or the only open one.

        Idempotent: the same choice again answers with what is there. `by` is the user of this process unless given.
        Raises ApprovalNotFound, UsageError (no such option), and Refused: the question changed, is over, has another
        answer, or several are open.
        """
        if not isinstance(question, ApprovalView):
            question = meant(self.id, await self.approvals(), question)
        given = Answer(
            question_hash=bytes.fromhex(question.hash), choice=choice, by=by or whoever(), comment=comment
        )
        answered = await self._store.answer_approval(self.id, question.n, given)
        return approval_view(answered, await self._store.now())

    async def retry(
        self,
        *,
        accept: int | None = None,
        insert: bool = False,
        drop: int | None = None,
        rerun: int | None = None,
        from_checkpoint: bool = False,
    ) -> RunView:
        """Let a failed or held run go on; at most one of the keywords, each a way out of a mismatch.

        Alone: the failure's entries are superseded and their steps execute again. `accept`: that entry answers the
        call at hand. `insert`: the call at hand executes, the recorded entries stay. `drop`: that entry is
        superseded. `rerun`: it is, and the call at hand executes in its place. `from_checkpoint`: everything recorded
        since the newest good checkpoint is superseded. Effects among what is superseded are unknown again: nothing of
        them is repeated before `verify` or a person says so. Raises Refused when the run is in no such state.
        """
        way = _chosen(accept=accept, insert=insert, drop=drop, rerun=rerun, from_checkpoint=from_checkpoint)
        seen = await self._store.get_run(self.id)
        entries = [entry for entry in await self._store.read_entries(self.id) if not entry.superseded]
        resolution: Resolution | None = None
        if way is None:
            gone = _failed_entries(seen, entries, await self._store.list_approvals(self.id))
            superseded, resolution = effects.superseding(None, entries, gone, seen.position)
        elif way.kind is ResolutionKind.FROM_CHECKPOINT:
            base = await self._base_segment()
            gone = tuple(entry.position for entry in entries if _in_tail(entry, base))
            resolution = Resolution(kind=way.kind, after=seen.position)
            superseded, resolution = effects.superseding(resolution, entries, gone, seen.position)
        else:
            resolution = _resolution(seen, way, entries, await self._store.list_approvals(self.id))
            superseded = journal.superseded_by(resolution, entries)
        return await self._update(partial(_retry, seen=seen, superseded=superseded, resolution=resolution))

    async def tag(self, tags: Mapping[str, str | None]) -> dict[str, str]:
        """Set tags, or remove those whose value is None; return what the run has then. Raises RunNotFound."""
        return await self._store.tag_run(self.id, tags)

    async def settle_effect(self, entry: int, verdict: Verdict) -> RunView:
        """Say what became of an unknown effect, named by its intent: `Done(value)`, `NotDone()` (its body runs
        again) or `GivenUp(message)` (its step fails). The run goes on when it is held for this one.

        Raises Refused when the run is not held for an effect or this one is not unknown, NotSerializable.
        """
        kind, payload = _verdict(verdict)
        seen = await self._store.get_run(self.id)
        entries = await self._store.read_entries(self.id)
        try:
            resolution = effects.settle(kind, entry, payload, entries, seen.position)
        except Refused as error:
            raise Refused(f"run {self.id}: {error}") from error
        return await self._update(partial(_settle, seen=seen, resolution=resolution))

    async def delete(self) -> None:
        """Delete the run and all that belongs to it, its workspace on this machine included. Raises Refused when it is
        not final."""
        run = await self._store.get_run(self.id)
        place = workspace.place_of(self._store.workspace_folder, run)
        await self._store.delete_run(
            self.id
        )  # first: a folder that is left is swept, a run without its files is not
        if place is not None:
            await asyncio.to_thread(workspace.remove, place)

    # --- inside ---------------------------------------------------------------------------------------------

    async def _update(self, decide: Decide) -> RunView:
        await self._store.update_run(self.id, decide)
        return await self.status()

    async def _worker(self, run: Run) -> WorkerRecord | None:
        if run.worker is None or run.state is not RunState.RUNNING:
            return None
        return next(
            (one for one in await self._store.list_workers() if one.key == run.worker and one.alive), None
        )

    async def _entry(self, position: int) -> Entry | None:
        entries = await self._store.read_entries(self.id, payloads=True)
        return next((entry for entry in entries if entry.position == position), None)

    async def _base_segment(self) -> int:
        good = [one.segment for one in await self._store.list_checkpoints(self.id) if one.good]
        return max(good, default=0)


@dataclass(frozen=True, slots=True)
class _Way:
    """The way out of a mismatch that was chosen."""

    kind: ResolutionKind
    position: int | None = None


_OUTCOMES = frozenset({EntryStatus.OK, EntryStatus.FAILED, EntryStatus.ABANDONED})

MAX_VERDICT_BYTES: Final = 64 * 1024
"""A verdict is read at every claim of the run, and typed by a person."""


def _verdict(verdict: Verdict) -> tuple[ResolutionKind, bytes]:
    if isinstance(verdict, NotDone):
        return ResolutionKind.NOT_DONE, b""
    if isinstance(verdict, GivenUp):
        failure = Failure(kind=FailureKind.FATAL, type="GivenUp", message=verdict.message)
        return ResolutionKind.GIVEN_UP, codec.encode(failure, what="the failure of the effect")
    payload = codec.encode(verdict.value, what="the result of the effect")
    if len(payload) > MAX_VERDICT_BYTES:
        raise PayloadTooLarge(
            f"the result of the effect is {len(payload)} bytes of JSON, over {MAX_VERDICT_BYTES}: put it into a file, "
            "and its path here"
        )
    return ResolutionKind.DONE, payload


def _settle(run: Run, now_us: int, *, seen: Run, resolution: Resolution) -> Decision:
    """Decide under the write lock, provided that the run is still the one whose entries were read."""
    if (run.token, run.position, run.state) != (seen.token, seen.position, seen.state):
        raise Refused(f"run {run.id} moved meanwhile (now {run.state}): look at it again")
    return transitions.settle_effect(run, now_us, resolution=resolution)


def _chosen(
    *, accept: int | None, insert: bool, drop: int | None, rerun: int | None, from_checkpoint: bool
) -> _Way | None:
    ways = [
        _Way(kind, position)
        for kind, position in (
            (ResolutionKind.ACCEPT, accept),
            (ResolutionKind.DROP, drop),
            (ResolutionKind.RERUN, rerun),
        )
        if position is not None
    ]
    ways += [_Way(ResolutionKind.INSERT)] if insert else []
    ways += [_Way(ResolutionKind.FROM_CHECKPOINT)] if from_checkpoint else []
    if len(ways) > 1:
        names = ", ".join(str(way.kind) for way in ways)
        raise UsageError(f"a retry takes one way out, not {len(ways)}: {names}")
    return ways[0] if ways else None


def _failed_entries(run: Run, entries: list[Entry], asked: list[ApprovalRecord]) -> tuple[int, ...]:
    """What a plain retry supersedes: the failures that ended the run, and what was recorded because of them."""
    failed = run.failure.entries if run.failure is not None and run.state is RunState.FAILED else ()
    return journal.superseded_by_retry(entries, failed, approvals.ending(asked))


def _resolution(run: Run, way: _Way, entries: list[Entry], asked: list[ApprovalRecord]) -> Resolution:
    """The operator's answer, checked against what the run is held for."""
    if run.state is not RunState.WAITING or run.reason is not Reason.MISMATCH or run.mismatch is None:
        raise Refused(
            f"run {run.id} is {run.state}{f' ({run.reason})' if run.reason else ''}, not held for a mismatch:"
            f" --{way.kind} answers a mismatch only; `holdfast retry {run.id}` alone tries again"
        )
    unknown = {one.intent.position for one in effects.effects_of(entries, None) if one.outcome is None}
    named = (one for one in entries if one.position == way.position)
    entry = next((one for one in named if one.status in _OUTCOMES or one.position in unknown), None)
    if way.position is not None and entry is None:
        raise Refused(
            f"run {run.id} has no live entry {way.position}: `holdfast steps {run.id}` numbers them"
        )
    end = None if entry is None else journal.end_of(entry, entries, approvals.ending(asked))
    try:
        return journal.resolve(way.kind, run.mismatch, entry, run.position, end)
    except Refused as error:
        raise Refused(f"run {run.id}: {error}") from error


def _retry(
    run: Run, now_us: int, *, seen: Run, superseded: tuple[int, ...], resolution: Resolution | None
) -> Decision | None:
    """Decide under the write lock, provided that the run is still the one whose entries were read."""
    if (run.token, run.position, run.state) != (seen.token, seen.position, seen.state):
        raise Refused(f"run {run.id} moved meanwhile (now {run.state}): look at it again, then retry")
    return transitions.retry(run, now_us, supersede=superseded, resolution=resolution)


def _in_tail(entry: Entry, base_segment: int) -> bool:
    return not entry.superseded and entry.identity.segment != SETUP and entry.identity.segment >= base_segment


def _no_failure() -> Failure:
    return Failure(kind=FailureKind.FATAL, type="Unknown", message="the store holds no failure for it")


__all__ = ["RunHandle"]
