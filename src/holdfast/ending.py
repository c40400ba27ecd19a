"""How an attempt ends: decided once, by its own record, whatever exception arrives or is swallowed."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import NoReturn, TypeVar

from holdfast.errors import Cancelled, Fenced, LeaseLost, Parked, StoreError, Unwind
from holdfast.model import Failure, FailureKind, Hold, Mismatch, Outcome, Reason

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Lost:
    """The attempt no longer owns its run: nothing can be settled. `cancelled`: the run was cancelled."""

    cancelled: bool
    message: str = ""


Ending = Outcome | Lost


class EndOfAttempt:
    """The decision, once it is made, and the exceptions that carry it through the agent's code."""

    __slots__ = ("decided",)

    def __init__(self) -> None:
        self.decided: Ending | None = None

    def decide(self, ending: Ending) -> None:
        """Decide how the attempt ends. The first decision stands, except that losing the run beats all."""
        if self.decided is None or (isinstance(ending, Lost) and not isinstance(self.decided, Lost)):
            self.decided = ending

    def check(self) -> None:
        """Raise the Unwind of a decision that is made."""
        if self.decided is not None:
            raise _unwind(self.decided)

    def unwinding(self, ending: Ending) -> Unwind:
        """Decide, and return what unwinds the agent's code: `raise end.unwinding(...)`."""
        self.decide(ending)
        assert self.decided is not None
        return _unwind(self.decided)

    def lost(self, error: LeaseLost | StoreError) -> Unwind:
        """The attempt cannot record any more: decide so, and return what unwinds the agent's code."""
        return self.unwinding(Lost(cancelled=False, message=str(error)))

    async def guarded(self, answer: Awaitable[R]) -> R:
        """Await something of the port; a lost lease ends the attempt."""
        try:
            return await answer
        except (LeaseLost, StoreError) as error:
            raise self.lost(error) from error

    def hold(self, mismatch: Mismatch) -> NoReturn:
        """The code does not fit the journal: hold the run, naming both sides."""
        failure = Failure(kind=FailureKind.MISMATCH, type="JournalMismatch", message=mismatch.message)
        raise self.unwinding(Hold(reason=Reason.MISMATCH, failure=failure, mismatch=mismatch))


def _unwind(ending: Ending) -> Unwind:
    if isinstance(ending, Lost):
        return Cancelled("the run was cancelled") if ending.cancelled else Fenced(ending.message)
    return Parked("the attempt ends here; the run goes on later")
