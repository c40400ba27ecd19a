"""What the agent does to the world: one function a step. Each notes its execution first, and may safely run again."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from examples.refactor import apply as applying
from examples.refactor import files, report, rules, verify
from examples.refactor import index as indexing
from examples.refactor.model import Applied, Change, Index, Job, Judged, Report, Summary, TestRun
from examples.stage import durable, executions
from holdfast import FatalError


def prepare(
    repo: str, workspace: str | None, python: str | None, tools: str | None, in_place: bool, run_id: str
) -> Job:
    """Decide where to work and with which programs, and copy the codebase there, unless it is to be changed itself."""
    source = Path(repo).expanduser().resolve()
    if not source.is_dir():
        raise FatalError(f"there is no codebase at {source}: `repo` must be a directory")
    folder = Path(workspace).expanduser().resolve() if workspace else beside(source, run_id)
    if folder.is_relative_to(source):
        raise FatalError(f"the workspace {folder} lies inside the codebase {source}; choose one outside it")
    take_possession(folder, run_id)
    job = Job(
        repo=str(source),
        folder=str(folder),
        tree=str(source if in_place else folder / "tree"),
        python=python or own_python(source),
        tools=tools or sys.executable,
    )
    executions.note(job.execution_log, "prepare")
    if not in_place:
        files.copy_tree(source, Path(job.tree))
    return job


def take_possession(folder: Path, run_id: str) -> None:
    """A workspace belongs to one run: what another left in it would be taken for this one's own half-done work."""
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / "run"
    owner = mark.read_text() if mark.exists() else run_id
    strangers = (
        [] if mark.exists() else [one for one in folder.iterdir() if not one.name.endswith(durable.TEMPORARY)]
    )
    if owner != run_id or strangers:
        whose = f"belongs to the run {owner}" if owner != run_id else "is not empty"
        raise FatalError(f"the workspace {folder} {whose}; name another, or remove it")
    durable.write(mark, run_id.encode())
    durable.sync(folder.parent)


def beside(source: Path, run_id: str) -> Path:
    return source.with_name(f"{source.name}.refactored-{run_id}")


def own_python(source: Path) -> str:
    """The codebase's own environment if it has one, else the Python that runs this."""
    own = source / ".venv" / "bin" / "python"
    return str(own) if own.exists() else sys.executable


def index(job: Job) -> Index:
    """Read the codebase: every file's hash, and who imports whom."""
    executions.note(job.execution_log, "index")
    tree = Path(job.tree)
    hashes = files.hash_tree(tree)
    texts = {path: (tree / path).read_text(errors="replace") for path in hashes if path.endswith(".py")}
    if not texts:
        raise FatalError(f"{job.repo} has no Python files")
    return indexing.build(hashes, texts)


def baseline(job: Job, tests: tuple[str, ...]) -> TestRun:
    """Run the whole suite on the untouched tree: what fails now is nobody's fault later."""
    executions.note(job.execution_log, "baseline")
    run = verify.run_tests(job, all_tests=tests)
    if not run.started or not run.ran:
        raise FatalError(
            f"the tests of {job.repo} do not run, so no change could be judged: {run.problem or 'none were found'}. "
            f"They ran in {job.python}; `python` names another."
        )
    return run


def plan(job: Job, scope: tuple[str, ...], wanted: list[str], limit: int | None) -> tuple[Change, ...]:
    """Ask the engines what the rules would change."""
    executions.note(job.execution_log, "plan")
    return rules.plan(rules.find(job, wanted, scope), wanted, limit)


def apply(job: Job, change: Change) -> Applied:
    """Put one change into the tree."""
    executions.note(job.execution_log, "apply", change.key)
    return applying.apply(job, change, rules.engine_of(change.rule))


def check(job: Job, change: Change, tests: tuple[str, ...], base: TestRun) -> TestRun:
    """Compile the changed file and run the tests that matter to it."""
    executions.note(job.execution_log, "verify", change.key)
    return verify.run_tests(
        job, tests=tests, all_tests=tuple(base.ran), compile_first=[change.path], baseline=base
    )


def undo(job: Job, change: Change) -> str:
    """Take one change out of the tree again, byte for byte."""
    executions.note(job.execution_log, "undo", change.key)
    return applying.undo(job, change)


def full_tests(job: Job, base: TestRun) -> TestRun:
    """Run the whole suite on the tree with every kept change in it."""
    executions.note(job.execution_log, "full tests")
    return verify.run_tests(job, all_tests=tuple(base.ran), baseline=base)


def write_report(job: Job, found: Index, base: TestRun, final: TestRun, judged: list[Judged]) -> Summary:
    """Compare the tree with the record; write the page, and `report.json` for programs."""
    executions.note(job.execution_log, "report")
    record = report.record(found.files, judged)
    result = Report(
        job=job,
        baseline=base,
        final=final,
        verdict=verify.judge(base, final),
        judged=tuple(judged),
        files=record,
        differences=report.differences(record, files.hash_tree(Path(job.tree))),
    )
    durable.write(job.report, msgspec.json.encode(result))
    durable.write(job.page, report.page(result, report.diffs(job, judged)).encode())
    return report.summary(result)
