"""What a worker has seen of one run's processes: its newest sample, and its history through all of its attempts."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from holdfast.clock import Clock
from holdfast.model import Level, NewSample, Run, Sampled, TreeSample
from holdfast.rules import sampling
from holdfast.throttle.history import History


class Sightings:
    """Kept by an attempt, in its worker's loop. What came before it is in the store: until that was read
    (`continues`), only newest samples are told, so that no history ever begins anew."""

    def __init__(self, run: Run, clock: Clock) -> None:
        self.run = run
        self.known = run.attempts <= 1
        self._clock = clock
        self._history = History()
        self._newest: tuple[TreeSample, Level] | None = None
        self._sent: tuple[TreeSample, Level] | None = None
        self._stored: tuple[TreeSample, Level] | None = None
        self._began_us = self._history_stored_us = clock.boot_us()

    def add(self, sample: TreeSample, level: Level) -> None:
        """The next look."""
        self._newest = sample, level
        self._history.add(sample)

    def continues(self, past: Sequence[TreeSample], now_us: int) -> None:
        """What is stored of the attempts before, read at `now_us` by the store's clock."""
        self.known = True
        shift_us = self._clock.boot_us() - now_us
        mine, self._history = (
            self._history,
            History.after(replace(one, at_us=one.at_us + shift_us) for one in past),
        )
        for one in mine.samples():
            self._history.add(one)
        if past:
            self._began_us = past[0].at_us + shift_us

    @property
    def history_due_us(self) -> int | None:
        """Since when the history has not been stored; None: it need not be yet."""
        now_us = self._clock.boot_us()
        due = self.known and sampling.history_due(self._began_us, self._history_stored_us, now_us)
        return self._history_stored_us if due else None

    def worth_storing(self, history_due: bool) -> NewSample | None:
        """What the store does not know yet and should; None: nothing. `stored` follows when it does."""
        if self._newest is None:
            return None
        sample, level = self._newest
        before = None if self._stored is None else self._stored[0]
        same_level = self._stored is not None and self._stored[1] is level
        if same_level and not history_due and not sampling.worth_storing(before, sample):
            return None
        self._sent = self._newest
        sampled = Sampled(sample=self._ago(sample), level=level, history=self._all() if history_due else None)
        return NewSample(run=self.run.key, token=self.run.token, sampled=sampled)

    def stored(self, new: NewSample) -> None:
        """The store has it now."""
        self._stored = self._sent
        if new.sampled.history is not None:
            self._history_stored_us = self._clock.boot_us()

    def at_the_end(self) -> tuple[Sampled, ...]:
        """What goes with the last Change of the attempt; nothing when there was no look at it."""
        if self._newest is None:
            return ()
        sample, level = self._newest
        return (Sampled(sample=self._ago(sample), level=level, history=self._all() if self.known else None),)

    def _all(self) -> tuple[TreeSample, ...]:
        return tuple(map(self._ago, self._history.samples()))

    def _ago(self, sample: TreeSample) -> TreeSample:
        """The sample, its time counted from now."""
        return replace(sample, at_us=sample.at_us - self._clock.boot_us())
