"""A typed state by itself: durable, versioned, safe between processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar, cast

from holdfast.codec import Shape
from holdfast.errors import Conflict, StateNotFound
from holdfast.parts.owner import checked
from holdfast.store.protocol import Store

T = TypeVar("T")

MOST_TRIES: Final = 1_000
"""Of `update`: each one that fails is another writer's that succeeded, so this many mean a loop somewhere."""


class State(Generic[T]):
    """The state of `id`, of type `kind`: a dataclass, a model, plain JSON types.

    One rule for writers: a `save` replaces what this object loaded or saved last (nothing, when it has done neither).
    When somebody else wrote meanwhile, in this process or another, it raises Conflict and changes nothing.
    """

    def __init__(self, store: Store, id: str, kind: type[T], *, default: T | None = None) -> None:
        """`default` is what `load` and `update` begin with where nothing is saved."""
        self.id: Final = checked(id)
        self._store = store
        self._shape = Shape(f"the state of {id!r}", kind)
        self._default = default
        self._version = 0

    @property
    def version(self) -> int:
        """The version that this object loaded or saved last; 0: none. Versions rise with every save."""
        return self._version

    async def load(self) -> T:
        """What is saved, decoded into its type.

        Raises StateNotFound when nothing is and there is no default, NotSerializable when it does not fit the type,
        StoreCorrupt when it is not what was saved.
        """
        try:
            found = await self._store.load_state_of(self.id)
        except StateNotFound:
            self._version = 0
            if self._default is None:
                raise
            # A copy of its own for each: what a caller does with it must not become the default.
            return cast("T", self._shape.recode(self._default)[1])
        value = cast("T", self._shape.decode(found.state))
        self._version = found.version
        return value

    async def save(self, value: T, *, over: bool = False) -> int:
        """Save it and return its version; durable then. `over=True`: whatever is there now.

        Raises Conflict (see above), NotSerializable when the value does not survive being saved and loaded.
        """
        data, _ = self._shape.recode(value)
        self._version = await self._store.save_state_of(self.id, data, None if over else self._version)
        return self._version

    async def update(self, change: Callable[[T], T]) -> T:
        """Load, `change`, save; again, with what is there by then, when somebody else wrote meanwhile.

        No update is lost. `change` may be called several times: it only computes. Raises what `load` and `save` do.
        """
        for _ in range(MOST_TRIES):
            value = change(await self.load())
            try:
                await self.save(value)
            except Conflict:
                continue
            return value
        raise Conflict(f"the state of {self.id!r} was written {MOST_TRIES} times meanwhile: is that a loop?")

    async def delete(self) -> None:
        """Delete what is saved; a writer that saw it is refused afterwards. Raises StateNotFound."""
        await self._store.delete_state_of(self.id)
        self._version = 0
