"""Measuring folders apart from everything else: a disk that is dead answers nobody, and must not keep the limits and
the end of runs from those who look after them.

Laws:
1. Whoever asks a disk does it in a thread that nobody waits for longer than WAIT_S.
2. A folder is measured by one thread at a time. One that hangs keeps its thread until its disk answers, and is not
   asked again meanwhile: as many threads hang as folders do, at the most.
3. While a folder hangs, what was found last is told of it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from holdfast.throttle.space import SLICE_S, Space

log = logging.getLogger(__name__)

WAIT_S: Final = 0.1
"""How long a round is waited for: a disk that is well answers for a hundred folders within some milliseconds."""

HANGS_S: Final = 1.0
"""Who is at one folder for longer hangs, and the others are measured without him. He means to be at it for SLICE_S."""

assert HANGS_S > SLICE_S, "or a large folder would look like a dead disk"


class Apart:
    """A folder that is measured by a `Surveyor`. It tells what was found last: None until something was."""

    def __init__(self, folder: Path, space: Space | None = None) -> None:
        self.folder = folder
        self.device: int | None = None
        self._space = space or Space(folder)
        self._measuring = threading.Lock()
        self._asked: tuple[int, int | None] = (0, None)
        self._told: tuple[int | None, int | None, bool] = (None, None, False)

    @property
    def under_way(self) -> bool:
        """Whether a thread is measuring it now."""
        return self._measuring.locked()

    def size(self, written_bytes: int, limit_bytes: int | None = None) -> int | None:
        """See `Space`: as of the last round. Never waits."""
        self._asked = written_bytes, limit_bytes
        return self._told[0]

    def free(self) -> int | None:
        """See `Space`: as of the last round. Never waits."""
        return self._told[1]

    @property
    def at_least(self) -> bool:
        """See `Space`: as of the last round."""
        return self._told[2]

    def measure(self) -> None:
        """Measure it, in a thread that may hang, unless another one is at it."""
        if not self._measuring.acquire(blocking=False):
            return
        try:
            space = self._space
            self._told = space.size(*self._asked), space.free(), space.at_least
            if self.device is None:
                with suppress(OSError):
                    self.device = self.folder.stat().st_dev
        finally:
            self._measuring.release()


class _Round:
    """The folders that one thread measures, one after the other."""

    def __init__(self, folders: list[Apart]) -> None:
        self.done = threading.Event()
        self.given_up = False
        self.at: Apart | None = None
        self.since_s = time.monotonic()
        self._folders = folders

    def run(self) -> None:
        """Measure all of them, or those before it was given up."""
        for folder in self._folders:
            if self.given_up:
                return
            self.at, self.since_s = folder, time.monotonic()
            try:
                folder.measure()
            except Exception as error:  # noqa: BLE001 - the others are measured all the same
                log.warning("the workspace %s could not be measured: %s", folder.folder, error)
        self.done.set()


class Surveyor:
    """Measures the folders of all runs of a worker. Call it from one thread."""

    def __init__(self) -> None:
        self._round: _Round | None = None

    def measure(self, folders: Iterable[Apart]) -> None:
        """Measure these, but for those where somebody hangs already. Returns when it is done, or goes on without us
        after WAIT_S."""
        before = self._round
        if before is not None and not before.done.is_set():
            if before.at is None or time.monotonic() - before.since_s < HANGS_S:
                return  # it takes its time, and comes to an end
            before.given_up = True
            log.warning(
                "the workspace %s does not answer: until it does, its size is not known", before.at.folder
            )
        folders = list(folders)
        dead = {one.device for one in folders if one.under_way and one.device is not None}
        wanted = [one for one in folders if not one.under_way]
        wanted.sort(key=lambda one: one.device in dead)  # those that are likely to hang, too, at last
        self._round = _Round(wanted) if wanted else None
        if self._round is not None:
            self._begin(self._round)
            self._round.done.wait(WAIT_S)

    @staticmethod
    def _begin(begun: _Round) -> None:
        try:
            threading.Thread(target=begun.run, name="measure workspaces", daemon=True).start()
        except RuntimeError as error:  # no thread can be started: they are measured when one can
            log.warning("the workspaces of runs could not be measured: %s", error)
            begun.done.set()
