"""Runs a codebase's tests and writes down what each did. A script: it runs in the codebase's own Python, not in ours.

    python suite.py REQUEST LIFELINE     # REQUEST: a JSON file; LIFELINE: the number of an inherited pipe

It knows nothing of holdfast and imports only the standard library, and pytest when the codebase uses it. When the
process that started it dies, the pipe ends, and this process ends itself and all that its tests have started: a killed
worker leaves no tests behind that run on a tree which its successor is about to repair.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
import unittest
from pathlib import Path
from typing import Any

MESSAGE_LIMIT = 2_000  # characters kept of one failure: its end says what went wrong
NO_TESTS_COLLECTED = 5  # pytest's exit code
NOT_THE_CODEBASE = {"test", "tests", "docs", "setup", "conftest"}  # names that other things have as well
PYTEST_STOPPED = {2: "interrupted", 3: "internal error", 4: "usage error"}


def end_with(lifeline: int) -> None:
    """Wait for the other end of the pipe to close, then kill this process group."""
    os.set_inheritable(lifeline, False)
    os.read(lifeline, 1)
    os.killpg(0, signal.SIGKILL)


class Outcomes:
    """What has been seen so far: one outcome a test, the worst of its phases."""

    def __init__(self, known: set[str], enough: int) -> None:
        self.known = known  # failures of the baseline
        self.enough = enough  # new failures after which the rest would tell nothing more
        self.ran: dict[str, int] = {}
        self.failures: dict[str, str] = {}
        self.passed = 0

    def passes(self, file: str) -> None:
        self.passed += 1
        self.ran[file] = self.ran.get(file, 0) + 1

    def fails(self, file: str, test: str, message: str) -> None:
        if test not in self.failures:
            self.failures[test] = message[-MESSAGE_LIMIT:]
            self.ran[file] = self.ran.get(file, 0) + 1

    @property
    def decided(self) -> bool:
        return len(self.failures.keys() - self.known) >= self.enough


def compile_problem(paths: list[str]) -> str | None:
    """The first file that this Python cannot compile, and why."""
    for path in paths:
        try:
            compile(Path(path).read_bytes(), path, "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:
            return f"{path} does not compile: {error}"
    return None


class Recorder:
    """The pytest plugin that fills the outcomes."""

    def __init__(self, outcomes: Outcomes) -> None:
        self.outcomes = outcomes
        self.session: Any = None

    def pytest_sessionstart(self, session: Any) -> None:
        self.session = session

    def pytest_runtest_logreport(self, report: Any) -> None:
        file = report.nodeid.split("::")[0]
        if report.failed:
            self.outcomes.fails(file, report.nodeid, message_of(report))
            self.session.shouldstop = "enough new failures" if self.outcomes.decided else False
        elif report.when == "call" and report.passed:
            self.outcomes.passes(file)

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.outcomes.fails(report.nodeid, report.nodeid or "collection", message_of(report))


def message_of(report: Any) -> str:
    """The line that names the error, not pytest's long form of it."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        return str(crash.message)
    text = str(report.longrepr)
    errors = [line[2:].strip() for line in text.splitlines() if line.startswith("E ")]
    return errors[-1] if errors else text


def run_pytest(files: list[str], outcomes: Outcomes) -> str | None:
    import pytest

    flags = ["-q", "-p", "no:cacheprovider", "--tb=short", "--no-header", "--rootdir", os.getcwd()]
    code = int(pytest.main([*flags, *files], plugins=[Recorder(outcomes)]))
    if code == NO_TESTS_COLLECTED:
        return "pytest collected no tests"
    if code in PYTEST_STOPPED and not outcomes.failures:
        return f"pytest stopped before any test ran: {PYTEST_STOPPED[code]}"
    return None


class Result(unittest.TestResult):
    """The unittest result that fills the outcomes."""

    def __init__(self, outcomes: Outcomes) -> None:
        super().__init__()
        self.outcomes = outcomes

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        if self.outcomes.decided:
            self.stop()

    def addSuccess(self, test: unittest.TestCase) -> None:
        self.outcomes.passes(file_of(test))

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        self.outcomes.fails(file_of(test), test.id(), "".join(traceback.format_exception(*err)).strip())

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        self.addFailure(test, err)

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        if err is not None:
            self.outcomes.fails(
                file_of(test), subtest.id(), "".join(traceback.format_exception(*err)).strip()
            )

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        self.outcomes.fails(file_of(test), test.id(), "unexpected success")


def file_of(test: unittest.TestCase) -> str:
    """The test's file as the index names it; a file that could not be imported goes by its dotted name."""
    module = sys.modules.get(type(test).__module__)
    source = getattr(module, "__file__", None)
    if source is None or type(test).__module__ == "unittest.loader":
        return test.id()
    return Path(os.path.relpath(source)).as_posix()


def dotted_name(file: str) -> str:
    """The name to import a test file by, with its root put on the module path."""
    path = Path(file)
    root = path.parent
    while root.name and (root / "__init__.py").exists():
        root = root.parent
    sys.path.insert(0, str(root.resolve()))
    return ".".join(path.relative_to(root).with_suffix("").parts)


def run_unittest(files: list[str], outcomes: Outcomes) -> str | None:
    tests = unittest.defaultTestLoader.loadTestsFromNames([dotted_name(file) for file in files])
    tests.run(Result(outcomes))
    return None if outcomes.ran else "unittest found no tests"


def run_tests(request: dict[str, Any], outcomes: Outcomes) -> tuple[str, str | None]:
    """Run with pytest if this Python has it and it collects something, else with unittest."""
    if request["runner"] != "unittest":
        try:
            problem = run_pytest(request["tests"], outcomes)
        except ImportError:
            problem = "pytest collected no tests"
        if problem != "pytest collected no tests" or request["runner"] == "pytest":
            return "pytest", problem
    return "unittest", run_unittest(request["tests"] or request["all_tests"], outcomes)


def imported_elsewhere(roots: list[str]) -> str | None:
    """Tests that import an installed copy say nothing about the tree: an editable install, or a missing `src`."""
    here = Path.cwd().resolve()
    for root in roots:
        for name in sorted(one.stem for one in Path(root).iterdir() if one.suffix == ".py" or has_init(one)):
            file = getattr(sys.modules.get(name), "__file__", None)
            if name not in NOT_THE_CODEBASE and file and not Path(file).resolve().is_relative_to(here):
                return f"the tests import {name} from {file}, not from the codebase"
    return None


def has_init(folder: Path) -> bool:
    return (folder / "__init__.py").exists()


def main() -> None:
    request = json.loads(Path(sys.argv[1]).read_text())
    threading.Thread(target=end_with, args=(int(sys.argv[2]),), daemon=True).start()
    # The tree comes before whatever is installed, as with `python -m pytest`; PYTHONPATH says it to subprocesses.
    sys.path[:1] = request["roots"]
    outcomes = Outcomes(set(request["known"]), request["enough"])
    began = time.monotonic()
    runner, problem = request["runner"], compile_problem(request["compile"])
    if problem is None:
        try:
            runner, problem = run_tests(request, outcomes)
        except BaseException:  # noqa: BLE001 - whatever a test suite does, it is answered
            problem = traceback.format_exc()[-MESSAGE_LIMIT:]
    problem = problem or imported_elsewhere(request["roots"])
    answer = {
        "runner": runner,
        "started": problem is None,
        "passed": outcomes.passed,
        "ran": outcomes.ran,
        "failures": outcomes.failures,
        "problem": problem,
        "cut_short": outcomes.decided,
        "seconds": round(time.monotonic() - began, 3),
    }
    sys.stdout.flush()
    Path(request["answer"]).write_text(json.dumps(answer))
    os._exit(0)  # a thread that a test left running must not keep us


if __name__ == "__main__":
    main()
