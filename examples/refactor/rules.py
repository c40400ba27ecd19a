"""Which rules there are, and which engine knows each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from examples.refactor.engines import Engine
from examples.refactor.engines.ruff import Ruff
from examples.refactor.engines.script import Script
from examples.refactor.model import Change, Finding, Job

ENGINES = Path(__file__).with_name("engines")

RUFF_FAMILIES = ("F", "UP", "B", "C4", "SIM", "RET", "PIE", "PERF", "RSE", "FURB", "PTH", "RUF")
CUSTOM_RULES: dict[str, Engine] = {
    "percent-format": Script(ENGINES / "percent_format.py", needs="libcst"),
}
DEFAULT_RULES = RUFF_FAMILIES  # a custom rule is asked for by name: it may need a library


def engine_of(rule: str) -> Engine:
    """Every rule that is no custom one is ruff's."""
    return CUSTOM_RULES.get(rule) or Ruff()


def find(job: Job, rules: Sequence[str], paths: Sequence[str]) -> list[Finding]:
    """What all these rules would change in these files. Raises Unavailable."""
    of_ruff = [rule for rule in rules if rule not in CUSTOM_RULES]
    findings = Ruff().find(job, of_ruff, paths)
    for rule in rules:
        if rule in CUSTOM_RULES:
            findings += CUSTOM_RULES[rule].find(job, [rule], paths)
    return findings


def plan(findings: Sequence[Finding], rules: Sequence[str], limit: int | None = None) -> tuple[Change, ...]:
    """The changes in the order they are tried: rule by rule as they were asked for, file by file.

    Pure, and the same for the same findings. `limit` keeps the first so many.
    """
    order = {rule: position for position, rule in enumerate(rules)}
    ranked = sorted(findings, key=lambda finding: (order[finding.rule], finding.path))
    chosen = ranked if limit is None else ranked[:limit]
    return tuple(
        Change(number, finding.rule, finding.path, finding.places)
        for number, finding in enumerate(chosen, start=1)
    )
