"""docs/cli.md is complete: every command, option and exit code has its place there."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest

from holdfast.cli.commands import COMMANDS, IN_PROGRAMS, overview
from holdfast.cli.exits import Exit
from holdfast.client import FireView, RunView, ScheduleView, StepView, StoredCheckpoint

TEXT = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
EVERYWHERE = {"--store", "--json", "--help"}


def sections() -> dict[str, str]:
    parts = re.split(r"^## ", TEXT, flags=re.MULTILINE)
    return {part.partition("\n")[0].strip(): part for part in parts}


def command_of(name: str) -> click.Command:
    first, _, second = name.partition(" ")
    command = COMMANDS[first]
    found = getattr(importlib.import_module(f"holdfast.cli.{command.module}"), command.function or first)
    return found.commands[second] if second else found


def every_command() -> list[str]:
    """The commands, of a group those in it: `schedule add`."""
    groups = {name: found for name in COMMANDS if isinstance(found := command_of(name), click.Group)}
    alone = [name for name in COMMANDS if name not in groups]
    return alone + [f"{name} {part}" for name, group in groups.items() for part in group.commands]


NAMES = every_command()


def options_of(command: click.Command) -> Iterator[str]:
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            yield max(parameter.opts, key=len)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_and_option_has_a_heading_in_the_docs(name: str) -> None:
    section = sections().get(f"`holdfast {name}`")
    assert section is not None, f"docs/cli.md has no section `holdfast {name}`"
    headings = set(re.findall(r"^### `(--[\w-]+)`", section, flags=re.MULTILINE))
    assert headings == set(options_of(command_of(name))) - EVERYWHERE


@pytest.mark.parametrize("name", [name for name in NAMES if name not in IN_PROGRAMS])
def test_every_command_takes_json_and_store(name: str) -> None:
    assert {"--store", "--json"} <= set(options_of(command_of(name)))


def test_the_options_of_every_command_have_a_heading() -> None:
    assert (
        set(re.findall(r"^### `(--[\w-]+)`", sections()["Options of every command"], re.MULTILINE))
        == EVERYWHERE
    )


def test_docs_name_no_command_that_is_not_there() -> None:
    named = {
        title.removeprefix("`holdfast ").rstrip("`") for title in sections() if title.startswith("`holdfast ")
    }
    assert named == set(NAMES)


def test_every_exit_code_is_in_the_table() -> None:
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", TEXT, flags=re.MULTILINE)} == {
        int(one) for one in Exit
    }


def test_the_issue_s_exit_codes_are_pinned() -> None:
    assert {one.name: int(one) for one in Exit} == {
        "SUCCEEDED": 0,
        "FAILED": 1,
        "USAGE": 2,
        "CANCELLED": 3,
        "WAITS": 4,
        "NOT_FOUND": 5,
        "REFUSED": 6,
        "UNREACHABLE": 7,
        "INTERRUPTED": 130,
        "TERMINATED": 143,
    }


@pytest.mark.parametrize(
    ("view", "name"),
    [
        (RunView, "show"),
        (StepView, "steps"),
        (StoredCheckpoint, "checkpoints"),
        (ScheduleView, "schedule ls"),
        (FireView, "schedule show"),
    ],
)
def test_every_field_of_json_is_in_the_docs(view: type, name: str) -> None:
    section = sections()[f"`holdfast {name}`"]
    missing = [
        field.name for field in msgspec.structs.fields(view) if not re.search(rf"\b{field.name}\b", section)
    ]
    assert missing == []


def test_the_overview_lists_every_command() -> None:
    for name, command in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(command.line)}$", overview(), flags=re.MULTILINE)
