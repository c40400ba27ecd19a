"""`workers` beside real workers: what is listed, and how one is drained from anywhere."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.shell import Shell, finish


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture
def pair(shell: Shell) -> Iterator[list[subprocess.Popen[str]]]:
    """Two workers of one name, and a run that one of them holds."""
    shell(
        "start",
        "agents.py:count",
        "--id",
        "long",
        "--input",
        '{"path": "notes", "total": 100000, "pause_s": 0.2}',
    )
    both = [shell.begin("worker", "agents.py", "--name", "twin") for _ in range(2)]
    listed_when(shell, lambda rows: len(rows) == 2 and sum(row["runs"] for row in rows) == 1)
    yield both
    for process in both:
        if process.stdout is not None and not process.stdout.closed:
            finish(process, signal.SIGKILL)


def listed_when(shell: Shell, wanted: Any, within_s: float = 30.0) -> list[dict[str, Any]]:
    ends_at = time.monotonic() + within_s
    while time.monotonic() < ends_at:
        listed = shell("workers", "--json", code=None)  # there may be no store yet
        if listed.code == 0 and wanted(listed.json):
            rows: list[dict[str, Any]] = listed.json
            return rows
    raise AssertionError(f"never listed so: {listed.out}{listed.err}")


def test_workers_of_one_name_are_told_apart_and_one_is_drained_from_anywhere(
    shell: Shell, pair: list[subprocess.Popen[str]]
) -> None:
    rows = shell("workers", "--json").json
    assert [row["name"] for row in rows] == ["twin", "twin"]
    assert {row["pid"] for row in rows} == {process.pid for process in pair}
    (holder,) = [row for row in rows if row["runs"]]
    page = shell("workers").out
    assert "1 of 10" in page and "0 of 10" in page and "serving" in page and "count (0)" in page

    refused = shell("workers", "drain", "twin", code=2)
    assert "2 workers are named 'twin'" in refused.err
    assert f"{holder['number']} (pid {holder['pid']} on " in refused.err

    drained = shell("workers", "drain", str(holder["number"]), "--wait", "--timeout", "30s")
    assert f"twin ({holder['number']}, pid {holder['pid']}" in drained.out and "holds 1 run" in drained.out
    (ended,) = [process for process in pair if process.pid == holder["pid"]]
    last_words = finish(ended)
    assert last_words.code == 0 and "is asked to drain" in last_words.err

    view = shell.until("long", lambda run: run["state"] == "running")
    assert view["attempts"] == 2 and view["failures"] == 0
    (other,) = shell("workers", "--json").json
    assert (other["runs"], other["standing"]) == (1, "serving")

    everybody = shell("workers", "drain", "--all", "--wait", "--json")
    assert everybody.json == []
    (left,) = [process for process in pair if process is not ended]
    assert finish(left).code == 0
    assert shell("show", "long", "--json").json["state"] == "queued"
    nobody = shell("workers")
    assert nobody.out == "" and "no workers" in nobody.err


def test_a_worker_that_is_not_there_is_named_with_what_is_near(
    shell: Shell, pair: list[subprocess.Popen[str]]
) -> None:
    assert "did you mean 'twin'?" in shell("workers", "drain", "twinn", code=5).err
    assert "name the workers" in shell("workers", "drain", code=2).err
    assert "name the workers" in shell("workers", "drain", "twin", "--all", code=2).err
    assert "add it" in shell("workers", "drain", "--all", "--timeout", "1s", code=2).err
    assert "did you mean 'drain'?" in shell("workers", "drian", code=2).err
    assert all(row["standing"] == "serving" for row in shell("workers", "--json").json)


def test_a_run_that_asks_for_a_label_that_no_worker_has_says_so_and_goes_to_the_first_that_has(
    shell: Shell,
) -> None:
    shell("start", "agents.py:hello", "--id", "asks", "--needs", "gpu,eu")
    nobody = shell("show", "asks").out
    assert "--labels eu,gpu" in nobody
    with_gpu = shell.begin("worker", "agents.py", "--name", "g", "--labels", "gpu")
    both = None
    try:
        listed_when(shell, lambda rows: [row["labels"] for row in rows] == [["gpu"]])
        page = shell("show", "asks").out
        assert "asks for a worker with eu,gpu: none that serves 'hello' has eu" in page
        assert "LABELS" in (table := shell("workers").out) and "gpu" in table
        both = shell.begin("worker", "agents.py", "--labels", "gpu,eu", "--until-idle")
        assert shell.until("asks", lambda run: run["state"] == "succeeded")
    finally:
        finish(with_gpu, signal.SIGKILL)
        if both is not None:
            assert finish(both).code == 0
    assert "'a b' is no label" in shell("worker", "agents.py", "--labels", "a b", code=2).err
    assert "'a b' is no label" in shell("start", "agents.py:hello", "--needs", "a b", code=2).err


def test_waiting_for_a_worker_that_does_not_end_ends_at_its_time_and_says_what_is_left(shell: Shell) -> None:
    process = shell.begin("worker", "agents.py", "--name", "frozen")
    try:
        listed_when(shell, lambda rows: len(rows) == 1)
        process.send_signal(signal.SIGSTOP)  # idle: it is in no transaction
        late = shell("workers", "drain", "frozen", "--wait", "--timeout", "0.5s", code=1)
        assert "still there after 0.5s: frozen (0 runs)" in late.err
        assert shell("workers", "--json").json[0]["standing"] == "draining"
    finally:
        process.send_signal(signal.SIGCONT)
    assert finish(process).code == 0  # it hears of it when it goes on
