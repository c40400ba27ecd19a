"""A place whose rows can be damaged behind the store's back, in either database."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from holdfast.testing.conformance import Place


class Damageable(Place):
    """Which row is damaged; a database says how it is changed."""

    @abstractmethod
    def changed(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run one statement with a `?` for each of its values, and make it durable; its rows."""

    async def damage_checkpoint(self, run_key: int, n: int) -> None:
        self._damage("checkpoints", "state", "run = ? AND n = ?", run_key, n)

    async def damage_chunk(self, content_id: str, n: int) -> None:
        chunk = (
            "key = (SELECT chunk FROM content_chunks JOIN contents ON contents.key = content "
            "WHERE sha256 = ? AND n = ?)"
        )
        self._damage("chunks", "body", chunk, bytes.fromhex(content_id), n)

    async def damage_state_of(self, owner: str) -> None:
        self._damage("states", "state", "owner = ?", owner)

    async def damage_checkpoint_of(self, owner: str, n: int) -> None:
        self._damage("owned_checkpoints", "state", "owner = ? AND n = ?", owner, n)

    def _damage(self, table: str, column: str, where: str, *values: bytes | int | str) -> None:
        ((body,),) = self.changed(f"SELECT {column} FROM {table} WHERE {where}", *values)
        middle = len(body) // 2
        damaged = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
        self.changed(f"UPDATE {table} SET {column} = ? WHERE {where}", damaged, *values)
