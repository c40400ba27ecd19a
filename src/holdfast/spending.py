"""What steps use up: reserved before a body begins, charged beside the entry of its outcome.

Laws:
1. Nothing begins under a limited budget that has not reserved what it may use; a replay reserves nothing.
2. Each try is settled once: by what its body said, else by the usage that its result carries, else by its estimate.
3. Of a failed try without usage only the request counts, unless its end is not known (a timeout, a cancellation): then
   it is charged its estimate at least.
4. Working time is that in which bodies run, counted once however many run side by side.
5. A limit of money is none while somebody spends what nobody can price: nothing begins after that.
6. What is reserved for a body that does not begin is let go.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from holdfast import prices as price_files
from holdfast.bodies import Scene
from holdfast.calls import Body, BodyStuck, BodyTimedOut
from holdfast.codec import encode
from holdfast.ending import Lost
from holdfast.errors import UsageError
from holdfast.failures import encode_failure
from holdfast.model import (
    AdjustRate,
    Amounts,
    Beside,
    Entry,
    EntryKind,
    EntryStatus,
    Failure,
    FailureKind,
    Note,
    Park,
    Reason,
    Reserved,
    Settle,
    Unit,
    Verdict,
)
from holdfast.opened import OpenCall
from holdfast.port import Port
from holdfast.recording import Recording
from holdfast.rules import budget as rules
from holdfast.rules import usage as usages
from holdfast.rules.prices import Prices
from holdfast.rules.usage import Usage
from holdfast.standing import LOADED_SLEEP_S, stand

_COUNTED = (EntryKind.STEP, EntryKind.ONCE)


class Spending:
    """What one attempt reserves and is charged."""

    def __init__(self, port: Port, recording: Recording, prices: Prices | None) -> None:
        self.limited = frozenset(port.journal.limited)
        self._port = port
        self._recording = recording
        self._branches = recording.branches
        self._given = prices
        self._working = 0
        self._since_s = self._worked_s = 0.0
        self._warned: set[str] = set()
        self._unpriced: UsageError | None = None
        self._open: dict[str, tuple[OpenCall, Meter | None]] = {}  # what stands reserved, and what has begun

    async def begin(self, call: OpenCall, body: Body, scene: Scene) -> tuple[Meter | None, Entry | None]:
        """Return when what the body may use up is reserved; or how the call ended, because nobody can price it. The run
        is parked where it does not fit. Nothing of the call is in flight until then."""
        if call.kind not in _COUNTED:
            return None, None
        try:
            if self._unpriced is not None:
                raise self._unpriced
            meter = Meter(self, call, body, scene)
        except UsageError as error:
            return None, await self._refuse(call, type(error).__name__, str(error))
        self._branches.in_flight -= 1
        try:
            await self._granted(call, meter.asked)
        except asyncio.CancelledError:
            self._recording.end.check()
            self._recording.abandon(call)
            raise
        finally:
            self._branches.in_flight += 1
        self._owe(call, {})
        return meter, None

    def works(self, call: OpenCall, meter: Meter) -> None:
        """The body begins."""
        self._open[str(call.identity)] = call, meter
        call.settles = meter.settle
        self._work(1)

    def ended(self, call: OpenCall, body: Body) -> None:
        """The call is over by its last try, which is settled: it is counted beside its outcome."""
        self._owe(call, _counted(body))

    def rest(self) -> tuple[Beside, ...]:
        """What stands beside the end of the attempt: bodies that it cuts off are charged what is known of them, and
        what had not begun costs nothing."""
        standing, self._open = self._open, {}
        settled: tuple[Beside, ...] = ()
        for name, (call, meter) in standing.items():
            if call.settles is not None:
                settled += (Settle(call=name, spent={}),) if meter is None else meter.cut_off()
        return settled

    def _owe(self, call: OpenCall, spent: Amounts) -> None:
        """Beside the next entry of the call stands this charge, however the call ends."""
        self._open[str(call.identity)] = call, None
        call.settles = lambda _: (self.closed(call, spent),)

    def closed(self, call: OpenCall, spent: Amounts) -> Settle:
        """The charge of a call that stands no more."""
        name = str(call.identity)
        self._open.pop(name, None)
        return Settle(call=name, spent=spent)

    def late(self, call: OpenCall, body: Body, scene: Scene) -> None:
        """The body said what it used, and nothing was reserved: it is charged all the same."""
        if call.settles is None and call.kind in _COUNTED:
            self.works(call, Meter(self, call, body, scene))

    # --- before ---------------------------------------------------------------------------------------------

    async def _granted(self, call: OpenCall, asked: Amounts) -> None:
        told_of = ""
        while True:
            self._recording.end.check()
            answer = await self._reserved(call, asked)
            self._recording.end.check()
            match answer.verdict:
                case Verdict.GRANTED:
                    if told_of:
                        call.started_at_us = self._port.now_us()
                    return
                case Verdict.FENCED:
                    raise self._recording.end.unwinding(
                        Lost(cancelled=False, message="the attempt is fenced out: it reserves nothing")
                    )
                case Verdict.BUSY | Verdict.FULL:
                    if told_of != answer.scope:
                        told_of = answer.scope
                        self._tell(call, answer)
                    await self._stand(call, answer)

    async def _reserved(self, call: OpenCall, asked: Amounts) -> Reserved:
        """The answer of the store. Who is cancelled meanwhile waits for it, to let go of what is granted all the
        same."""
        asking = asyncio.create_task(self._port.reserve(str(call.identity), asked), name="reserve")
        try:
            return await self._recording.end.guarded(asyncio.shield(asking))
        except asyncio.CancelledError:
            asking.add_done_callback(_read)
            while not asking.done():
                self._recording.end.check()
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait({asking})
            heard = not asking.cancelled() and asking.exception() is None
            if heard and asking.result().verdict is Verdict.GRANTED:
                self._owe(call, {})
            raise

    async def _stand(self, call: OpenCall, answer: Reserved) -> None:
        """Stand until it is worth asking again; the attempt ends where no other code of the run can move meanwhile."""
        self._port.opened(None)
        left_s = None if answer.wait_us is None else answer.wait_us / 1e6
        if self._branches.in_flight and not self._branches.several:  # a ctx.once that nobody awaits here
            await asyncio.sleep(LOADED_SLEEP_S if left_s is None else min(left_s, LOADED_SLEEP_S))
            if self._recording.doubts.asked is not None:
                await self._recording.safe_point()
            return
        until_us = None if answer.wait_us is None else self._port.now_us() + answer.wait_us
        park = Park(reason=Reason.BUDGET, until_us=until_us, unfunded=True)
        await stand(self._port, self._recording, call.identity.scope, park, left_s)

    def _tell(self, call: OpenCall, answer: Reserved) -> None:
        assert answer.unit is not None
        shown = {
            "step": call.name,
            "scope": answer.scope,
            "unit": answer.unit,
            "asked": answer.asked,
            "hard": answer.hard,
            "used": answer.used,
            "reserved": answer.reserved,
        }
        self._port.note(Note("budget.reached", encode(shown, what="an event")))

    async def _refuse(self, call: OpenCall, kind: str, message: str) -> Entry:
        failure = Failure(kind=FailureKind.FATAL, type=kind, message=message)
        return await self._recording.record(call, EntryStatus.FAILED, encode_failure(failure))

    # --- money ----------------------------------------------------------------------------------------------

    def money(self, usage: Usage, *models: str | None) -> int | None:
        """What it costs in nanodollars, by the first of the models that has a price; None when nobody knows."""
        if usage.usd is not None:
            return usage.usd
        prices = self._prices()
        for model in models:
            price = None if model is None else prices.price(model)
            if price is not None and model is not None:
                if Unit.USD in self.limited and model not in self._warned:
                    self._warned.add(model)
                    self._warn_of_stale(prices, model)
                return price.nanodollars(usage)
        return None

    def bill(self, said: Sequence[Usage], model: str | None, estimate: int | None) -> int:
        """What all of it costs in nanodollars, each by its own model; the estimate at least, where somebody's price is
        not known. It is paid for already, so nothing is raised."""
        total, unpriced = 0, None
        for usage in said:
            try:
                usd = self.money(usage, usage.model, model)
            except UsageError as error:  # the prices cannot be read
                usd, unpriced = None, error
            if usd is not None:
                total += usd
            elif usage.tokens and unpriced is None:
                unpriced = self._nobodys_price(usage.model)
        if unpriced is None:
            return total
        if estimate is None and Unit.USD in self.limited:
            self._unpriced = unpriced
            self.warn("no_price", f"{unpriced}; nothing more begins under the limit of usd")
        return max(total, estimate or 0)

    def _nobodys_price(self, model: str | None) -> UsageError:
        if model is not None:
            return self._prices().missing(model)
        return UsageError(
            "a limit of usd holds here, and a step said what it used without a model or the money: "
            "step_context.used(usage, model='…') or step_context.used(usd=…)"
        )

    def _prices(self) -> Prices:
        if self._given is None:
            self._given = price_files.default()
        return self._given

    def missing_price(self, model: str | None) -> UsageError:
        """The error for an estimate whose money nobody knows, under a limit of money."""
        if model is None:
            return UsageError(
                "a limit of usd holds here, and this cost names neither a model nor its money: Cost(model='…', …) or "
                "Cost(usd=…)"
            )
        return self._prices().missing(model)

    def _warn_of_stale(self, prices: Prices, model: str) -> None:
        message = price_files.stale(prices, model, self._port.now_us())
        if message is not None:
            self.warn("stale_prices", message)

    def warn(self, code: str, message: str) -> None:
        """A warning in the feed."""
        self._port.note(Note("warning", encode({"code": code, "message": message}, what="a warning")))

    # --- working time ---------------------------------------------------------------------------------------

    def _work(self, more: int) -> None:
        """A body begins, or ends."""
        now_s = asyncio.get_running_loop().time()
        if self._working:
            self._worked_s += now_s - self._since_s
        self._working += more
        self._since_s = now_s

    def worked_us(self) -> int:
        """A body ended: the working time that is not charged yet."""
        self._work(-1)
        worked_s, self._worked_s = self._worked_s, 0.0
        return round(worked_s * 1e6)


class Meter:
    """One try of one call: what it asked for, and what it is charged."""

    __slots__ = ("_body", "_call", "_cut", "_scene", "_spending", "asked")

    def __init__(self, spending: Spending, call: OpenCall, body: Body, scene: Scene) -> None:
        self._spending = spending
        self._call = call
        self._body = body
        self._scene = scene
        self._cut = False
        self.asked = self._estimate()

    def _estimate(self) -> Amounts:
        body, spending = self._body, self._spending
        asked: Amounts = {Unit.WORKING_S: 1, **_counted(body)}
        if body.cost is not None:
            usage = body.cost.usage
            usd = spending.money(usage, usage.model)
            if usd is None and Unit.USD in spending.limited:
                raise spending.missing_price(usage.model)
            asked |= _amounts(usage, usd)
        return asked

    def cut_off(self) -> tuple[Beside, ...]:
        """What stands beside the end of the attempt in the middle of the try: it is no step that was done."""
        self._cut = True
        return self.settle(EntryStatus.RETRIED)

    def settle(self, status: EntryStatus) -> tuple[Beside, ...]:
        """What stands beside the entry that ends the try."""
        spent: Amounts = {Unit.WORKING_S: self._spending.worked_us()}
        if status is not EntryStatus.RETRIED:
            spent |= _counted(self._body)
        said, cost = self._said(status), self._body.cost
        found = usages.together(said) if said else None
        least = rules.lost(self.asked) if self._cut_off_by(status) else {}
        if found is not None:
            usd = self._spending.bill(said, None if cost is None else cost.model, self.asked.get(Unit.USD))
            used = _amounts(found, usd)
            spent |= {unit: max(used.get(unit, 0), least.get(unit, 0)) for unit in used | least}
        elif cost is not None:
            spent |= least or (rules.lost(self.asked) if status is EntryStatus.OK else {Unit.REQUESTS: 1})
        beside: tuple[Beside, ...] = (self._spending.closed(self._call, spent),)
        rate = self._body.rate
        if rate is not None and rate.counts != "calls" and found is not None:
            more = rate.counted(found) - rate.units
            beside += (AdjustRate(rate=rate.name, units=more),) if more else ()
        return beside

    def _said(self, status: EntryStatus) -> list[Usage]:
        """What it used, as the body or its result says it."""
        if self._scene.usages:
            return self._scene.usages
        result, self._scene.result = self._scene.result, None
        if result is None or status is not EntryStatus.OK:
            return []
        try:
            found = usages.usage_of(result)
        except Exception as error:  # noqa: BLE001 - it asks somebody else's object, and the call was paid for
            self._spending.warn("usage", f"step {self._call.name!r}: {error}; its estimate is charged")
            return []
        return [] if found is None else [found]

    def _cut_off_by(self, status: EntryStatus) -> bool:
        """Whether the body may have used more than it came to say."""
        ends = BodyTimedOut | BodyStuck | asyncio.CancelledError
        return self._cut or status is EntryStatus.ABANDONED or isinstance(self._scene.error, ends)


def _counted(body: Body) -> Amounts:
    """What an ended step counts as."""
    return {Unit.STEPS: 1, Unit.TOOL_CALLS: 1} if body.tool else {Unit.STEPS: 1}


def _read(asking: asyncio.Future[Reserved]) -> None:
    if not asking.cancelled():
        asking.exception()  # read here, so that nobody being there any more is no warning


def _amounts(usage: Usage, usd: int | None) -> Amounts:
    found: Amounts = {
        Unit.USD: usd or 0,
        Unit.TOKENS_IN: usage.tokens_in,
        Unit.TOKENS_OUT: usage.tokens_out,
        Unit.TOKENS_CACHED: usage.tokens_cached,
        Unit.REQUESTS: usage.requests,
    }
    return {unit: min(rules.MOST, amount) for unit, amount in found.items() if amount}
