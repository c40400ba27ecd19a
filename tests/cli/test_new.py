"""A new project works as its README says."""

from __future__ import annotations

import subprocess
import sys

from tests.cli.shell import Shell


def test_a_new_project_runs_and_its_test_passes(shell: Shell) -> None:
    made = shell("new", "my kelp", "--json").json
    assert made == {"folder": "my kelp", "files": ["agents.py", "test_agents.py", "README.md", ".gitignore"]}
    project = Shell.__new__(Shell)
    project.folder, project.environ = shell.folder / "my kelp", shell.environ
    assert "my kelp" in (project.folder / "README.md").read_text()
    ended = project("run", "agents.py:digest", "--input", '{"folder": "."}', "--id", "first")
    assert "holdfast" in ended.json
    command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio")
    tried = subprocess.run(command, cwd=project.folder, capture_output=True, text=True, check=False)
    assert tried.returncode == 0 and "1 passed" in tried.stdout, tried.stdout + tried.stderr
    assert "fits" in project("check", "agents.py", "--replay", "first").out


def test_a_new_project_writes_over_nothing(shell: Shell) -> None:
    shell("new", "kelp")
    (shell.folder / "kelp" / "agents.py").write_text("mine")
    assert "has agents.py" in shell("new", "kelp", code=6).err
    assert (shell.folder / "kelp" / "agents.py").read_text() == "mine"
    assert "cannot be made" in shell("new", "agents.py/kelp", code=2).err
