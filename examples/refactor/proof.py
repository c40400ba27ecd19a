"""The proofs at the end of the demo. Pure: each takes what was witnessed and says whether its claim holds.

The witnesses are independent of each other: holdfast's own record of outcomes, the log that each step body wrote about
its execution, the hashes of the files on disk, and the same changes applied again where nobody disturbed them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from examples.refactor.executions import Execution
from examples.refactor.model import Report
from examples.refactor.report import differences, many

IN_FLIGHT = 1  # the agent takes one step at a time, so a kill can cut one short


@dataclass(frozen=True, slots=True)
class Outcome:
    """A recorded outcome, as `holdfast steps --json` shows it."""

    name: str
    key: str | None
    status: str


@dataclass(frozen=True, slots=True)
class Witnessed:
    """Everything that the proofs rest on."""

    report: Report
    kills: int
    wanted_kills: int
    recorded: int  # outcomes in the run's life, as `holdfast show --json` counts them
    outcomes: Sequence[Outcome]
    executions: Sequence[Execution]
    original: Mapping[str, str]  # path → sha256 in the codebase as it was before the run
    untouched: Mapping[str, str]  # and after it
    actual: Mapping[str, str]  # in the refactored tree
    replayed: Mapping[str, str]  # in a tree that was given the kept changes without any disturbance


@dataclass(frozen=True, slots=True)
class Proof:
    """A claim, whether it holds, and what shows it."""

    claim: str
    holds: bool
    evidence: str


def proofs(seen: Witnessed) -> list[Proof]:
    """Every claim of the demo."""
    claims = [
        was_killed,
        applied_once,
        tree_equals_record,
        repeats_are_bounded,
        equals_undisturbed,
        suite_stands,
    ]
    return [claim(seen) for claim in claims] + (
        [] if seen.report.job.in_place else [original_untouched(seen)]
    )


def was_killed(seen: Witnessed) -> Proof:
    holds = seen.kills >= seen.wanted_kills
    return Proof("the worker was killed, and the run is done", holds, f"{seen.kills} × SIGKILL, 1 result")


def applied_once(seen: Witnessed) -> Proof:
    """One recorded apply for each change, and one unbroken chain of hashes for each file."""
    applies = Counter(
        outcome.key for outcome in seen.outcomes if outcome.name == "apply" and outcome.status == "ok"
    )
    kept = [row for row in seen.report.judged if row.fate == "kept"]
    once = all(applies[row.change.key] == 1 for row in kept)
    broken = broken_chains(seen.report, seen.original, seen.actual)
    evidence = f"{many(len(kept), 'change')} kept, {sum(applies[row.change.key] for row in kept)} recorded; "
    chains = len({row.change.path for row in kept})
    evidence += (
        f"breaks in {', '.join(broken)}" if broken else f"hashes chain in {many(chains, 'file')} changed"
    )
    return Proof("each accepted change was applied exactly once", once and not broken, evidence)


def broken_chains(report: Report, original: Mapping[str, str], actual: Mapping[str, str]) -> list[str]:
    """The files in which a change began from other bytes than its predecessor left, or whose end is not what is there.

    A change applied twice, lost, or half rolled back breaks its file's chain.
    """
    now = dict(original)
    broken = set()
    for row in report.judged:
        if now.get(row.change.path) != row.applied.before:
            broken.add(row.change.path)
        if row.fate == "kept":
            now[row.change.path] = row.applied.after
    return sorted(
        broken
        | {row.change.path for row in report.judged if actual.get(row.change.path) != now[row.change.path]}
    )


def tree_equals_record(seen: Witnessed) -> Proof:
    different = differences(seen.report.files, seen.actual)
    evidence = (
        f"{', '.join(different[:5])} differ" if different else f"sha256 of {many(len(seen.actual), 'file')}"
    )
    return Proof("the tree equals the record, every byte of it", not different, evidence)


def repeats_are_bounded(seen: Witnessed) -> Proof:
    """No outcome is recorded twice; a body was executed again only where a kill cut it short."""
    repeats = len(seen.executions) - seen.recorded
    twice = [
        name for name, count in Counter((one.name, one.key) for one in seen.outcomes).items() if count > 1
    ]
    holds = 0 <= repeats <= seen.kills * IN_FLIGHT and not twice and len(seen.outcomes) == seen.recorded
    evidence = (
        f"{len(seen.executions)} executions − {seen.recorded} recorded = "
        f"{many(repeats, 'repeat')} ≤ {seen.kills} kills × {IN_FLIGHT} in flight"
    )
    return Proof("nothing recorded was done again", holds, evidence)


def equals_undisturbed(seen: Witnessed) -> Proof:
    different = differences(seen.replayed, seen.actual)
    evidence = (
        f"{', '.join(different[:5])} differ" if different else "the same changes, never disturbed: same bytes"
    )
    return Proof("the kills left no trace in the tree", not different, evidence)


def suite_stands(seen: Witnessed) -> Proof:
    final, base = seen.report.final, seen.report.baseline
    evidence = f"{final.passed} pass ({base.passed} before), {len(final.failures)} fail ({len(base.failures)} before)"
    return Proof("the whole suite has no failure that the baseline lacks", seen.report.verdict.keep, evidence)


def original_untouched(seen: Witnessed) -> Proof:
    different = differences(seen.original, seen.untouched)
    evidence = (
        f"{', '.join(different[:5])} differ" if different else f"{many(len(seen.original), 'file')} as before"
    )
    return Proof("the codebase itself was not touched", not different, evidence)
