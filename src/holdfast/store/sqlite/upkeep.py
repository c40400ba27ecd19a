"""Moves the WAL into the database beside the commit path, on a thread and a connection of its own.

SQLite's automatic checkpoint runs inside the commit that crosses its line and stalls it for 5 to 30 ms (measured).
Here a commit only says how long the WAL is. Passive checkpoints wait for nobody; a WAL that has outgrown them
(because writers never paused) is cut, which makes writers wait once.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

import apsw

from holdfast.store.sqlite.connection import PAGE_BYTES, Connection

PASSIVE_PAGES: Final = 4 * 1024 * 1024 // PAGE_BYTES
TRUNCATE_PAGES: Final = 64 * 1024 * 1024 // PAGE_BYTES
_PATIENCE_MS: Final = 1_000  # how long writers may be kept waiting for a cut


class Upkeep:
    """The thread that keeps the WAL short."""

    def __init__(self, path: Path) -> None:
        self._connection = Connection(path, busy_ms=_PATIENCE_MS)
        self._wanted = threading.Event()
        self._pages = 0
        self._seen_pages = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="holdfast-upkeep", daemon=True)
        self._thread.start()

    def note(self, pages: int) -> None:
        """A commit left the WAL with so many pages. Called on every commit: no more than a comparison."""
        if pages < self._seen_pages:
            self._seen_pages = 0  # the WAL began anew
        if pages - self._seen_pages >= PASSIVE_PAGES:
            self._seen_pages = self._pages = pages
            self._wanted.set()

    def close(self) -> None:
        """Cut the WAL, if nobody else is in the way, and end the thread."""
        self._closed = True
        self._wanted.set()
        self._thread.join()
        try:
            self._connection.checkpoint(truncate=True)
        except apsw.Error:
            pass  # somebody else uses the store, and will do it
        finally:
            self._connection.close()

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._closed:
                return
            try:
                self._connection.checkpoint(truncate=self._pages >= TRUNCATE_PAGES)
            except apsw.Error:
                pass  # busy, or the disk is full or failing: commits find out by themselves, the next one asks again
