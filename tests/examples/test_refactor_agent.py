"""The whole agent on small codebases: as a user runs it, with each kind of suite, and killed on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from examples.refactor import files, proof, terminal
from examples.refactor.demo import AGENT
from examples.refactor.model import Report
from examples.refactor.replay import undisturbed
from examples.stage import executions
from examples.stage.shell import Shell

RULES = ["C4", "SIM", "RET", "percent-format"]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path / "holdfast.db", AGENT)


def arguments(root: Path, workspace: Path, **more: object) -> dict[str, object]:
    return {"repo": str(root), "workspace": str(workspace), "rules": RULES, **more}


def run_agent(shell: Shell, given: dict[str, object]) -> Report:
    shell.say("run", AGENT, "--id", "r", "--input", json.dumps(given), "--json")
    return terminal.load(Path(str(given["workspace"]), "report.json"))


def fates(report: Report) -> dict[str, str]:
    return {row.change.key: row.fate for row in report.judged}


EXPECTED = {
    "C4:shop/cart.py": "rolled back",  # all([…]) validates every form, all(…) stops at the first bad one
    "C4:shop/prices.py": "kept",
    "SIM:shop/prices.py": "kept",
    "RET:shop/cart.py": "kept",
    "RET:shop/prices.py": "kept",
    "percent-format:shop/unused.py": "kept",
}


def test_a_change_that_breaks_a_test_is_rolled_back_byte_for_byte(
    shell: Shell, project: Path, tmp_path: Path
) -> None:
    original = files.hash_tree(project)
    report = run_agent(shell, arguments(project, tmp_path / "job"))
    assert fates(report) == EXPECTED
    broken = report.judged[0]
    assert "test_every_form_is_validated" in broken.reason
    cart = next(row for row in report.judged if row.change.key == "RET:shop/cart.py")
    assert cart.applied.before == original["shop/cart.py"] == broken.applied.before
    assert files.hash_tree(Path(report.job.tree)) == report.files
    assert report.differences == () and report.verdict.keep
    assert files.hash_tree(project) == original
    assert (tmp_path / "job" / "report.html").read_text().startswith("<!doctype html>")


def test_a_unittest_suite_judges_as_well(shell: Shell, unittest_project: Path, tmp_path: Path) -> None:
    bare = tmp_path / "without-pytest"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')  # a Python without any package
    bare.chmod(0o755)
    report = run_agent(shell, arguments(unittest_project, tmp_path / "job", python=str(bare)))
    assert report.baseline.runner == "unittest"
    assert fates(report) == EXPECTED
    assert "test_every_form_is_validated" in report.judged[0].reason


def test_in_place_changes_the_codebase_itself(shell: Shell, project: Path, tmp_path: Path) -> None:
    report = run_agent(shell, arguments(project, tmp_path / "job", in_place=True, limit=2))
    assert report.job.tree == str(project) and not (tmp_path / "job" / "tree").exists()
    assert files.hash_tree(project) == report.files
    assert report.count("kept") == 1


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"repo": "nowhere"}, "there is no codebase at"),
        ({"python": "/bin/false"}, "do not run"),
        ({"workspace": "inside"}, "inside the codebase"),
        ({"rules": ["NOPE"]}, "NOPE"),
    ],
)
def test_bad_input_fails_the_run_with_a_reason(
    shell: Shell, project: Path, tmp_path: Path, given: dict[str, object], says: str
) -> None:
    if given.get("workspace"):
        given = {"workspace": str(project / "inside")}
    wanted = {**arguments(project, tmp_path / "job"), **given}
    ran = subprocess.run(
        shell.command("run", AGENT, "--id", "r", "--input", json.dumps(wanted), "--json"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    shown = shell.show("r")
    assert shown["state"] == "failed" and says in json.dumps(shown["error"]), shown["error"]


def kill_in(shell: Shell, log: Path, step: str, tmp_path: Path) -> None:
    """Start a worker and SIGKILL it as soon as it enters the next step of this name."""
    before = len(executions.read(log))
    worker = shell.worker(tmp_path / "workers.log")
    end = time.monotonic() + 60
    while not any(one.step == step for one in executions.read(log)[before:]):
        assert worker.poll() is None and time.monotonic() < end, (tmp_path / "workers.log").read_text()
        time.sleep(0.002)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()


@pytest.mark.timeout(180)  # a dozen processes, each started and killed
def test_a_worker_killed_in_every_step_ends_with_the_tree_of_one_that_was_not(
    shell: Shell, project: Path, tmp_path: Path
) -> None:
    log = tmp_path / "job" / "executions.jsonl"
    shell.start("r", arguments(project, tmp_path / "job", rules=["C4", "RET"]))
    steps = ["prepare", "index", "baseline", "plan", "apply", "verify", "undo", "full tests", "report"]
    for step in steps:
        kill_in(shell, log, step, tmp_path)
    shell.worker(tmp_path / "workers.log").wait(60)

    shown = shell.show("r")
    assert shown["state"] == "succeeded", (tmp_path / "workers.log").read_text()
    report = terminal.load(tmp_path / "job" / "report.json")
    assert fates(report) == {key: fate for key, fate in EXPECTED.items() if key[:2] in ("C4", "RE")}
    assert report.files == files.hash_tree(tmp_path / "job" / "tree") == undisturbed(report, tmp_path)

    entered = executions.read(log)
    outcomes = [(step["name"], step["key"]) for step in shell.steps("r")]
    assert len(outcomes) == len(set(outcomes)) == shown["steps"]
    assert len(entered) - len(outcomes) <= len(steps) * proof.IN_FLIGHT
