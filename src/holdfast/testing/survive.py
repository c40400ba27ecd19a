"""`simulate` and `assert_survives_crashes`: one's own agent in virtual time, and what crashes must not change in it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, Protocol, TypeVar, TypeVarTuple

from holdfast.agents import Agent, AnyAgent
from holdfast.duration import Duration, seconds
from holdfast.errors import UsageError
from holdfast.model import EntryKind, EntryStatus
from holdfast.testing import plan as planning
from holdfast.testing.apart import apart
from holdfast.testing.plan import Plan
from holdfast.testing.stage import Outside, Stage, Trial

Ts = TypeVarTuple("Ts")
R = TypeVar("R")
Scene = Callable[[], AbstractContextManager[object]]

VARIABLE: Final = "HOLDFAST_CRASH_PLAN"
MOST: Final = 500
WITHIN: Final = "365d"
SHOWN: Final = 2_000
"""Characters of a result that a message shows."""


class CrashTest(Protocol):
    """What `assert_survives_crashes` is."""

    def __call__(
        self,
        agent: Agent[*Ts, R],
        *args: *Ts,
        scene: Scene = ...,
        outside: Outside[R] | None = ...,
        agents: Sequence[AnyAgent] = ...,
        within: Duration = ...,
        same: Callable[[R, R], bool] = ...,
        repeats: Collection[str] = ...,
        most: int = ...,
        only: str | None = ...,
    ) -> R: ...


_Work = tuple[str, str | None, bytes]


def simulate(
    agent: Agent[*Ts, R],
    *args: *Ts,
    plan: str = "",
    outside: Outside[R] | None = None,
    agents: Sequence[AnyAgent] = (),
    within: Duration = WITHIN,
) -> Trial[R]:
    """Run `agent` to its end in virtual time: sleeps, backoffs and deadlines take none of yours.

    The engine is the real one, on a store of its own that is gone afterwards. `plan` says what befalls the run:
    `"3-"` a crash before its third commit is durable, `"3+"` one after it, `"3+,1-"` two in a row, `seed=7` a shuffled
    order of what is concurrent, `save=always` or `save=never` another time for checkpoints, `corrupt` the newest
    checkpoint damaged at the first crash. `outside(handle)` is the rest of the world: it signals, pauses, cancels.
    `agents` are served beside this one. A run that is not over `within` that much of its own time ends the trial.

    What `time.sleep`, threads, child processes and sockets do is real, and takes real time. May be called with an
    event loop running, which then stands still. Raises what `outside` raises.
    """
    chosen = planning.parse(plan)
    return apart(lambda: _trial(agent, args, chosen, outside, agents, within, nullcontext))


def assert_survives_crashes(
    agent: Agent[*Ts, R],
    *args: *Ts,
    scene: Scene = nullcontext,
    outside: Outside[R] | None = None,
    agents: Sequence[AnyAgent] = (),
    within: Duration = WITHIN,
    same: Callable[[R, R], bool] = lambda one, other: one == other,
    repeats: Collection[str] = (),
    most: int = MOST,
    only: str | None = None,
) -> R:
    """Crash a run of `agent` before and after each of its commits, and assert that nothing comes of it.

    It runs once undisturbed, which must succeed; its result is returned. Then once for each crash and, by fixed
    seeds, with pairs of crashes, shuffled orders, checkpoints saved always and never, the newest one corrupt: `most`
    runs at most. Each must end as the first did (`same` compares results), and record no more work: a step of one name
    and the same arguments that is recorded more often is work done again, unless its name is in `repeats`.

    `scene()` is a context manager around each run: set up there what the steps touch, and assert afterwards what
    became of it. `only`, or the variable HOLDFAST_CRASH_PLAN, is the plan of one run that failed: no other is tried.
    For `outside`, `agents`, `within` and plans see `simulate`. Raises AssertionError that names the plan.
    """
    __tracebackhide__ = True
    if most < 1:
        raise UsageError(f"most is the number of runs, 1 or more, not {most}")
    wanted = only if only is not None else os.environ.get(VARIABLE)
    chosen = None if wanted is None else [planning.parse(wanted)]

    def survive() -> R:
        __tracebackhide__ = True

        def trial(plan: Plan) -> Trial[R]:
            __tracebackhide__ = True
            try:
                return _trial(agent, args, plan, outside, agents, within, scene)
            except Exception as error:
                error.add_note(f"in a run of agent {agent.name!r} with {plan.told()}; {_again(plan)}")
                raise

        model = trial(Plan())
        expected = model.result
        for plan in chosen if chosen is not None else _plans(agent, model, most):
            found = trial(plan)
            complaints = _complaints(model, found, same, repeats)
            if complaints:
                raise AssertionError(_message(agent, plan, complaints))
        return expected

    return apart(survive)


def _trial(
    agent: Agent[*tuple[Any, ...], R],
    args: tuple[object, ...],
    plan: Plan,
    outside: Outside[R] | None,
    agents: Sequence[AnyAgent],
    within: Duration,
    scene: Scene,
) -> Trial[R]:
    __tracebackhide__ = True
    stage = Stage(agent, plan, agents, seconds(within))
    try:
        with scene():
            return stage.play(args, outside)
    finally:
        stage.close()


def _plans(agent: AnyAgent, model: Trial[Any], most: int) -> list[Plan]:
    segments = {entry.identity.segment for entry in model.entries}
    return planning.plans(model.commits, most, checkpoints=len(segments) > 1, spare=agent.keep > 1)


# --- what must not come of a crash ----------------------------------------------------------------------------


def _complaints(
    model: Trial[R], found: Trial[R], same: Callable[[R, R], bool], repeats: Collection[str]
) -> list[str]:
    if found.error is not None:
        return [f"it should have succeeded: {type(found.error).__name__}: {found.error}"]
    complaints: list[str] = []
    if found.payload != model.payload and not same(found.result, model.result):
        complaints.append(f"it returned {_shown(found.result)}\n  undisturbed {_shown(model.result)}")
    once, now = _work(model), _work(found)
    for work, times in now.items():
        name, key, _ = work
        if times > max(1, once[work]) and name not in repeats:
            which = f"{name!r} (key {key!r})" if key is not None else repr(name)
            complaints.append(
                f"step {which} is recorded {times} times with the same arguments, undisturbed {once[work]}: what it"
                " did was not remembered. Keep in the state, before ctx.checkpoint, that it is done"
            )
    return complaints


def _work(trial: Trial[Any]) -> Counter[_Work]:
    """What is recorded as done, and how often."""
    return Counter(
        (entry.identity.name, entry.identity.key, entry.args_hash)
        for entry in trial.entries
        if entry.kind in (EntryKind.STEP, EntryKind.ONCE)
        and entry.status in (EntryStatus.OK, EntryStatus.FAILED)
        and not entry.superseded
    )


def _shown(result: object) -> str:
    text = repr(result)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _message(agent: AnyAgent, plan: Plan, complaints: Sequence[str]) -> str:
    lines = [
        f"agent {agent.name!r} does not survive this: {plan.told()}",
        *(f"  {one}" for one in complaints),
    ]
    return "\n".join([*lines, f"  {_again(plan)}"])


def _again(plan: Plan) -> str:
    test = os.environ.get("PYTEST_CURRENT_TEST", "").partition(" ")[0]
    again = f"pytest --crash-plan '{plan}' '{test}'" if test else f"{VARIABLE}='{plan}'"
    return f"to run just this one: {again}, or only={str(plan)!r}"
