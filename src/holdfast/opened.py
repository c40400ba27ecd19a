"""A call that the code has made and that is not over: what is known of it, and what cancelling it leaves behind."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, TypeVar

import msgspec

from holdfast.model import Beside, Call, Entry, EntryKind, EntryStatus, Identity, Note
from holdfast.rules.journal import Unknown

R = TypeVar("R")


class Withdrawal(NamedTuple):
    """What stands beside the entry of a call that the code cancelled, and the event that tells of it."""

    thing: Beside
    told: Note | None = None


class OpenCall(msgspec.Struct, eq=False):
    """A call between its synchronous part and the delivery of its outcome.

    `with call:` its coroutine runs; when that ends, however it does, the call is no longer `among` the open ones.
    """

    kind: EntryKind
    identity: Identity
    args_hash: bytes
    among: dict[str, OpenCall] | None = None
    coroutine: Coroutine[Any, Any, object] | None = None
    begun: bool = False
    replayed: bool = False
    entry: Entry | None = None
    doubt: Unknown | None = None  # an effect that may have happened already
    intent: Entry | None = None  # the newest, of whatever attempt
    intended: bool = False  # it is that of a body that has not begun
    args: tuple[object, ...] = ()
    started_at_us: int = 0
    position: int = 0
    at_us: int = 0
    tries: int = 0
    first: OpenCall | None = None  # a part with an entry of its own, recorded before the outcome
    group: str | None = None  # the path of the group that it opens
    child: str | None = None  # that it starts, by an entry that is submitted or recorded
    withdraws: Callable[[], Withdrawal] | None = None  # what is left behind after `first` went well
    settles: Callable[[EntryStatus], tuple[Beside, ...]] | None = (
        None  # what it is charged, beside its next entry
    )

    def __enter__(self) -> None:
        self.begun = True

    def __exit__(self, *raised: object) -> None:
        among = self.among
        if among is not None and among.get(self.identity.scope) is self:
            del among[self.identity.scope]

    @property
    def name(self) -> str:
        """The name that the code gave the call."""
        return self.identity.name

    @property
    def call(self) -> Call:
        """The call as a rule sees it."""
        return Call(identity=self.identity, args_hash=self.args_hash)

    def settled(self, status: EntryStatus, beside: tuple[Beside, ...] = ()) -> tuple[Beside, ...]:
        """What stands beside an entry of the call: once, what it is charged, too."""
        settles, self.settles = self.settles, None
        return beside if settles is None else (*beside, *settles(status))

    def start(self, coroutine: Coroutine[Any, Any, R]) -> Coroutine[Any, Any, R]:
        """Remember the coroutine that will deliver the outcome: one that is cancelled before it began says so
        only by being closed."""
        self.coroutine = coroutine
        return coroutine

    @property
    def never_begun(self) -> bool:
        """Whether the call was cancelled before its coroutine ran at all."""
        return not self.begun and self.coroutine is not None and _state(self.coroutine) == inspect.CORO_CLOSED

    @property
    def unawaited(self) -> bool:
        """Whether nobody has awaited the call yet."""
        return (
            not self.begun and self.coroutine is not None and _state(self.coroutine) == inspect.CORO_CREATED
        )


def _state(coroutine: Coroutine[Any, Any, object]) -> str:
    return inspect.getcoroutinestate(coroutine)
