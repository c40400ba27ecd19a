"""The verdict: no failure that the baseline lacks. And running tests, with pytest and with unittest."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from examples.refactor import verify
from examples.refactor.model import Applied, Job, TestRun
from examples.refactor.verify import fate_of, judge, last_line, run_tests

BASE = TestRun("pytest", True, 3, {"t.py": 3, "u.py": 1}, {"t.py::old": "always failed"}, None, 2.0)
SAME = Applied("a", "a", 0, 0)
EDITED = Applied("a", "b", 1, 1)


def test_a_known_failure_is_nobodys_fault() -> None:
    assert judge(BASE, BASE).keep


def test_a_new_failure_is_named_with_its_message() -> None:
    verdict = judge(BASE, replace(BASE, failures={**BASE.failures, "t.py::new": "boom\nat length"}))
    assert not verdict.keep
    assert verdict.reason == "1 new failure, t.py::new: boom"
    assert verdict.new_failures == {"t.py::new": "boom\nat length"}


def test_a_failure_that_went_away_is_welcome() -> None:
    assert judge(BASE, replace(BASE, passed=4, failures={})).keep


def test_tests_that_vanish_are_a_reason_to_roll_back() -> None:
    assert judge(BASE, replace(BASE, ran={"t.py": 1, "u.py": 1})).reason == (
        "2 tests that ran in the baseline no longer run"
    )
    assert not judge(BASE, replace(BASE, ran={"t.py": 3})).keep


def test_only_the_tests_that_were_asked_for_are_missed() -> None:
    assert judge(BASE, replace(BASE, ran={"u.py": 1}), ["u.py"]).keep


def test_tests_that_do_not_start_are_a_reason_to_roll_back() -> None:
    problem = "Traceback (most recent call last):\n  File …\nImportError: no Markup"
    assert (
        judge(BASE, replace(BASE, problem=problem)).reason == "the tests do not run: ImportError: no Markup"
    )


def test_the_fate_of_a_change() -> None:
    assert fate_of(replace(SAME, refused="why"), None) == ("refused", "why")
    assert fate_of(SAME, None)[0] == "unchanged"
    assert fate_of(EDITED, judge(BASE, BASE))[0] == "kept"
    assert fate_of(EDITED, judge(BASE, replace(BASE, problem="x")))[0] == "rolled back"


def test_the_line_that_says_most_is_never_empty() -> None:
    assert last_line("") == "no message"
    assert last_line("AssertionError: assert 1 == 2\n + where …") == "AssertionError: assert 1 == 2"


def test_pytest_tells_each_outcome(job: Job) -> None:
    run = run_tests(job)
    assert (run.runner, run.started, run.passed, run.problem) == ("pytest", True, 3, None)
    assert run.ran == {"tests/test_cart.py": 2, "tests/test_prices.py": 2}
    assert list(run.failures) == ["tests/test_prices.py::test_that_always_failed"]


def test_unittest_tells_each_outcome(unittest_job: Job) -> None:
    run = run_tests(unittest_job, all_tests=["tests/test_cart.py"], runner="unittest")
    assert (run.runner, run.started, run.passed, run.problem) == ("unittest", True, 2, None)
    assert run.ran == {"tests/test_cart.py": 3}
    assert list(run.failures) == ["tests.test_cart.CartTest.test_that_always_failed"]


def test_unittest_files_that_cannot_be_imported_are_failures(unittest_job: Job) -> None:
    base = run_tests(unittest_job, all_tests=["tests/test_cart.py"], runner="unittest")
    Path(unittest_job.tree, "shop/cart.py").write_text("import nowhere\n")
    run = run_tests(unittest_job, all_tests=["tests/test_cart.py"], baseline=base)
    assert not judge(base, run).keep
    assert "nowhere" in judge(base, run).reason


def test_pytest_that_cannot_start_says_why(job: Job) -> None:
    base = run_tests(job)
    Path(job.tree, "tests/conftest.py").write_text("import nowhere\n")
    reason = judge(base, run_tests(job, baseline=base)).reason
    assert reason == "the tests do not run: ModuleNotFoundError: No module named 'nowhere'"


def test_a_file_that_does_not_compile_is_found_before_any_test_runs(job: Job) -> None:
    Path(job.tree, "shop/cart.py").write_text("def broken(:\n")
    run = run_tests(job, compile_first=["shop/cart.py"])
    assert run.problem is not None and run.problem.startswith("shop/cart.py does not compile")
    assert run.ran == {}


def test_a_test_process_that_dies_is_a_problem_and_no_error(job: Job) -> None:
    Path(job.tree, "shop/prices.py").write_text("import os\nos.abort()\n")
    problem = run_tests(job).problem
    assert problem is not None and "ended with -6" in problem


def test_tests_that_hang_are_ended(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    base = run_tests(job)
    monkeypatch.setattr(verify, "SLOWEST_FLOOR_S", 0.5)
    Path(job.tree, "shop/prices.py").write_text("while True: pass\n")
    run = run_tests(job, baseline=replace(base, seconds=0.0))
    assert run.problem == "still running after 0 s" or run.problem == "still running after 1 s"


def test_a_clear_verdict_is_not_waited_for(job: Job) -> None:
    many = "\n".join(f"def test_{n}():\n    assert False\n" for n in range(50))
    Path(job.tree, "tests/test_many.py").write_text(many)
    run = run_tests(job, tests=["tests/test_many.py"], baseline=BASE)
    assert run.cut_short and len(run.failures) == verify.ENOUGH
    assert judge(BASE, run).reason.startswith("at least 10 new failures")


def test_running_tests_leaves_nothing_in_the_tree(job: Job) -> None:
    before = sorted(Path(job.tree).rglob("*"))
    run_tests(job)
    assert sorted(Path(job.tree).rglob("*")) == before


ORPHANED = """
from examples.refactor import verify
from examples.refactor.model import Job
verify.run_tests(Job(repo={tree!r}, folder={tree!r}, tree={tree!r}, python={python!r}, tools=""))
"""


def test_tests_die_with_the_worker_that_started_them(job: Job, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    Path(job.tree, "tests/test_prices.py").write_text(
        f"import os, subprocess, time\nchild = subprocess.Popen(['sleep', '60'])\n"
        f"open({str(pid_file)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}\\n')\ntime.sleep(60)\n"
    )
    script = ORPHANED.format(tree=job.tree, python=sys.executable)
    worker = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parents[2])
    pids = [int(pid) for pid in wait_for_line(pid_file).split()]
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=10)
    assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]


def wait_for_line(path: Path) -> str:
    """Poll for a line that another process writes."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if path.exists() and path.read_text().endswith("\n"):
            return path.read_text()
        time.sleep(0.02)
    raise AssertionError(f"{path} was not written")


def test_the_tree_is_tested_and_not_a_copy_that_is_installed(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "site"
    shutil.copytree(Path(job.tree, "shop"), installed / "shop")
    (installed / "shop" / "prices.py").write_text("def price_of(name):\n    return 0\n")
    monkeypatch.setenv("PYTHONPATH", str(installed))
    assert run_tests(job).passed == 3
    source = Path(job.tree, "src")
    source.mkdir()
    Path(job.tree, "shop").rename(source / "shop")
    assert run_tests(job).passed == 3


def test_tests_that_import_something_else_than_the_tree_judge_nothing(job: Job, tmp_path: Path) -> None:
    installed = tmp_path / "site"
    shutil.copytree(Path(job.tree, "shop"), installed / "shop")
    Path(job.tree, "tests/conftest.py").write_text(
        f"import pytest, sys\nsys.path.insert(0, {str(installed)!r})\n\n\n"
        "@pytest.fixture\ndef names():\n    return ['apple', 'pear']\n"
    )
    problem = run_tests(job).problem
    assert problem is not None and problem.startswith("the tests import shop from ")
