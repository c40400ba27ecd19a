"""The nouns of the job: frozen values that steps take, return and leave in the journal."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Fate = Literal["kept", "rolled back", "unchanged", "refused"]


@dataclass(frozen=True, slots=True)
class Job:
    """Where one run works, and with which programs.

    `folder` belongs to this run alone: the copy of the codebase, the bytes to put back, the report.
    `tree` is the directory that is changed: the copy, or the codebase itself when it was asked for.
    """

    repo: str
    folder: str
    tree: str
    python: str  # runs the tests
    tools: str  # runs the engines

    @property
    def in_place(self) -> bool:
        return self.tree == self.repo

    @property
    def execution_log(self) -> Path:
        return Path(self.folder) / "executions.jsonl"

    @property
    def page(self) -> Path:
        return Path(self.folder) / "report.html"

    @property
    def report(self) -> Path:
        return Path(self.folder) / "report.json"

    @property
    def changes(self) -> Path:
        """One folder a change: the bytes before and after, kept for the undo and for the report."""
        return Path(self.folder) / "changes"


@dataclass(frozen=True, slots=True)
class Index:
    """What the codebase is made of. Paths are relative to the tree, with forward slashes."""

    files: dict[str, str]  # every file → sha256 of its bytes
    sources: tuple[str, ...]  # Python files that are not tests
    tests: tuple[str, ...]
    importers: dict[str, tuple[str, ...]]  # Python file → the files that import it


@dataclass(frozen=True, slots=True)
class TestRun:
    """What a run of the tests showed: enough to judge, small enough for the journal."""

    __test__ = False  # pytest collects names that begin with "Test"

    runner: str
    started: bool
    passed: int
    ran: dict[str, int]  # test file → how many of its tests ran
    failures: dict[str, str]  # test id → message
    problem: str | None  # why it did not start, did not compile or did not end
    seconds: float = 0.0
    cut_short: bool = False  # the verdict was clear before the end


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that would change a file, and at how many places."""

    rule: str
    path: str
    places: int


@dataclass(frozen=True, slots=True)
class Change:
    """One rule on one file: the unit that is applied, judged, and kept or put back."""

    number: int
    rule: str
    path: str
    places: int

    @property
    def key(self) -> str:
        return f"{self.rule}:{self.path}"


@dataclass(frozen=True, slots=True)
class Applied:
    """What applying a change did to its file. Equal hashes: there was nothing to do."""

    before: str
    after: str
    lines_added: int
    lines_removed: int
    refused: str | None = None  # the engine's own words

    @property
    def changed(self) -> bool:
        return self.before != self.after


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the tests let a change stay, and if not, why."""

    keep: bool
    reason: str
    new_failures: dict[str, str]


@dataclass(frozen=True, slots=True)
class Judged:
    """A change after its verdict: one row of the report."""

    change: Change
    fate: Fate
    reason: str
    applied: Applied
    new_failures: dict[str, str]
    tests_run: int
    seconds: float


@dataclass(slots=True)
class Refactoring:
    """The agent's state: what has been decided so far. Every resume continues from it."""

    judged: list[Judged] = field(default_factory=list)

    @property
    def done(self) -> int:
        return len(self.judged)


@dataclass(frozen=True, slots=True)
class Report:
    """All that is known at the end: the page is made of it, and `report.json` in the job's folder holds it."""

    job: Job
    baseline: TestRun
    final: TestRun
    verdict: Verdict  # of the whole suite, at the end, against the baseline
    judged: tuple[Judged, ...]
    files: dict[str, str]  # the record: every file → the sha256 it must have now
    differences: tuple[str, ...]  # where the tree was found not to equal the record

    def count(self, fate: Fate) -> int:
        return sum(1 for judged in self.judged if judged.fate == fate)


@dataclass(frozen=True, slots=True)
class Summary:
    """The agent's result: what a person wants to know first, and where the rest is."""

    verdict: str
    sound: bool  # the whole suite stands, and the tree equals the record
    kept: int
    rolled_back: tuple[str, ...]  # rule, path and reason of each
    unchanged: int
    tests_passed: int
    tree: str
    report: str
