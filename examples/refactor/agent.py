"""The agent: index, baseline, plan, then one change after another, each kept only if the tests let it stay.

    holdfast run examples/refactor/agent.py:refactor --input '{"repo": "path/to/codebase"}'

Kill it at any moment and start it again: it continues with the change it was at. What was recorded is not done again,
and a file that was left half done is put back first.
"""

from __future__ import annotations

import logging

from examples.refactor import steps
from examples.refactor.index import in_scope, tests_that_matter
from examples.refactor.model import Applied, Change, Index, Job, Judged, Refactoring, Summary, TestRun
from examples.refactor.rules import DEFAULT_RULES
from examples.refactor.verify import fate_of, judge
from holdfast import Context, Every, RetryPolicy, agent

log = logging.getLogger("refactor")


@agent(retry=RetryPolicy(attempts=3), checkpoint=Every("10s", steps=50), keep=1000)
async def refactor(
    ctx: Context,
    repo: str,
    rules: list[str] | None = None,
    workspace: str | None = None,
    python: str | None = None,
    tools: str | None = None,
    in_place: bool = False,
    limit: int | None = None,
) -> Summary:
    """Refactor the codebase at `repo` by `rules`, in a copy unless `in_place`; return what was kept and what was not.

    rules: ruff families or codes (`UP`, `C4`, `F401`) and custom rules (`percent-format`), tried in this order.
    workspace: where the copy, the bytes to put back and the report go (a new folder beside the codebase).
    python, tools: the Pythons that run the tests and the engines. limit: try only so many changes.
    """
    ctx.progress(0, None, "reading the codebase", phase="setup")
    job = await ctx.step(steps.prepare, repo, workspace, python, tools, in_place, ctx.run_id)
    index = await ctx.step(steps.index, job)
    ctx.progress(0, None, "running its tests as it is", phase="baseline")
    baseline = await ctx.step(steps.baseline, job, index.tests)
    ctx.progress(0, None, "asking the engines", phase="plan")
    scope = in_scope(index, baseline.ran)
    plan = await ctx.step(steps.plan, job, scope, rules or list(DEFAULT_RULES), limit)

    s = ctx.restore(Refactoring)  # every resume continues from here
    for change in plan[s.done :]:
        ctx.progress(s.done, len(plan), f"{change.rule} · {change.path}", phase="changes")
        s.judged.append(await decide(ctx, job, index, baseline, change))
        await ctx.checkpoint(s)  # a safe point: saved when due, and nothing is lost when it is not

    ctx.progress(len(plan), len(plan), "the whole suite", phase="full tests")
    final = await ctx.step(steps.full_tests, job, baseline)
    return await ctx.step(steps.write_report, job, index, baseline, final, s.judged, name="report")


async def decide(ctx: Context, job: Job, index: Index, baseline: TestRun, change: Change) -> Judged:
    """Apply a change, let the tests judge it, and keep it or put the tree back. A failed change is a result."""
    applied = await ctx.step(steps.apply, job, change, key=change.key)
    if not applied.changed:
        return judged(change, applied, baseline, None, ())
    tests = tests_that_matter(index, change.path, baseline.ran)
    run = await ctx.step(steps.check, job, change, tests, baseline, name="verify", key=change.key)
    result = judged(change, applied, baseline, run, tests)
    if result.fate != "kept":
        await ctx.step(steps.undo, job, change, key=change.key)
    return result


def judged(
    change: Change, applied: Applied, baseline: TestRun, run: TestRun | None, tests: tuple[str, ...]
) -> Judged:
    """The change with its fate, said in the log."""
    verdict = judge(baseline, run, tests) if run is not None else None
    fate, reason = fate_of(applied, verdict)
    log.info("#%d %s: %s · %s · %s", change.number, fate, change.rule, change.path, reason)
    return Judged(
        change=change,
        fate=fate,
        reason=reason,
        applied=applied,
        new_failures=verdict.new_failures if verdict else {},
        tests_run=sum(run.ran.values()) if run else 0,
        seconds=run.seconds if run else 0.0,
    )
