"""An attempt in a process of its own, as its worker sees it: the code is there, every write is here.

The road: a frame of the process becomes a Change of this attempt, under its fence, and the answer goes back. The
process may die at any instant, stop, flood its socket or send garbage: the run loses the attempt, and nobody else
anything.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from holdfast import exit_status
from holdfast.agents import AnyAgent, place_of
from holdfast.channel import Channel
from holdfast.clock import Clock, SystemClock
from holdfast.ending import Ending, Lost
from holdfast.errors import HoldfastError, LeaseLost, PayloadTooLarge, ProtocolError, StoreError
from holdfast.model import (
    Change,
    Claim,
    Committed,
    Crashed,
    Failure,
    FailureKind,
    Level,
    Metric,
    Note,
    Outcome,
    Park,
    Reason,
    Release,
    Retry,
)
from holdfast.process import frames
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
    Tell,
)
from holdfast.process.sightings import Sightings
from holdfast.process.spawn import ProcessLike, SpawnerLike, import_path
from holdfast.process.wire import MAX_UNSENT
from holdfast.rules.ladder import Move, Rung
from holdfast.rules.limits import NO_LIMITS, Limits
from holdfast.rules.pressure import RANKS
from holdfast.threads import ThreadCall
from holdfast.throttle.watch import Seen

MAX_OPEN: Final = 256
"""Frames of one process that wait for the store: more are left in its socket, which stops a flood at its source."""
START_S: Final = 60.0
"""How long an interpreter may take to say that it is there, on a machine that is very busy."""
STALL_S: Final = 300.0
"""How long the loop of a process may stand still, as that of a worker may: longer is no slow step but a hang."""
LINGER_S: Final = 5.0
"""How long a process may take to exit when it has said its last word, or closed its socket: threads and exit handlers
of its code. Its outcome is recorded after that."""
REST_S: Final = 5.0
"""A machine that cannot start a process now is asked again then."""


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
        stall_s: float | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.claim = claim
        self.sightings = Sightings(claim.run, clock or SystemClock())
        self.settled = False
        self.ending: Ending | None = None
        self._origin = origin
        self._channel = channel
        self._spawner = spawner
        self._limits = limits
        self._stall_s = STALL_S if stall_s is None else stall_s
        self._process: ProcessLike | None = None
        self._position = claim.run.position
        self._asked: Outcome | None = None
        self._slow_down_s = 0.0
        self._held = self._doomed = False
        self._level = self._machine = Level.OK
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._loop.time() + START_S - self._stall_s
        self._greeted = origin is None  # of a program in another language all is its own code
        self._open: set[asyncio.Future[Any]] = set()
        self._last: Change | None = None
        self._why: str | None = None

    # --- what the worker asks of an attempt -----------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None

    async def execute(self) -> None:
        """Start the process, do what it says, bury it, settle."""
        try:
            self._process = process = await self._spawner.take(self._limits)
        except Exception as error:  # noqa: BLE001 - whatever the machine refuses, the run is not to blame
            await self.settle(_not_begun(f"no process could be started for the run: {error}"))
            return
        process.watched(self._seen)
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
        """A person wants the process to end: it is no crash, and the run goes on from its checkpoint."""
        self._doomed = True
        self.ending = self.ending or Release(reason=Reason.KILLED)
        return self.kill()

    def hold(self, held: bool) -> bool:
        """Hold its processes back, or let them go; whether that can be done from outside."""
        self._held = held
        if self._process is not None:
            self._process.hold(held)
        return self._spawner.holds

    async def settle(self, ending: Ending) -> None:
        """Make the ending durable, once; a lost run settles nothing."""
        if isinstance(ending, Lost):
            self.ending = ending
            await self._settle(None)
        else:
            run = self.claim.run
            await self._settle(Change(run=run.key, token=run.token, position=self._position, outcome=ending))

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
            run = self.claim.run
            change = Change(run=run.key, token=run.token, position=self._position, outcome=self.ending)
            await self._channel.submit(change)

    def _without_a_word(self, code: int, oom_kills: int) -> Outcome:
        """How the attempt ends whose process has gone and did not say how."""
        if isinstance(self._asked, Release):
            return self._asked  # it was to end anyhow: a signal to all processes of a service is a drain
        why, kind = self._why, "ProcessLost"
        if why is None and code == -signal.SIGKILL and oom_kills:
            limit = "" if self._limits.memory_bytes is None else f" of {self._limits.memory_bytes:,} bytes"
            why, kind = f"was killed by the kernel: it was at its memory limit{limit}", "OutOfMemory"
        elif why is None:
            why = exit_status.told(code)
        if not self._greeted and not oom_kills:
            return _not_begun(f"the process of the run {why} before it had begun")
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
        """Write an event with what the run says next."""
        self._send(Tell(note))

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

    def _seen(self, seen: Seen) -> None:
        """Do what the ladder asks for, where it is not done already."""
        self.sightings.add(seen.sample, seen.level)
        if seen.level is not self._level:
            self._level = seen.level
            self._send(Pressure(self.pressure))
        if seen.oom:
            self._warn("oom", "the kernel killed a process of the run at its memory limit")
        for move in seen.moves:
            if move.taken:
                self._climbed(move)

    def _climbed(self, move: Move) -> None:
        what = told(move, self._limits)
        self._warn("limits", f"{what}: {_DONE[move.rung]}")
        if move.rung is Rung.PARK and self._asked is None:
            self.asked = Park(reason=Reason.PARKED)
        elif move.rung is Rung.KILL:
            self._kill_for(f"was ended, for {what}")

    def _warn(self, code: str, message: str) -> None:
        self._send(Tell(Note("warning", msgspec.json.encode({"code": code, "message": message}))))

    # --- the process ----------------------------------------------------------------------------------------

    def _send(self, frame: frames.Frame) -> None:
        if self._process is not None:
            self._process.wire.send(frame)

    def _send_all_known(self) -> None:
        """What was said before there was a process; it begins with the claim."""
        self._send(Begin(frames.PROTOCOL, self.claim, self._origin))
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
                self._heard_at = self._loop.time()
            case Commit():
                self._commit(frame)
            case Ask():
                answering = self._loop.create_task(self._answer(frame), name=f"answer {frame.what}")
                self._keep(answering, self._answered)
            case Alive():
                pass

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


def _not_begun(why: str) -> Retry:
    """The code of the run was not even reached: it is tried again, and nothing is counted."""
    failure = Failure(kind=FailureKind.TRANSIENT, type="ProcessLost", message=why)
    return Retry(failure=failure, delay_us=int(REST_S * 1e6), counted=False)


def _lost(why: str, kind: str = "ProcessLost") -> Failure:
    return Failure(kind=FailureKind.LOST, type=kind, message=f"the process of the run {why}")


_DONE: Final = {
    Rung.EVENT: "it is told",
    Rung.HINT: "its code is told, ctx.pressure",
    Rung.WEIGHT: "it stands back where others want the CPU",
    Rung.QUOTA: "its CPU is capped, its memory reclaimed early",
    Rung.FREEZE: "what it started stands still",
    Rung.PARK: "it is to end at its next safe point, and waits for you then",
    Rung.KILL: "it is ended, and goes on from its checkpoint",
}
_BYTES: Final = frozenset({Metric.MEMORY, Metric.WORKSPACE, Metric.DISK_FREE})


def told(move: Move, limits: Limits) -> str:
    """Why a rung was taken, in words."""
    if move.metric is None:
        return "its figures"
    unit = " bytes" if move.metric in _BYTES else "" if move.metric is Metric.PROCESSES else " %"
    of = (
        f", the limit is {limits.memory_bytes:,}"
        if move.metric is Metric.MEMORY and limits.memory_bytes
        else ""
    )
    crossed = "limit" if move.wall else "threshold"
    return f"{move.metric.replace('_', ' ')} at {move.value:,.0f}{unit}, past the {crossed} of {move.bound:,.0f}{of}"
