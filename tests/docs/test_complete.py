"""A public name, error, event, setting or method that is not in the docs fails here."""

from __future__ import annotations

import inspect
import re

import pytest

import holdfast
from holdfast import errors
from holdfast.calls import StepOptions
from holdfast.client import Schedules
from holdfast.model import FailureKind, Reason, RunState
from holdfast.store.transactions.rows import ENTRY_EVENTS
from tests.docs.pages import PAGES, ROOT

DOCS = ROOT / "docs"
EVERYTHING = "\n".join(page.read_text("utf-8") for page in PAGES)
NO_SETTING = {
    "self",
    "fn",
    "args",
    "ctx",
    "clock",
    "chance",
    "heart",
    "pace",
    "kind",
    "state",
    "store",
    "agents",
}
"""What a caller passes as the matter itself, or what only the simulation replaces."""

CALLABLES = [
    holdfast.agent,
    holdfast.Worker,
    holdfast.Controller,
    holdfast.RetryPolicy,
    holdfast.Thresholds,
    holdfast.Every,
    holdfast.run,
    holdfast.Client.start,
    holdfast.Schedule,
    holdfast.Context.step,
    holdfast.Context.checkpoint,
    holdfast.Context.wait_for,
    holdfast.Context.approval,
]


def headings(page: str) -> set[str]:
    text = (DOCS / page).read_text("utf-8")
    return {
        title
        for line in re.findall(r"^#{2,4} (.+)$", text, re.MULTILINE)
        for title in re.findall(r"`([^`]+)`", line)
    }


def code_in(text: str) -> str:
    return "\n".join(
        re.findall(r"`[^`\n]+`", text) + re.findall(r"^```.*?^```$", text, re.MULTILINE | re.DOTALL)
    )


def own_errors() -> list[str]:
    return [
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, BaseException) and value.__module__ == errors.__name__
    ]


def event_types() -> set[str]:
    sources = [
        path.read_text("utf-8")
        for path in (ROOT / "src" / "holdfast").rglob("*.py")
        if "testing" not in path.parts
    ]
    noted = {
        name
        for text in sources
        for name in re.findall(r'(?:Note\(|_add_note\([\w., ]*?)"([a-z][a-z.]*)"', text)
    }
    return {f"run.{state}" for state in RunState} | set(ENTRY_EVENTS.values()) | noted


@pytest.mark.parametrize("name", holdfast.__all__)
def test_every_public_name_is_in_the_docs(name: str) -> None:
    assert re.search(rf"\b{name}\b", code_in(EVERYTHING))


@pytest.mark.parametrize("name", own_errors())
def test_every_error_has_a_heading(name: str) -> None:
    assert name in headings("errors.md")


def test_every_type_of_event_has_a_heading_and_no_other() -> None:
    named = {
        name for name in headings("guide/events-and-watching.md") if re.fullmatch(r"[a-z]+(\.[a-z]+)?", name)
    }
    assert named == event_types()


@pytest.mark.parametrize("called", CALLABLES, ids=lambda called: called.__qualname__)
def test_every_setting_is_in_the_table(called: object) -> None:
    text = (DOCS / "settings.md").read_text("utf-8")
    section = next(
        (part for part in text.split("\n## ") if part.startswith(f"`{called.__qualname__}")),  # type: ignore[attr-defined]
        "",
    )
    signature = inspect.signature(called).parameters.values()  # type: ignore[arg-type]
    parameters = {one.name for one in signature if one.kind is not one.VAR_KEYWORD} - NO_SETTING
    if any(one.kind is one.VAR_KEYWORD for one in signature):
        parameters |= set(StepOptions.__annotations__)  # those of a step
    assert {name for name in parameters if f"`{name}`" not in section} == set()


def test_every_variable_of_the_environment_is_in_the_settings() -> None:
    sources = "\n".join(path.read_text("utf-8") for path in (ROOT / "src" / "holdfast").rglob("*.py"))
    found = set(re.findall(r'"(HOLDFAST_[A-Z_]+|NO_COLOR)"', sources))
    assert "HOLDFAST_STORE" in found
    assert {name for name in found if f"`{name}`" not in (DOCS / "settings.md").read_text("utf-8")} == set()


PARTS = [holdfast.State, holdfast.Checkpoints, holdfast.Progress, holdfast.Queue, holdfast.Monitor]


@pytest.mark.parametrize(
    "kind", [holdfast.Context, holdfast.Client, holdfast.RunHandle, holdfast.Worker, Schedules, *PARTS]
)
def test_every_public_method_is_in_the_docs(kind: type) -> None:
    methods = [name for name in vars(kind) if not name.startswith("_")]
    code = code_in(EVERYTHING)
    assert [name for name in methods if not re.search(rf"\b{name}\b", code)] == []


def test_every_class_of_failure_and_every_reason_is_in_the_docs() -> None:
    recovery = (DOCS / "guide" / "recovery.md").read_text("utf-8")
    assert [kind for kind in FailureKind if f"`{kind}`" not in recovery] == []
    assert [reason for reason in Reason if f"`{reason}`" not in EVERYTHING] == []


def test_every_code_of_a_warning_is_in_the_docs() -> None:
    sources = "\n".join(path.read_text("utf-8") for path in (ROOT / "src" / "holdfast").rglob("*.py"))
    codes = set(re.findall(r'"warning", [\w.]+\(\{"code": "(\w+)"', sources))
    assert len(codes) >= 3
    events = (DOCS / "guide" / "events-and-watching.md").read_text("utf-8")
    assert [code for code in codes if f"`{code}`" not in events] == []


def test_every_promise_names_a_test_that_is_there() -> None:
    text = (DOCS / "promises.md").read_text("utf-8")
    named = re.findall(r"`(tests/[\w/.*]+)`", text)
    assert len(named) > 10
    assert [name for name in named if not list(ROOT.glob(name))] == []
