"""The options of steps: what they are called, and what they are worth together."""

from __future__ import annotations

import difflib
from typing import Literal, TypedDict

from holdfast import codec
from holdfast.calls import check_step
from holdfast.duration import Duration
from holdfast.errors import UsageError
from holdfast.rules.prices import Cost, check_cost
from holdfast.rules.rate import RateLimit
from holdfast.rules.retry import RetryPolicy
from holdfast.verdicts import Verify


class StepOptions(TypedDict, total=False):
    """The options that `ctx.step` and `ctx.map` share.

    `name` is the function's name unless given; `timeout` is per try; `retry` replaces the agent's policy; `version`
    and the arguments are checked on replay unless `check=False`; `effect` says what a crash in the middle means, and
    `verify` finds out what became of an effect that is to happen once; `silence` is how long a body may go on without
    a sign of life (`step_context.record` or `emit`); `rate` is a rate shared by all workers that each try waits for;
    `cost` is what each try may use up at most; a `tool` is counted as one and watched for loops, unless `poll`.
    """

    name: str | None
    timeout: Duration | None
    retry: RetryPolicy | None
    effect: Literal["repeatable", "once"]
    verify: Verify | None
    silence: Duration | None
    version: str | None
    check: bool
    rate: RateLimit | None
    cost: Cost | None
    tool: bool
    poll: bool


def taken(rate: RateLimit | None, cost: Cost | None) -> RateLimit | None:
    """The rate as this call takes it: one that counts tokens takes those of the estimate. Raises UsageError."""
    if rate is None or rate.counts == "calls":
        return rate
    if cost is None:
        raise UsageError(
            f"rate {rate.name!r} counts {rate.counts}, so the step needs an estimate of them: "
            "cost=Cost(model='…', tokens_in=900, max_tokens_out=4096)"
        )
    return rate.cost(max(1, rate.counted(cost.usage)))


def checked(effect: str, verify: object, rate: RateLimit | None, cost: Cost | None) -> RateLimit | None:
    """Raise UsageError when these options of a step make no sense; return the rate as the call takes it."""
    check_step(effect, verify, rate)
    check_cost(cost)
    return taken(rate, cost)


def watched(args: tuple[object, ...], fingerprint: bytes, *, tool: bool, poll: bool) -> bytes | None:
    """The hash of a tool's arguments, by which its loops are found; None for one that polls on purpose."""
    if not tool:
        raise UsageError("poll=True says that a tool asks again on purpose: add tool=True")
    return None if poll else fingerprint or codec.fingerprint(args, None)


def named(chosen: str | None) -> str:
    """The name of a step. Raises UsageError when it has none that lasts."""
    if chosen is None:
        raise UsageError(
            "a lambda or a callable object has no name that lasts: give one, ctx.step(…, name='fetch')"
        )
    if len(chosen) > 200:
        raise UsageError(
            f"the step name {chosen[:40]!r}… is longer than 200 characters; put what varies into key="
        )
    return chosen


def check_options(options: StepOptions) -> None:
    """Raise TypeError for an option that steps have not, as a call of `ctx.step` would."""
    for name in options.keys() - StepOptions.__annotations__.keys():
        known = difflib.get_close_matches(name, StepOptions.__annotations__, n=1)
        hint = (
            f": did you mean {known[0]!r}?"
            if known
            else f"; there are {', '.join(StepOptions.__annotations__)}"
        )
        raise TypeError(f"ctx.map has no option {name!r}{hint}")
