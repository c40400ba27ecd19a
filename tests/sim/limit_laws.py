"""The laws of limits that runs share: concurrency keys after every commit, rates at every turn and every body."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from holdfast.model import NewTurn, Turn
from holdfast.rules.rate import LATE_US, LOADED_US, interval_us
from holdfast.store.sqlite.connection import Connection
from holdfast.testing.loop import VirtualClock

_STANDING = (
    "SELECT id, lanes.key, at_most, stands, state, reason, place, available_at_us FROM lanes"
    " JOIN runs ON runs.key = lanes.run ORDER BY place, run"
)


@dataclass
class _Line:
    """The runs of one key."""

    running: list[int] = field(default_factory=list)  # the limits that they declared
    called: int = 0
    head: tuple[str, int] | None = None  # id and limit


class LimitLaws:
    """Watches the lines of one store, and the turns that it gives."""

    def __init__(self, db: Connection, clock: VirtualClock) -> None:
        self._db = db
        self._clock = clock
        self._given: dict[str, dict[tuple[int, str, int], int]] = defaultdict(dict)  # rate → turn → its cost
        self._unused: dict[tuple[int, str], list[int]] = defaultdict(
            list
        )  # (run, call) → when its turns come
        self._held_until = 0

    # --- concurrency keys -----------------------------------------------------------------------------------

    def check_lines(self) -> None:
        """Never more than the limit; nobody in line while there is a place; how it stands is how the run is."""
        lines: dict[str, _Line] = defaultdict(_Line)
        for run_id, key, at_most, stands, state, reason, _, due in self._db.rows(_STANDING):
            line = lines[key]
            assert (stands == "running") == (state == "running"), f"{run_id} is {state}, its lane {stands}"
            assert (stands == "in_line") == (reason == "limit"), f"{run_id} for {reason}, its lane {stands}"
            assert stands != "called" or (state == "queued" and due is not None), (
                f"{run_id} is called: {state}"
            )
            if stands == "running":
                line.running.append(at_most)
            elif stands == "called":
                line.called += 1
            elif stands == "in_line" and line.head is None:
                line.head = run_id, at_most
        for key, line in lines.items():
            most = min(line.running, default=len(line.running))
            assert len(line.running) <= most, f"{len(line.running)} runs of key {key!r}, one allows {most}"
            if line.head is not None:
                run_id, at_most = line.head
                full = len(line.running) + line.called >= min([at_most, *line.running])
                assert full, (
                    f"{run_id} stands in line for {key!r}, and there is a place that nobody is called to"
                )

    # --- rates ----------------------------------------------------------------------------------------------

    def turns(self, asked: Sequence[NewTurn], given: Sequence[Turn]) -> None:
        """Turns were given: no window has more of them than the rate allows, and none lies where all are held back."""
        now_us = self._clock.boot_us()
        for new, turn in zip(asked, given, strict=True):
            if not turn.reserved:
                continue
            at_us = now_us + turn.wait_us
            assert turn.wait_us <= 0 or at_us >= self._held_until, "a turn lies where a server asked to wait"
            known = self._given[new.rate]
            if (new.run, new.call, at_us) in known:
                continue  # it was kept for the call
            known[new.run, new.call, at_us] = new.cost
            self._unused[new.run, new.call].append(at_us)
            self._check_window(new, at_us)

    def _check_window(self, new: NewTurn, at_us: int) -> None:
        times = sorted(
            (time, cost)
            for (_, _, time), cost in self._given[new.rate].items()
            if abs(time - at_us) < 600_000_000
        )
        for first in range(len(times)):
            within = 0
            for time, cost in times[first:]:
                within += cost
                window_us = time - times[first][0] + 1
                allowed = new.terms.burst - 1 - (-window_us // interval_us(new.terms, 1))
                assert within <= allowed, f"{within} turns within {window_us / 1e6} s, {allowed} are allowed"

    def held_back(self, for_us: int) -> None:
        """A server asked to wait."""
        self._held_until = max(self._held_until, self._clock.boot_us() + for_us)

    def began(self, run: int, tag: str, *, in_time: bool) -> None:
        """A body begins: it has a turn of its own, and (when nothing is slow) not a stale one."""
        now_us = self._clock.boot_us()
        mine = [
            (at_us, turns)
            for (of, call), turns in self._unused.items()
            if of == run and call.startswith(repr(tag))
            for at_us in turns
            if at_us <= now_us + 1
        ]
        assert mine, f"{tag} of run number {run} begins without a turn"
        at_us, turns = max(mine, key=lambda each: each[0])
        turns.remove(at_us)
        late_us = now_us - at_us
        assert not in_time or late_us <= LATE_US + LOADED_US // 10, (
            f"{tag} uses a turn of {late_us / 1e6} s ago"
        )
