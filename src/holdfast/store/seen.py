"""What is seen of runs while they are executed, and what is asked of who executes them: parts of the Store protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from holdfast.model import Glimpse, NewSample, TreeSample, Wish


class Samples(Protocol):
    """Samples of runs whose processes are measured apart: the newest of each, and a bounded history of its life.

    A `Sampled` beside an entry, or alone in a Change, does the same for one run. Both go with their run.
    """

    async def save_samples(self, seen: Sequence[NewSample]) -> list[bool]:
        """Replace the newest sample of each run, and its history where one is given; False for each that changed
        nothing, because the run is not `running` under that token.

        One transaction for all of them, which is no event of theirs.
        """
        ...

    async def read_history(self, run_id: str) -> tuple[TreeSample, ...]:
        """The stored history, oldest first, by the store's clock; of all its attempts. Raises RunNotFound, and
        StoreCorrupt."""
        ...

    async def glimpse(self, run_keys: Sequence[int]) -> dict[int, Glimpse]:
        """What lists show of these runs beside their rows, by key; runs that are gone are left out. A few statements,
        however many they are. `budget` is the run's own; samples are those of the attempt that runs now."""
        ...


class Wishes(Protocol):
    """What people ask of the workers that execute runs; `Attempts.asks` tells it to them."""

    async def wish(self, run_id: str, wish: Wish, *, wanted: bool = True) -> None:
        """Ask for it, or take it back (`wanted=False`). Durable, idempotent, by `rules.wishes`.

        `throttle` holds for every attempt until it is taken back or the run ends; `kill` is for the attempt that runs
        now, and over with it. Raises RunNotFound, InvalidTransition.
        """
        ...
