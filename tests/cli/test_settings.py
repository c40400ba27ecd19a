"""Which store a command uses: the first that is named, in the documented order."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.errors import NotFound, StoreUnavailable, UsageError
from holdfast.settings import find_store


def put(folder: Path, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(text)


def test_the_option_comes_before_the_variable_before_pyproject_before_the_folder(tmp_path: Path) -> None:
    put(tmp_path, '[tool.holdfast]\nstore = "project.db"')
    (tmp_path / ".holdfast").mkdir()
    environ = {"HOLDFAST_STORE": "variable.db"}
    assert find_store("given.db", here=tmp_path, environ=environ).path == tmp_path / "given.db"
    assert find_store(None, here=tmp_path, environ=environ).path == tmp_path / "variable.db"
    assert find_store(None, here=tmp_path, environ={}).path == tmp_path / "project.db"
    (tmp_path / "pyproject.toml").unlink()
    assert find_store(None, here=tmp_path, environ={}).path == tmp_path / ".holdfast" / "store.db"


def test_pyproject_and_the_folder_are_found_upward_and_paths_count_from_there(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    put(tmp_path, '[tool.holdfast]\nstore = "kept/runs.db"')
    assert find_store(None, here=below, environ={}).path == tmp_path / "kept" / "runs.db"
    put(tmp_path / "a", '[project]\nname = "without-holdfast"')
    assert find_store(None, here=below, environ={}).path == tmp_path / "kept" / "runs.db"


def test_nothing_named_makes_a_folder_that_git_ignores(tmp_path: Path) -> None:
    place = find_store(None, here=tmp_path, environ={})
    assert place.path == tmp_path / ".holdfast" / "store.db"
    assert (tmp_path / ".holdfast" / ".gitignore").read_text() == "*\n"
    assert not place.path.exists()


def test_reading_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no store here"):
        find_store(None, make=False, here=tmp_path, environ={})
    with pytest.raises(StoreUnavailable, match="does not exist"):
        find_store("gone.db", make=False, here=tmp_path, environ={})
    assert list(tmp_path.iterdir()) == []


def test_urls_of_other_schemes_pass_as_they_are(tmp_path: Path) -> None:
    place = find_store("postgresql://host/runs", make=False, here=tmp_path, environ={})
    assert place.url == "postgresql://host/runs"
    assert place.path is None


def test_sqlite_urls_are_made_absolute(tmp_path: Path) -> None:
    assert find_store("sqlite:///runs.db", here=tmp_path, environ={}).url == f"sqlite:///{tmp_path}/runs.db"
    assert (
        find_store(f"sqlite:///{tmp_path}/runs.db", here=Path("/"), environ={}).path == tmp_path / "runs.db"
    )


@pytest.mark.parametrize(
    "text", ["[tool.holdfast]\nstore = 3", "[tool.holdfast]\nstore = ''", "tool.holdfast = ["]
)
def test_a_bad_pyproject_is_named(tmp_path: Path, text: str) -> None:
    put(tmp_path, text)
    with pytest.raises(UsageError, match=r"pyproject\.toml"):
        find_store(None, here=tmp_path, environ={})
