"""Does a change let the tests stand? Running them is an effect; the verdict a rule: no failure the baseline lacks."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from examples.refactor.model import Applied, Fate, Job, TestRun, Verdict

SUITE = Path(__file__).with_name("suite.py")
NEVER = 1_000_000_000
ENOUGH = 10  # new failures after which a verdict is reached: a broken import fails hundreds alike
SLOWEST = 10.0  # times the baseline: a change that makes the tests hang is not waited for
SLOWEST_FLOOR_S = 60.0
BASELINE_LIMIT_S = 3600.0


def time_limit_s(baseline: TestRun) -> float:
    """How long the tests may take before a change counts as one that made them hang."""
    return max(SLOWEST_FLOOR_S, SLOWEST * baseline.seconds)


def judge(baseline: TestRun, run: TestRun, tests: Sequence[str] = ()) -> Verdict:
    """Keep, unless the tests did not start, show a failure that the baseline lacks, or no longer all run.

    `tests` are the files that were asked for; none means the whole suite.
    """
    if run.problem is not None:
        return Verdict(False, f"the tests do not run: {last_line(run.problem)}", {})
    new = {test: message for test, message in run.failures.items() if test not in baseline.failures}
    if new:
        return Verdict(False, failures_in_words(new, run.cut_short), new)
    expected = {file: count for file, count in baseline.ran.items() if not tests or file in tests}
    gone = sum(max(0, count - run.ran.get(file, 0)) for file, count in expected.items())
    if gone:
        return Verdict(False, f"{gone} tests that ran in the baseline no longer run", {})
    return Verdict(True, "no failure that the baseline lacks", {})


def failures_in_words(new: dict[str, str], cut_short: bool) -> str:
    test, message = next(iter(new.items()))
    first = f"{test}: {last_line(message)}"
    if len(new) == 1:
        return f"1 new failure, {first}"
    return f"{'at least ' if cut_short else ''}{len(new)} new failures, the first {first}"


def last_line(message: str) -> str:
    """The line of a message that says most: a traceback's last one, pytest's first."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    if not lines:
        return "no message"
    return (lines[-1] if lines[0].startswith("Traceback") else lines[0])[:300]


def fate_of(applied: Applied, verdict: Verdict | None) -> tuple[Fate, str]:
    """What becomes of a change, and why."""
    if applied.refused is not None:
        return "refused", applied.refused
    if verdict is None:
        return "unchanged", "nothing was left to change"
    return ("kept" if verdict.keep else "rolled back"), verdict.reason


def run_tests(
    job: Job,
    *,
    tests: Sequence[str] = (),
    all_tests: Sequence[str] = (),
    compile_first: Sequence[str] = (),
    baseline: TestRun | None = None,
    runner: str = "auto",
) -> TestRun:
    """Run these test files, or the whole suite, in the codebase's own Python. Changes nothing in the tree.

    With a baseline, the run ends as soon as the verdict is clear, and when it takes far longer than the baseline did.
    """
    with tempfile.TemporaryDirectory(prefix="refactor-") as scratch:
        answer = Path(scratch, "answer.json")
        request = Path(scratch, "request.json")
        wanted = {
            "tests": list(tests),
            "all_tests": list(all_tests),
            "compile": list(compile_first),
            "roots": module_roots(job),
        }
        known = (
            {"known": list(baseline.failures), "enough": ENOUGH}
            if baseline
            else {"known": [], "enough": NEVER}
        )
        runner = baseline.runner if baseline else runner
        request.write_text(json.dumps({**wanted, **known, "answer": str(answer), "runner": runner}))
        limit_s = time_limit_s(baseline) if baseline else BASELINE_LIMIT_S
        ended = run_suite(job, request, Path(scratch, "output.txt"), limit_s)
        if ended is None and answer.exists():
            run = TestRun(**json.loads(within(job, answer)))
            return replace(run, problem=explained(run.problem, within(job, Path(scratch, "output.txt"))))
    problem = ended or "the test process ended without an answer"
    return TestRun(runner=runner, started=False, passed=0, ran={}, failures={}, problem=problem)


def module_roots(job: Job) -> list[str]:
    """The folders that the codebase's modules are imported from: the tree, or `src` or `lib` in it."""
    tree = Path(job.tree)
    inner = [tree / name for name in ("src", "lib")]
    return [str(root) for root in (*inner, tree) if root.is_dir() and not (root / "__init__.py").exists()]


def environment(job: Job) -> dict[str, str]:
    """The tests' environment: the tree before anything installed, nothing written beside it, hashes that repeat."""
    path = os.pathsep.join([*module_roots(job), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}


def within(job: Job, path: Path) -> str:
    """A file's text with the paths in the tree made relative to it, as the index has them."""
    return path.read_text(errors="replace").replace(f"{job.tree}/", "")


def explained(problem: str | None, output: str) -> str | None:
    """A problem, or the error that pytest printed when it stopped before any test could carry it."""
    if problem is None or not problem.startswith("pytest stopped"):
        return problem
    errors = [line.removeprefix("E ").strip() for line in output.splitlines() if line.startswith("E ")]
    return errors[-1] if errors else "\n".join([problem, *output.strip().splitlines()[-10:]])


def run_suite(job: Job, request: Path, output: Path, limit_s: float) -> str | None:
    """Run the suite script to its end or to the limit; what went wrong, if its process did."""
    lifeline, held = os.pipe()
    try:
        with output.open("wb") as sink:
            process = subprocess.Popen(
                [job.python, "-B", str(SUITE), str(request), str(lifeline)],
                cwd=job.tree,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=environment(job),
                pass_fds=(lifeline,),
                start_new_session=True,
            )
        os.close(lifeline)
        lifeline = -1
        try:
            process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return f"still running after {limit_s:.0f} s"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    finally:
        os.close(held)
        if lifeline != -1:
            os.close(lifeline)
    tail = output.read_text(errors="replace")[-2_000:]
    return f"the test process ended with {process.returncode}: {tail}" if process.returncode else None
