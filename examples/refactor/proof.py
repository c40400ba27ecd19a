"""The proofs at the end of the demo. Pure: each takes what was witnessed and says whether its claim holds.

The witnesses are independent of each other: holdfast's own record of outcomes, the log that each step body wrote about
its execution, the hashes of the files on disk, and the same changes applied again where nobody disturbed them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from examples.refactor.model import Report
from examples.refactor.report import differences, many
from examples.stage.executions import Execution
from examples.stage.proof import Outcome, Proof, repeats_are_bounded, was_killed

IN_FLIGHT = 1  # the agent takes one step at a time, so a kill can cut one short


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


def proofs(seen: Witnessed) -> list[Proof]:
    """Every claim of the demo."""
    claims = [
        was_killed,
        applied_once,
        tree_equals_record,
        nothing_repeated,
        equals_undisturbed,
        suite_stands,
    ]
    return [claim(seen) for claim in claims] + (
        [] if seen.report.job.in_place else [original_untouched(seen)]
    )


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


def nothing_repeated(seen: Witnessed) -> Proof:
    return repeats_are_bounded(seen, IN_FLIGHT)


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
