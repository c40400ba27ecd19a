"""Checkpoints by themselves: snapshots in strictly increasing order, named ones kept, bad ones passed over."""

from __future__ import annotations

import builtins
import logging
from typing import Final, TypeVar, cast

from holdfast import codec
from holdfast.client import StoredCheckpoint
from holdfast.client.view import stored_checkpoint
from holdfast.errors import CheckpointError, NotSerializable, StoreCorrupt, UsageError
from holdfast.parts.owner import checked
from holdfast.store.protocol import Store

T = TypeVar("T")

NAME_LONGEST: Final = 200

log = logging.getLogger("holdfast.checkpoints")


class Checkpoints:
    """The checkpoints of `id`. The newest `keep` unnamed ones stay, and every named one.

    Any number of processes may save at once: each save gets a number of its own, above all before it.
    """

    def __init__(self, store: Store, id: str, *, keep: int = 5) -> None:
        if keep < 1:
            raise UsageError(f"Checkpoints(keep={keep}): at least 1")
        self.id: Final = checked(id)
        self._store = store
        self._keep = keep

    async def save(self, state: object, *, name: str | None = None) -> int:
        """Save a snapshot and return its number; durable then. Raises NotSerializable, PayloadTooLarge."""
        if name is not None and not (0 < len(name) <= NAME_LONGEST and name.isprintable()):
            raise UsageError(
                f"the name of a checkpoint is 1 to {NAME_LONGEST} printable characters, not {name!r}"
            )
        data = codec.encode(state, what=f"the state of {self.id!r}")
        return await self._store.save_checkpoint_of(self.id, data, name, self._keep)

    async def restore(self, kind: type[T], *, n: int | None = None, name: str | None = None) -> T:
        """The state of the newest good checkpoint (of this name), or of checkpoint `n`, decoded into `kind`.

        A corrupt one is passed over, and a warning logged. Raises CheckpointNotFound when there is none;
        CheckpointError when none is good, `n` is not, or its state does not fit `kind`.
        """
        if n is not None and name is not None:
            raise UsageError("Checkpoints.restore takes a number or a name, not both")
        try:
            found, bad = await self._store.load_checkpoint_of(self.id, n, name)
        except StoreCorrupt as error:
            raise CheckpointError(str(error)) from error
        if bad:
            log.warning("%r: corrupt checkpoints %s passed over, %d used", self.id, list(bad), found.n)
        assert found.state is not None, "it was asked for"
        what = f"the state of checkpoint {found.n} of {self.id!r}"
        try:
            return cast("T", codec.decode(found.state, kind, what=what))
        except NotSerializable as error:
            raise CheckpointError(f"{error}. The state is kept") from error

    async def list(self) -> builtins.list[StoredCheckpoint]:
        """What there is, oldest first, each verified: number, name, time, size, and whether it is good."""
        return [stored_checkpoint(one) for one in await self._store.list_checkpoints_of(self.id)]

    async def delete(self, n: int) -> None:
        """Delete checkpoint `n`; its number is never given again. Raises CheckpointNotFound."""
        await self._store.delete_checkpoint_of(self.id, n)
