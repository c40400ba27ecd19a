"""The proofs at the end of the demo. Pure: each takes what was witnessed and says whether its claim holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from examples.report.steps import CLEANED_AT_ONCE
from examples.stage.executions import Execution
from examples.stage.proof import Outcome, Proof, repeats_are_bounded, was_killed

CHECKPOINTS = ("data_collected", "data_cleaned", "analysis_complete", "report_generated")


@dataclass(frozen=True, slots=True)
class Witnessed:
    """Everything that the proofs rest on."""

    kills: int
    wanted_kills: int
    recorded: int
    outcomes: Sequence[Outcome]
    executions: Sequence[Execution]
    checkpoints: Sequence[str]  # the named ones, as `holdfast checkpoints` shows them
    pages: tuple[str, str]  # sha256 of report.html: undisturbed, and killed
    reports: tuple[str, str]  # of report.json
    dropped: tuple[str, str]  # of dropped.csv
    checked: Sequence[Proof]  # what `verify` says of the report
    model: str = ""  # which worded the summary: its words are those of the killed run in both


def proofs(seen: Witnessed) -> list[Proof]:
    """Every claim of the demo."""
    return [
        was_killed(seen),
        repeats_are_bounded(seen, CLEANED_AT_ONCE),
        phases_are_kept(seen),
        bytes_are_equal(seen),
        *seen.checked,
    ]


def phases_are_kept(seen: Witnessed) -> Proof:
    missing = [name for name in CHECKPOINTS if list(seen.checkpoints).count(name) != 1]
    evidence = f"missing or twice: {', '.join(missing)}" if missing else " → ".join(CHECKPOINTS)
    return Proof("each phase left its checkpoint", not missing, evidence)


def bytes_are_equal(seen: Witnessed) -> Proof:
    """The page, the report for programs and the list of dropped rows."""
    pairs = {"report.html": seen.pages, "report.json": seen.reports, "dropped.csv": seen.dropped}
    different = [name for name, (undisturbed, killed) in pairs.items() if undisturbed != killed]
    evidence = f"report.html is {seen.pages[0][:16]}… both times"
    if seen.model:
        evidence += f", with the same words of {seen.model} in both"
    if different:
        evidence = f"{', '.join(different)} differ"
    return Proof("the kills left no trace: the same bytes as undisturbed", not different, evidence)
