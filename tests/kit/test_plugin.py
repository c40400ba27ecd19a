"""The pytest plugin, in a pytest of its own: it is there, it is light, and it does one crash again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = """
import holdfast
from holdfast.testing import assert_survives_crashes


async def act(word: str) -> str:
    return word.upper()


@holdfast.agent
async def careful(ctx: holdfast.Context, words: list[str]) -> list[str]:
    return await ctx.map(act, words)


@holdfast.agent
async def fickle(ctx: holdfast.Context) -> str:
    await ctx.step(act, "x", name=f"attempt {ctx.attempt}")
    return await ctx.step(act, "y")


def test_careful():
    assert assert_survives_crashes(careful, ["a", "b"]) == ["A", "B"]


def test_fickle(crash_test):
    crash_test(fickle)


def test_store(holdfast_store):
    assert holdfast.run(careful, ["a"], id="mine") == ["A"]
    assert holdfast.run(careful, ["a"], id="mine", store=holdfast_store) == ["A"]
"""


def pytest_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {
        key: value for key, value in os.environ.items() if not key.startswith(("HOLDFAST_", "PYTEST_"))
    }
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=folder, env=environ, capture_output=True, text=True, timeout=55,
    )  # fmt: skip


def test_a_test_fails_with_the_plan_that_repeats_just_its_crash(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(TESTS)
    all_of_it = pytest_in(tmp_path)
    assert "1 failed, 2 passed" in all_of_it.stdout, all_of_it.stdout + all_of_it.stderr
    assert "pytest --crash-plan '1+' 'test_mine.py::test_fickle'" in all_of_it.stdout
    assert "holdfast/testing" not in all_of_it.stdout  # the user's frames alone
    again = pytest_in(tmp_path, "--crash-plan", "1+", "test_mine.py::test_fickle")
    assert "1 failed" in again.stdout
    other = pytest_in(tmp_path, "--crash-plan", "1-", "test_mine.py::test_fickle")
    assert "1 passed" in other.stdout


def test_the_plugin_loads_nothing_of_holdfast_at_the_start_of_pytest(tmp_path: Path) -> None:
    (tmp_path / "test_light.py").write_text(
        "import sys\n\ndef test_light():\n"
        "    loaded = sorted(name for name in sys.modules if name.startswith('holdfast'))\n"
        "    assert loaded == ['holdfast', 'holdfast.testing', 'holdfast.testing.pytest_plugin']\n"
        "    assert not {'apsw', 'msgspec', 'click'} & set(sys.modules)\n"
    )
    done = pytest_in(tmp_path)
    assert "1 passed" in done.stdout, done.stdout


def test_the_fixtures_and_the_option_are_listed_with_what_they_are_for(tmp_path: Path) -> None:
    fixtures = pytest_in(tmp_path, "--fixtures").stdout
    assert "holdfast_store -- " in fixtures
    assert "crash_test -- " in fixtures
