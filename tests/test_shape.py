"""The shape that keeps the code readable and quick to start: sizes, and what an import loads."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "holdfast"
FUNCTION_LINES = 60
FILE_LINES = 600
PUBLIC_METHODS = 20
_OPENING = "the one opening between an attempt and the world: a short method for each thing that passes"
FACADES = {
    "Context": "one short method, or property, for each thing that agent code may say or ask",
    "Port": _OPENING,
    "ChannelPort": _OPENING,
    "_Port": _OPENING,
    "RunHandle": "one short method for each thing that is asked of one run, or done to it",
    "TransactionalStore": "one short method for each promise of the Store protocol; what they do stands in modules",
}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def parsed() -> Iterator[tuple[str, str, ast.Module]]:
    for path in sorted(SOURCE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        yield str(path.relative_to(SOURCE.parent)), text, ast.parse(text, filename=str(path))


def refuse(offences: Iterable[str]) -> None:
    found = list(offences)
    if found:
        pytest.fail("\n".join(found), pytrace=False)


def test_no_function_is_longer_than_60_lines() -> None:
    refuse(
        f"{path}:{node.lineno} {node.name} has {length} lines"
        for path, _, tree in parsed()
        for node in ast.walk(tree)
        if isinstance(node, FUNCTIONS) and (length := lines_of(node)) > FUNCTION_LINES
    )


def test_the_shell_writes_what_people_see_in_two_places_alone() -> None:
    """There text of runs is made visible: `cli/saying`, and `cli/console` for what `rich` draws."""
    refuse(
        f"{path}:{number} writes by itself: {line.strip()}"
        for path, text, _ in parsed()
        if path.startswith("holdfast/cli/") and not path.endswith(("/saying.py", "/console.py"))
        for number, line in enumerate(text.splitlines(), 1)
        if re.search(r"click\.s?echo\(|\bprint\(|rich\.text import|rich\.console import .*\bConsole\b", line)
        and not re.search(r"\.print\(|def _?print", line)
    )


def lines_of(node: ast.AST) -> int:
    assert isinstance(node, FUNCTIONS)
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def test_no_file_is_longer_than_600_lines() -> None:
    refuse(
        f"{path} has {length} lines"
        for path, text, _ in parsed()
        if (length := len(text.splitlines())) > FILE_LINES
    )


def test_no_class_has_more_than_20_public_methods() -> None:
    refuse(
        f"{path}:{node.lineno} {node.name} has {count} public methods"
        for path, _, tree in parsed()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and node.name not in FACADES
        if (count := public_methods(node)) > PUBLIC_METHODS
    )


def public_methods(node: ast.ClassDef) -> int:
    """A promise of the conformance suite is a test, and a property is a value: no methods that someone has to know."""
    functions = [part for part in node.body if isinstance(part, FUNCTIONS)]
    names = {part.name for part in functions if not _is_property(part)}  # overloads are one
    return sum(not name.startswith(("_", "test_")) for name in names)


def _is_property(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(isinstance(each, ast.Name) and each.id == "property" for each in function.decorator_list)


def test_every_file_says_what_it_is() -> None:
    refuse(path for path, text, tree in parsed() if text and not ast.get_docstring(tree))


# Found by their users' own pytest and Hypothesis, never by the library: the conformance suite is written for them.
BROUGHT_BY_TESTERS = {"testing": {"hypothesis", "pytest", "pytest_asyncio"}}
EXTRAS = {"store/postgres": "postgres"}  # which part may import what an extra brings


def test_source_imports_only_declared_dependencies() -> None:
    declared = {"holdfast", "compression"} | set(sys.stdlib_module_names) | declared_dependencies()
    refuse(
        f"{path} imports {name}"
        for path, _, tree in parsed()
        for name in imported_packages(tree)
        if name not in declared | BROUGHT_BY_TESTERS.get(Path(path).parts[1], set()) | brought_by_extra(path)
    )


def brought_by_extra(path: str) -> set[str]:
    part = str(Path(path).parent.relative_to("holdfast"))
    return declared_dependencies(EXTRAS[part]) if part in EXTRAS else set()


def declared_dependencies(extra: str | None = None) -> set[str]:
    project = tomllib.loads((SOURCE.parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = project["dependencies"] if extra is None else project["optional-dependencies"][extra]
    return {re.split(r"[^a-z_]", line)[0] for line in lines}


def imported_packages(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


HEAVY = ("apsw", "click", "psutil", "psycopg", "rich")

# `python -m` runs the module as a program; runpy does the same and lets us look at what was loaded.
IMPORT = "import holdfast"
HELP = """
import contextlib, io, runpy
sys.argv = ["holdfast", "--help"]
with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
    runpy.run_module("holdfast", run_name="__main__", alter_sys=True)
assert "Usage" in out.getvalue(), out.getvalue()
"""
PUBLIC_NAMES = """
import holdfast
missing = [name for name in holdfast.__all__ if not hasattr(holdfast, name)]
assert not missing, missing
unlisted = [name for name in holdfast.__all__ if name not in dir(holdfast)]
assert not unlisted, unlisted
"""


@pytest.mark.parametrize(
    ("program", "forbidden"),
    [(IMPORT, HEAVY), (HELP, ("apsw", "psutil", "rich"))],
    ids=["import holdfast", "python -m holdfast --help"],
)
def test_starting_loads_nothing_heavy(program: str, forbidden: tuple[str, ...]) -> None:
    report = f"print(*sorted(set({forbidden!r}) & set(sys.modules)))"
    assert run_python(f"import sys\n{program}\n{report}").split() == []


def test_every_public_name_can_be_had() -> None:
    run_python(PUBLIC_NAMES)


def run_python(program: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_all_names_are_imported_without_what_hardly_anybody_needs() -> None:
    code = "import sys, holdfast; [getattr(holdfast, name) for name in holdfast.__all__]; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"importlib.metadata", "zoneinfo", "rich", "click"} & set(loaded.stdout.split())
    assert not [name for name in loaded.stdout.split() if name.startswith("holdfast.process.")]
