"""The parts of a store that are used alone, with no run: states, checkpoints and progress of owners."""

from __future__ import annotations

from holdfast.model import Checkpoint, OwnedProgress, OwnedState, Progress
from holdfast.store.transactions import parts
from holdfast.store.transactions.engine import Engine, owned


class Alone:
    """What belongs to owners that are no runs."""

    _engine: Engine

    async def save_state_of(self, owner: str, state: bytes, expected: int | None) -> int:
        return await self._engine.write(
            lambda connection: parts.save_state(
                connection, owner, state, expected, connection.clock.wall_us()
            ),
            locks=(owned(owner),),
        )

    async def load_state_of(self, owner: str) -> OwnedState:
        return await self._engine.read(lambda connection: parts.state(connection, owner))

    async def delete_state_of(self, owner: str) -> None:
        await self._engine.write(
            lambda connection: parts.delete_state(connection, owner, connection.clock.wall_us()),
            locks=(owned(owner),),
        )

    async def save_checkpoint_of(self, owner: str, state: bytes, name: str | None, keep: int) -> int:
        return await self._engine.write(
            lambda connection: parts.save_checkpoint(
                connection, owner, state, name, keep, connection.clock.wall_us()
            ),
            locks=(owned(owner),),
        )

    async def list_checkpoints_of(self, owner: str) -> list[Checkpoint]:
        return await self._engine.read(lambda connection: parts.checkpoints(connection, owner))

    async def load_checkpoint_of(
        self, owner: str, n: int | None = None, name: str | None = None
    ) -> tuple[Checkpoint, tuple[int, ...]]:
        return await self._engine.read(lambda connection: parts.checkpoint(connection, owner, n, name))

    async def delete_checkpoint_of(self, owner: str, n: int) -> None:
        await self._engine.write(
            lambda connection: parts.delete_checkpoint(connection, owner, n), locks=(owned(owner),)
        )

    async def save_progress_of(self, owner: str, report: Progress) -> None:
        await self._engine.write(
            lambda connection: parts.save_progress(connection, owner, report, connection.clock.wall_us()),
            locks=(owned(owner),),
        )

    async def get_progress_of(self, owner: str) -> OwnedProgress:
        return await self._engine.read(lambda connection: parts.progress(connection, owner))

    async def delete_progress_of(self, owner: str) -> None:
        await self._engine.write(
            lambda connection: parts.delete_progress(connection, owner), locks=(owned(owner),)
        )
