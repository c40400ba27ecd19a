"""A group: the processes of one run, kept together whatever they do, measured, held back, and ended.

Laws:
1. A process of the group belongs to it from before its first instruction: it is placed by what starts it, and what
   it starts is born inside.
2. Limits hold from the start or the start fails: nothing runs unbounded for a moment.
3. `kill` returns when nobody is left, or names who is.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, Protocol

from holdfast.model import Usage
from holdfast.rules.limits import Limits

KILL_TIMEOUT_S: Final = 5.0
"""A killed process with gigabytes to give back takes a second; who takes longer hangs in the kernel."""

LAUNCH_FAILED: Final = 97
"""The exit code of a launch that could not place itself, or set its limits."""


class Group(Protocol):
    """The processes of one run. Made by `Groups.create`; used from one thread at a time.

    Every method is quick (under a millisecond per ten processes) but `freeze`, which waits up to a second for the
    kernel to say that it is done, and `kill`. All raise Refused where the system does not let us.
    """

    @property
    def name(self) -> str:
        """What `create` was given."""
        ...

    @property
    def limits(self) -> Limits:
        """What `create` was given."""
        ...

    def launch(self, command: Sequence[str], *, linger_s: float = 0.0) -> list[str]:
        """The command that starts `command` inside the group, under its limits.

        It replaces itself by it, so that process number, exit code, streams and open files are its own; only where
        there are no control groups a small process stays between, which hands signals on and ends as the command does
        (end it by `kill`: its death alone ends nobody), with whatever the command leaves behind, after at most
        `linger_s`. It ends with LAUNCH_FAILED when it cannot.
        """
        ...

    def attach(self, pid: int) -> None:
        """Tell the group its first process, as soon as it is started. One that was started without `launch` is moved
        in, with all that it has started by now; what the group's limits count begins then."""
        ...

    def pids(self) -> tuple[int, ...]:
        """Who is in it now."""
        ...

    def usage(self) -> Usage:
        """What it has used and uses, CPU time and memory as of now. Counts that hardly change are up to ten calls old,
        bytes read and written up to thirty; three times as old while it uses next to no CPU time (`counters.BUSY_US`
        from call to call), and the number of its processes up to ten. Callable until the group is removed, also when
        all have ended."""
        ...

    def oom_kills(self) -> int:
        """How many of its processes the kernel has killed because the group was at its memory limit, as of now: `usage`
        may tell it some looks later. 0 where nothing counts it."""
        ...

    def freeze(self, spare: Collection[int] = ()) -> None:
        """Stand still, all but `spare` (the agent, so that it can come to a safe point while its tools cannot go on).
        What the spared start meanwhile is not frozen. Freezing twice freezes those that came since."""
        ...

    def thaw(self) -> None:
        """Go on. Harmless when nothing is frozen."""
        ...

    def set_cpu(self, cores: float | None) -> None:
        """Hold it to so many cores from now on, never to more than its limit; None: to its limit, if it has one."""
        ...

    def set_weight(self, share: float) -> None:
        """Where others want the CPU too, give it this share of what it would have had: 1.0 is normal, 0.01 the least.
        Where only niceness can do it, anything under 1 is niceness 10, and only root comes back from it."""
        ...

    def set_memory_brake(self, count_bytes: int | None) -> None:
        """Reclaim its memory early, from so many bytes on; None: no more. Slows it down, kills nobody. With v1 only
        when the machine itself is short; without control groups it does nothing."""
        ...

    def kill(self, timeout_s: float = KILL_TIMEOUT_S) -> tuple[int, ...]:
        """End all of it, whatever it forked, stopped, froze or disowned; () when nobody is left, else the process
        numbers of those who still are."""
        ...

    def remove(self) -> None:
        """Kill what is left, and let go of all that the group holds. Harmless when it was done before."""
        ...
