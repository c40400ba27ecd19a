"""The files for containers are sound, and what they start works: the same commands and variables, outside of one."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.cli.shell import Shell, finish
from tests.postgres.server import Databases

DEPLOY = Path(__file__).parents[2] / "deploy"
BIN = Path(sys.executable).parent


def services() -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe").load(DEPLOY / "compose.yaml")["services"]
    return found


def ours() -> dict[str, Any]:
    return {name: one for name, one in services().items() if one["image"] == "holdfast"}


@pytest.fixture
def shell(tmp_path: Path, databases: Databases) -> Iterator[Shell]:
    """As in the containers: the variables of the file, and the agents beside."""
    shell = Shell(tmp_path)
    url = databases.fresh()
    (variables,) = {tuple(one["environment"].items()) for one in ours().values()}
    assert dict(variables).keys() == {"HOLDFAST_STORE"}
    shell.environ |= {"HOLDFAST_STORE": url}
    yield shell
    databases.drop(url)


def test_the_dockerfile_is_sound() -> None:
    linter = shutil.which("hadolint", path=str(BIN))
    if linter is None:
        pytest.skip("NOT TRIED: there is no hadolint for this machine")
    done = subprocess.run([linter, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_compose_file_is_sound() -> None:
    checker = [BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml"]
    done = subprocess.run(checker, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_the_image_copies_is_there() -> None:
    root = DEPLOY.parent
    copied = [
        line.split()[1:-1]
        for line in (DEPLOY / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY")
    ]
    assert [
        (root / name).exists() for names in copied for name in names if not name.startswith(("-", "/"))
    ] == [True] * 4


def test_no_container_of_ours_has_rights_that_it_does_not_need() -> None:
    for one in ours().values():
        assert (
            one["read_only"]
            and one["cap_drop"] == ["ALL"]
            and "no-new-privileges:true" in one["security_opt"]
        )
    assert "USER 10001:10001" in (DEPLOY / "Dockerfile").read_text()


def test_a_worker_has_longer_to_stop_than_its_runs_to_come_to_a_safe_point() -> None:
    worker = services()["worker"]
    drains = worker["command"][worker["command"].index("--drain-timeout") + 1]
    assert int(worker["stop_grace_period"].rstrip("s")) > int(drains.rstrip("s"))


def test_what_the_containers_start_executes_runs_and_is_drained_by_one_command(shell: Shell) -> None:
    begun = {name: shell.begin(*one["command"]) for name, one in ours().items()}
    assert begun.keys() == {"controller", "worker"}
    try:
        shell("schedule", "add", "often", "agents.py:hello", "--every", "1s")
        shell("start", "agents.py:count", "--id", "counts", "--input", '{"path": "notes", "total": 3}')
        assert shell.until("counts", lambda run: run["state"] == "succeeded")["steps"] == 3
        while not [
            run for run in shell("ls", "--agent", "hello", "--json").json if run["state"] == "succeeded"
        ]:
            pass
        (listed,) = shell("workers", "--json").json
        assert listed["capacity"] == 20
        shell("workers", "drain", "--all", "--wait", "--timeout", "30s")
        assert finish(begun.pop("worker")).code == 0
        assert finish(begun.pop("controller"), signal.SIGTERM).code == 143
    finally:
        for process in begun.values():
            finish(process, signal.SIGKILL)
