"""The clock of a host that is wrong: with this folder on PYTHONPATH, HOLDFAST_TEST_AHEAD_S moves what a Python process,
and each that it starts, reads from `time` and `datetime`.

The clock of the kernel, which others share, is not moved, nor what C libraries read by themselves. Of ours, all wall
time comes from `time.time_ns`.
"""

from __future__ import annotations

import datetime
import os
import time

_time, _time_ns = time.time, time.time_ns


def move(by_s: int) -> None:
    """From now on the wall clock of this process is so far ahead."""

    class Moved(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Moved:
            return cls.fromtimestamp(time.time(), tz)

        @classmethod
        def utcnow(cls) -> Moved:
            return cls.fromtimestamp(time.time(), datetime.UTC).replace(tzinfo=None)

    time.time = lambda: _time() + by_s
    time.time_ns = lambda: _time_ns() + by_s * 1_000_000_000
    datetime.datetime = Moved  # type: ignore[misc]


move(int(os.environ.get("HOLDFAST_TEST_AHEAD_S", "0")))
