"""The import graph, turned round: which tests reach a file."""

from __future__ import annotations

from pathlib import Path

from examples.refactor import steps
from examples.refactor.index import build, importers, in_scope, is_source, is_test
from examples.refactor.index import tests_that_matter as judges
from examples.refactor.model import Index, Job
from examples.stage import durable

LAYERED = {
    "src/pkg/__init__.py": "",
    "src/pkg/low.py": "",
    "src/pkg/mid.py": "from . import low",
    "src/pkg/sub/__init__.py": "from ..mid import thing",
    "src/pkg/lonely.py": "",
    "src/other.py": "",
    "tests/conftest.py": "import other",
    "tests/test_low.py": "import pkg.low",
    "tests/test_sub.py": "def test():\n    from pkg import sub",
    "tests/test_nothing.py": "",
    "setup.py": "",
}
RAN = ("tests/test_low.py", "tests/test_sub.py", "tests/test_nothing.py")


def index_of(sources: dict[str, str]) -> Index:
    return build(dict.fromkeys(sources, ""), sources)


def test_a_file_is_judged_by_the_tests_that_import_it_however_far() -> None:
    index = index_of(LAYERED)
    assert judges(index, "src/pkg/low.py", RAN) == ("tests/test_low.py", "tests/test_sub.py")
    assert judges(index, "src/pkg/mid.py", RAN) == ("tests/test_sub.py",)
    assert judges(index, "src/pkg/sub/__init__.py", RAN) == ("tests/test_sub.py",)


def test_a_package_is_reached_by_whoever_imports_a_module_of_it() -> None:
    index = index_of(LAYERED)
    assert judges(index, "src/pkg/__init__.py", RAN) == ("tests/test_low.py", "tests/test_sub.py")


def test_a_file_that_no_test_reaches_is_judged_by_the_whole_suite() -> None:
    assert judges(index_of(LAYERED), "src/pkg/lonely.py", RAN) == ()


def test_what_a_conftest_imports_is_reached_by_every_test_below_it() -> None:
    assert judges(index_of(LAYERED), "src/other.py", RAN) == ()  # all of them: the whole suite


def test_tests_that_did_not_run_in_the_baseline_judge_nothing() -> None:
    assert judges(index_of(LAYERED), "src/pkg/low.py", ("tests/test_sub.py", "x")) == ("tests/test_sub.py",)


def test_a_package_that_no_test_imports_is_left_alone() -> None:
    scope = in_scope(index_of(LAYERED), RAN)
    assert "src/pkg/lonely.py" in scope and "src/other.py" in scope
    assert "setup.py" not in scope


def test_everything_is_in_scope_when_the_tests_import_nothing() -> None:
    sources = {"app.py": "", "tests/test_cli.py": "import subprocess"}
    assert in_scope(index_of(sources), ["tests/test_cli.py"]) == ("app.py",)


def test_a_file_that_does_not_parse_imports_nothing() -> None:
    assert importers({"a.py": "import b\nprint 1", "b.py": ""}) == {}


def test_imports_in_a_circle_come_to_an_end() -> None:
    index = index_of({"a.py": "import b", "b.py": "import a", "test_a.py": "import a"})
    assert judges(index, "b.py", ["test_a.py", "test_b.py"]) == ("test_a.py",)


def test_tests_and_what_they_stand_on_are_no_sources() -> None:
    assert is_test("pkg/test_x.py") and is_test("pkg/x_test.py") and is_test("app/tests.py")
    assert not is_source("tests/tools.py") and not is_source("conftest.py") and not is_source("tests.py")
    assert is_source("pkg/testing.py")


def test_the_index_leaves_caches_environments_and_links_out(job: Job, project: Path) -> None:
    for name in ("env/pyvenv.cfg", "env/lib.py", ".git/config", "shop/__pycache__/cart.pyc"):
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    (project / "link.py").symlink_to(project / "shop" / "cart.py")
    found = steps.index(job)
    assert set(found.files) == {
        *("README.txt", "shop/__init__.py", "shop/cart.py", "shop/prices.py", "shop/unused.py"),
        *("tests/conftest.py", "tests/test_cart.py", "tests/test_prices.py"),
    }
    assert found.files["README.txt"] == durable.sha256(b"A shop.\n")
