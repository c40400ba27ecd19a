"""Progress by itself: reported here, watched anywhere, across restarts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Final

from holdfast.client import ProgressView, feed
from holdfast.client.view import progress_view
from holdfast.errors import ProgressNotFound
from holdfast.model import OwnedProgress
from holdfast.parts.owner import checked
from holdfast.rules.progress import reported
from holdfast.store.protocol import Store


class Progress:
    """The progress of `id`. The newest report wins, whoever made it; the start of its phase is carried over."""

    def __init__(self, store: Store, id: str) -> None:
        self.id: Final = checked(id)
        self._store = store

    async def update(
        self, current: float, total: float | None = None, description: str = "", phase: str | None = None
    ) -> None:
        """Say how far it is; durable then. `total` may be 0 (nothing to do) or None (unknown).

        Each is a transaction: a quick loop reports every so many rounds. Raises UsageError for what is no number.
        """
        report = reported("Progress.update", current, total, description, phase)
        await self._store.save_progress_of(self.id, report)

    async def get(self) -> ProgressView:
        """How far it is, with percent and the time left as a range of seconds. Raises ProgressNotFound."""
        return await self._view(await self._store.get_progress_of(self.id))

    async def watch(self) -> AsyncIterator[ProgressView]:
        """What there is now, then each newer report, as soon as it is there; of several at once the newest.

        Waits for a first one; ends when the progress is deleted. A watcher that comes again misses nothing that still
        counts: the newest is always there.
        """
        pause = feed.Pause(self._store)
        seen: OwnedProgress | None = None
        while True:
            try:
                found = await feed.patiently(partial(self._store.get_progress_of, self.id))
            except ProgressNotFound:
                if seen is not None:
                    return
                found = None
            fresh = found is not None and found != seen
            if found is not None and fresh:
                seen = found
                yield await self._view(found)
            await pause.until_news(quiet=not fresh)

    async def delete(self) -> None:
        """Forget it: watchers end. Raises ProgressNotFound."""
        await self._store.delete_progress_of(self.id)

    async def _view(self, found: OwnedProgress) -> ProgressView:
        return progress_view(found.progress, await self._store.now())
