"""Programs that the code of a run executes beside it, through its worker: `command` does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path

from holdfast.model import Note
from holdfast.process.climbing import Climbing
from holdfast.process.launch import Launched, Launcher, findable
from holdfast.process.sightings import Sightings
from holdfast.rules.limits import Limits
from holdfast.throttle.watch import Seen


class Program:
    """One execution. `why` says for what it was ended when it was not by itself."""

    def __init__(self, launched: Launched) -> None:
        self.launched = launched
        self.why: str | None = None


class Beside:
    """What a worker starts for one run, and can end without asking its code. `note` writes an event of the run, `park`
    ends the attempt so that the run waits for a person, `sightings` keeps what is seen. `workspace` is its folder."""

    def __init__(
        self,
        launcher: Launcher,
        note: Callable[[Note], None],
        park: Callable[[], None],
        sightings: Sightings,
        workspace: Path | None = None,
    ) -> None:
        self._sightings = sightings
        self._held = False
        self._workspace = workspace
        self._launcher = launcher
        self._note = note
        self._park = park
        self._programs: dict[Program, Climbing] = {}

    def launch(
        self,
        command: Sequence[str],
        limits: Limits,
        *,
        cwd: str | None,
        environ: Mapping[str, str],
        stdout: int,
        stderr: int,
        linger_s: float,
    ) -> Program:
        """Start it; what it leaves behind has `linger_s`, and is ended by `kill`.

        Raises OSError and ValueError when it cannot be started, Refused when its limits cannot be held.
        """
        findable(command, cwd, environ)
        self._launcher.check(limits)
        launched = self._launcher.launch(
            command,
            limits,
            cwd=cwd,
            environ=environ,
            stdout=stdout,
            stderr=stderr,
            linger_s=linger_s,
            workspace=self._workspace,
        )
        program = Program(launched)

        def ended(why: str) -> None:
            program.why = why

        self._programs[program] = Climbing(
            limits,
            note=self._note,
            park=self._park,
            kill=ended,
            parks="it is asked to end, and waits for you then",
        )

        def seen(seen: Seen) -> None:
            self._seen(program, seen)

        launched.gone.add_done_callback(lambda _: self._programs.pop(program))
        launched.watched(seen)
        launched.hold(self._held)
        return program

    def hold(self, held: bool) -> None:
        """Hold all of them back, and those that follow, or let them go."""
        self._held = held
        for program in self._programs:
            program.launched.hold(held)

    @property
    def over(self) -> bool:
        """Whether all that is executed has ended by itself, and only what it left behind is there."""
        return bool(self._programs) and all(one.launched.quit.done() for one in self._programs)

    def kill(self) -> bool:
        """End all of them at once; whether there were any."""
        for program in self._programs:
            program.launched.kill()
        return bool(self._programs)

    def _seen(self, program: Program, seen: Seen) -> None:
        """What is seen of one of them, about once a second."""
        self._sightings.add(seen.sample, seen.level)
        climbing = self._programs.get(program)
        if climbing is not None:  # it may have ended meanwhile
            climbing.seen(seen)


beside: ContextVar[Beside] = ContextVar("holdfast_beside")
"""Where the code of a run has its programs executed. Set by a worker, for agents that say so (`programs.Executing`)."""
