"""An attempt in a process of its own, as its worker sees it: the code is there, every write is here.

The road: a frame of the process becomes a Change of this attempt, under its fence, and the answer goes back. The
process may die at any instant, stop, flood its socket or send garbage: the run loses the attempt, and nobody else
anything.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from holdfast import exit_status
from holdfast.agents import AnyAgent
from holdfast.channel import Channel
from holdfast.clock import SystemClock
from holdfast.ending import Ending, Lost
from holdfast.errors import HoldfastError, LeaseLost, PayloadTooLarge, ProtocolError, StoreError, UsageError
from holdfast.failures import refused
from holdfast.model import (
    Change,
    Claim,
    Committed,
    Crashed,
    Failed,
    Failure,
    FailureKind,
    Hold,
    Level,
    Note,
    Outcome,
    Park,
    Reason,
    Release,
    Retry,
)
from holdfast.process import frames
from holdfast.process.climbing import Climbing, at_the_limit
from holdfast.process.frames import (
    Alive,
    Answer,
    Ask,
    Asked,
    Begin,
    Commit,
    End,
    Hello,
    Origin,
    Pressure,
    SlowDown,
)
from holdfast.process.launch import Stillborn
from holdfast.process.sightings import Sightings
from holdfast.process.spawn import ProcessLike, SpawnerLike, import_path
from holdfast.process.wire import MAX_UNSENT
from holdfast.references import place_of
from holdfast.rules.limits import NO_LIMITS, Limits
from holdfast.rules.pressure import RANKS, Thresholds
from holdfast.store_clock import StoreClock
from holdfast.threads import ThreadCall, run_in_thread
from holdfast.throttle.space import Count, folder_count
from holdfast.throttle.watch import Seen

MAX_OPEN: Final = 256
"""Frames of one process that wait for the store: more are left in its socket, which stops a flood at its source."""
START_S: Final = 60.0
"""How long an interpreter may take to say that it is there, on a machine that is very busy."""
ALIVE_S: Final = 1.5
"""A process speaks once a second; whoever is silent for longer holds its event loop."""
STALL_S: Final = 300.0
"""How long the loop of a process may stand still, as that of a worker may: longer is no slow step but a hang."""
LINGER_S: Final = 5.0
"""How long a process may take to exit when it has said its last word, or closed its socket: threads and exit handlers
of its code. Its outcome is recorded after that."""
ASK_S: Final = 0.2
"""How often one that has not begun is asked whether it shall: as often as a busy worker asks what is wished of it."""
REST_S: Final = 5.0
"""A machine that cannot start a process now is asked again then."""
MAX_STILLBORN: Final = 5
"""Fewer processes of one run in a row that die before they say that they are there may be the machine's fault: that is
half a minute of rests. From then on each is a crash of the run."""


class ProcessAttempt:
    """One worker's tenure of a run whose code is in another process. To the worker it looks like an `Attempt`, and like
    the port of one."""

    stray_threads: Final[list[ThreadCall]] = []
    stuck: Final = False

    def __init__(
        self,
        claim: Claim,
        origin: Origin | None,
        channel: Channel,
        spawner: SpawnerLike,
        limits: Limits = NO_LIMITS,
        *,
        thresholds: Thresholds | None = None,
        stillborn: Stillborn | None = None,
        workspace: Path | None = None,
        stall_s: float | None = None,
        clock: StoreClock | None = None,
    ) -> None:
        self.claim = claim
        self._clock = clock or StoreClock(SystemClock())
        self.sightings = Sightings(claim.run, self._clock)
        self.settled = False
        self.ending: Ending | None = None
        self._origin = origin
        self._channel = channel
        self._spawner = spawner
        self._limits = limits
        self._thresholds = thresholds
        self._stillborn = stillborn or Stillborn()
        self._climbing = Climbing(limits, note=self.note, park=self._park, kill=self._kill_for)
        self._workspace = workspace
        self._stall_s = STALL_S if stall_s is None else stall_s
        self._process: ProcessLike | None = None
        self._position = claim.run.position
        self._asked: Outcome | None = None
        self._slow_down_s = 0.0
        self._held = self._doomed = False
        self._lag_s = 0.0
        self._level = self._machine = Level.OK
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._loop.time() + START_S - self._stall_s
        self._greeted = origin is None  # of a program in another language all is its own code
        self._open: set[asyncio.Future[Any]] = set()
        self._last: Change | None = None
        self._said: tuple[str | None, Reason | None] = (None, None)
        self._why: str | None = None

    # --- what the worker asks of an attempt -----------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None

    async def execute(self) -> None:
        """Start the process, do what it says, bury it, settle."""
        full = await self._overfull()
        if full is not None:
            await self.settle(full)
            return
        try:
            self._process = process = await self._spawner.take(self._limits, self._workspace)
        except UsageError as error:  # its workspace is no folder any more: that stays so
            await self.settle(Failed(failure=refused(error)))
            return
        except Exception as error:  # noqa: BLE001 - whatever the machine refuses, the run is not to blame
            await self.settle(_not_begun(f"no process could be started for the run: {error}"))
            return
        process.watched(self._seen, self._thresholds)
        process.hold(self._held)
        if self._doomed:
            process.kill()
        try:
            self._send_all_known()
            await self._serve(process)
        except PayloadTooLarge as error:
            self._kill_for(f"could not be told what is recorded: {error}")
        except BaseException:  # the worker itself goes: nobody waits for a last word
            process.kill()
            raise
        finally:
            code = await self._bury(process)
            self._process = None
        if self._open:
            await asyncio.wait(self._open)
        if self._last is not None and not isinstance(self.ending, Lost):
            await self._settle(self._last)
        else:
            await self.settle(self.ending or self._without_a_word(code, process.oom_kills))

    def interrupt(self, ending: Ending) -> None:
        """Ask the code to end now. It may not listen: `kill` is what it cannot refuse."""
        if self.ending is None or (isinstance(ending, Lost) and not isinstance(self.ending, Lost)):
            self.ending = ending
        self._send(End(frames.tagged(self.ending)))

    def kill(self) -> bool:
        """End the process, whatever its code does: true, for here that can be done."""
        if self._process is not None:
            self._process.kill()
        return True

    def kill_as_asked(self) -> bool:
        """A person wants the process to end: it is no crash, and the run goes on from its checkpoint; one that was to
        be parked is."""
        self._doomed = True
        parked = self._asked if isinstance(self._asked, Park) else None
        self.ending = self.ending or parked or Release(reason=Reason.KILLED)
        return self.kill()

    def hold(self, held: bool) -> bool:
        """Hold its processes back, or let them go: true, for here that can be done."""
        self._held = held
        if self._process is not None:
            self._process.hold(held)
        return True

    async def settle(self, ending: Ending) -> None:
        """Make the ending durable, once; a lost run settles nothing."""
        if isinstance(ending, Lost):
            self.ending = ending
            await self._settle(None)
        else:
            await self._settle(self._end(ending))

    def _end(self, ending: Outcome) -> Change:
        """How it ends as seen from outside; why the run stood as it did is what it said last."""
        run, (step, reason) = self.claim.run, self._said
        return Change(
            run=run.key, token=run.token, position=self._position, outcome=ending, step=step, reason=reason
        )

    async def _settle(self, last: Change | None) -> None:
        if self.settled:
            return
        self.settled = True
        try:
            if last is not None:
                await self._record(replace(last, beside=(*last.beside, *self.sightings.at_the_end())))
        except (LeaseLost, StoreError) as error:
            self.ending = Lost(cancelled=False, message=f"its end could not be recorded: {error}")
        finally:
            self._channel.over()

    async def _record(self, last: Change) -> None:
        self.ending = last.outcome
        try:
            await self._channel.submit(last)
        except (LeaseLost, StoreError):
            raise
        except HoldfastError as error:  # no state leads there, or nothing of the kind can be stored
            self.ending = Crashed(failure=_lost(f"ended as it cannot end: {error}"))
            await self._channel.submit(self._end(self.ending))

    def _without_a_word(self, code: int, oom_kills: int) -> Outcome:
        """How the attempt ends whose process has gone and did not say how."""
        if isinstance(self._asked, Release):
            return self._asked  # it was to end anyhow: a signal to all processes of a service is a drain
        why, kind = self._why, "ProcessLost"
        if why is None and code == -signal.SIGKILL and oom_kills:
            why, kind = at_the_limit(self._limits), "OutOfMemory"
        elif why is None:
            why = exit_status.told(code)
        if not self._greeted and not oom_kills:
            times = self._stillborn.again(self.claim.run.key)
            if times < MAX_STILLBORN:
                return _not_begun(f"the process of the run {why} before it had begun")
            why = f"{why} before it had begun, {times} times in a row"
        return Crashed(failure=_lost(why, kind))

    # --- what the worker asks of a port ---------------------------------------------------------------------

    @property
    def asked(self) -> Outcome | None:
        """How the attempt shall end at its next safe point, or None to go on."""
        return self._asked

    @asked.setter
    def asked(self, outcome: Outcome | None) -> None:
        self._asked = outcome
        self._send(Asked(None if outcome is None else frames.tagged(outcome)))

    @property
    def slow_down_s(self) -> float:
        """How long it shall pause at each step boundary."""
        return self._slow_down_s

    @slow_down_s.setter
    def slow_down_s(self, pause_s: float) -> None:
        if pause_s != self._slow_down_s:
            self._slow_down_s = pause_s
            self._send(SlowDown(pause_s))

    @property
    def pressure(self) -> Level:
        """How near it is to its limits, or the worker to those of the machine: the worse of the two."""
        return max(self._level, self._machine, key=RANKS.__getitem__)

    @pressure.setter
    def pressure(self, level: Level) -> None:
        self._machine = level
        self._send(Pressure(self.pressure))

    def note(self, note: Note) -> None:
        """Write an event of the run, from here: its code may stand still, or know nothing of such things."""
        if self._process is None or self._last is not None:
            return
        run = self.claim.run
        step, reason = self._said
        try:
            answer = self._channel.submit(
                Change(
                    run=run.key,
                    token=run.token,
                    position=self._position,
                    notes=(note,),
                    step=step,
                    reason=reason,
                )
            )
        except HoldfastError:  # the attempt is over, as it is about to hear
            return
        self._keep(answer, _heard)

    def tick(self, now_us: int) -> None:
        """Look after a process that does not say anything any more, or takes nothing in."""
        if self._process is None:
            return
        silent_s = self._loop.time() - self._heard_at
        if silent_s >= self._stall_s:
            self._kill_for(f"said nothing for {self._stall_s:g} s: its event loop stands still")
        elif self._process.wire.unsent > MAX_UNSENT:
            self._kill_for("does not read what it is answered")

    # --- its limits -----------------------------------------------------------------------------------------

    async def _overfull(self) -> Ending | None:
        """How it ends before it begins, when its workspace is over its limit: it would be ended at the first look, and
        so would each attempt after it. On a dead disk that is never known: who wants it to end is not kept waiting."""
        limit, workspace = self._limits.disk_bytes, self._workspace
        if limit is None or workspace is None:
            return None
        counted = run_in_thread(folder_count, (workspace,)).future
        while not counted.done():
            await asyncio.wait([counted], timeout=ASK_S)
            if not counted.done() and (wanted := self.ending or self._asked) is not None:
                return wanted
        found = counted.result()
        if not isinstance(found, Count) or found.bytes <= limit:
            return None
        if self.ending is not None:
            return self.ending
        size = f"{'at least ' if found.at_least else ''}{found.bytes:,}"
        message = (
            f"its workspace {workspace} holds {size} bytes, and its limit is {limit:,} (Limits(disk=…)): remove files"
            f" there, or give its agent more and restart the worker; then: holdfast retry {self.claim.run.id}"
        )
        return Hold(
            reason=Reason.DISK,
            failure=Failure(kind=FailureKind.FATAL, type="WorkspaceFull", message=message),
        )

    def _lag(self) -> float | None:
        """For how long its event loop has kept somebody waiting since the last look: as it says, or while it says
        nothing. Programs in other languages may have none, and none is there before it says that it is."""
        if self._origin is None or not self._greeted:
            return None
        lag_s, self._lag_s = max(self._lag_s, self._loop.time() - self._heard_at - ALIVE_S), 0.0
        return max(0.0, lag_s)

    def _seen(self, seen: Seen) -> None:
        """What is seen of its processes, about once a second."""
        self.sightings.add(replace(seen.sample, loop_lag_s=self._lag()), seen.level)
        if seen.level is not self._level:
            self._level = seen.level
            self._send(Pressure(self.pressure))
        self._climbing.seen(seen)

    def _park(self) -> None:
        if self._asked is None:
            self.asked = Park(reason=Reason.PARKED)

    # --- the process ----------------------------------------------------------------------------------------

    def _send(self, frame: frames.Frame) -> None:
        if self._process is not None:
            self._process.wire.send(frame)

    def _send_all_known(self) -> None:
        """What was said before there was a process; it begins with the claim."""
        workspace = None if self._workspace is None else str(self._workspace)
        ahead_us = self._clock.ahead_us
        self._send(Begin(frames.PROTOCOL, self.claim, self._origin, workspace, ahead_us))
        if self._slow_down_s:
            self._send(SlowDown(self._slow_down_s))
        if self._asked is not None:
            self._send(Asked(frames.tagged(self._asked)))
        if self.ending is not None:
            self._send(End(frames.tagged(self.ending)))

    def _kill_for(self, why: str) -> None:
        self._why = self._why or why
        self.kill()

    async def _serve(self, process: ProcessLike) -> None:
        """Do what the process says until it says nothing more."""
        try:
            while (
                self._last is None and (frame := await process.wire.receive(frames.from_process)) is not None
            ):
                self._heard_at = max(self._heard_at, self._loop.time())
                self._do(frame)
                while len(self._open) >= MAX_OPEN:
                    await asyncio.wait(self._open, return_when=asyncio.FIRST_COMPLETED)
        except ProtocolError as error:
            self._kill_for(str(error))

    async def _bury(self, process: ProcessLike) -> int:
        """Wait for the end of the process, and help it along; nothing of its group is alive then."""
        try:
            async with asyncio.timeout(LINGER_S):
                await process.ended()
        except TimeoutError:
            self._why = self._why or "closed its socket, and went on"
        finally:
            process.kill()
        code = await process.ended()
        process.wire.abort()  # whatever is still there, nobody will receive
        await process.wire.closed()
        return code

    def _do(self, frame: frames.Up) -> None:
        match frame:
            case Hello(protocol=protocol):
                if protocol != frames.PROTOCOL:
                    raise ProtocolError(f"speaks protocol {protocol}, not {frames.PROTOCOL}")
                self._greeted = True
                self._stillborn.born(self.claim.run.key)
                self._heard_at = self._loop.time()
            case Commit():
                self._commit(frame)
            case Ask():
                answering = self._loop.create_task(self._answer(frame), name=f"answer {frame.what}")
                self._keep(answering, self._answered)
            case Alive(lag_s=lag_s):
                self._lag_s = max(self._lag_s, lag_s)

    def _keep(self, future: asyncio.Future[Any], done: Callable[[asyncio.Future[Any]], None]) -> None:
        self._open.add(future)
        future.add_done_callback(self._open.discard)
        future.add_done_callback(done)

    def _answered(self, answering: asyncio.Future[None]) -> None:
        error = None if answering.cancelled() else answering.exception()
        if error is not None:  # a fault of ours: this run cannot go on, and others can
            self._kill_for(f"asked what could not be answered: {error!r}")

    def _commit(self, frame: Commit) -> None:
        run = self.claim.run
        change = frames.change_of(frame, run.key, run.token)
        if isinstance(change.outcome, Crashed) and self._origin is None:
            raise ProtocolError("the process of a run cannot end it as Crashed: that is seen from outside")
        if change.outcome is not None:
            self._last = change  # recorded when the process has gone
            return
        self._said = change.step, change.reason
        try:
            answer = self._channel.submit(change)
        except HoldfastError as error:
            self._refuse(frame, error)
            return
        if answer.done():  # on the spot
            self._committed(frame, answer)
        else:
            self._keep(answer, lambda answered: self._committed(frame, answered))

    def _committed(self, frame: Commit, answered: asyncio.Future[Committed]) -> None:
        if answered.cancelled():
            return
        error = answered.exception()
        if isinstance(error, HoldfastError):
            self._refuse(frame, error)
            return
        committed = answered.result()
        self._position = max(self._position, committed.position)
        self._send(Answer(frame.id, committed))

    def _refuse(self, frame: Commit, error: HoldfastError) -> None:
        self._send(frames.refusal(frame.id, error))

    async def _answer(self, frame: Ask) -> None:
        try:
            args = frames.asked(frame)
            self._send(frames.reply(frame.id, await getattr(self._channel, frame.what)(*args)))
        except ProtocolError as error:
            self._kill_for(str(error))
        except HoldfastError as error:
            self._send(frames.refusal(frame.id, error))


def origin_of(agent: AnyAgent) -> Origin:
    """Where a process finds the agent. Raises UsageError for one that no other process can import."""
    return Origin(place_of(agent), agent.name, agent.version, import_path())


def _heard(answered: asyncio.Future[Any]) -> None:
    """Whether an event could be written makes no difference to the attempt."""
    if not answered.cancelled():
        answered.exception()


def _not_begun(why: str) -> Retry:
    """The code of the run was not even reached: it is tried again, and nothing is counted."""
    failure = Failure(kind=FailureKind.TRANSIENT, type="ProcessLost", message=why)
    return Retry(failure=failure, delay_us=int(REST_S * 1e6), counted=False)


def _lost(why: str, kind: str = "ProcessLost") -> Failure:
    return Failure(kind=FailureKind.LOST, type=kind, message=f"the process of the run {why}")
