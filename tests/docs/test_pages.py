"""What the pages show is executed, their links lead somewhere, and they name nobody's machine."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ADDRESS, PAGES, ROOT, has_code, name_of

EXECUTED = [page for page in PAGES if has_code(page)]


@pytest.mark.parametrize("page", EXECUTED, ids=name_of)
def test_what_a_page_shows_is_what_happens(
    page: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    database: list[str] = []
    if ADDRESS in page.read_text("utf-8"):
        database.append(request.getfixturevalue("databases").fresh())
    done = subprocess.run(
        [sys.executable, "-m", "tests.docs.execute", str(page), str(tmp_path), *database],
        cwd=ROOT, capture_output=True, text=True, timeout=55,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_the_pages_for_beginners_are_executed() -> None:
    assert {"README.md", "docs/tutorial.md", "docs/six-parts.md"} <= {name_of(page) for page in EXECUTED}


def _slug(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")


def _without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", _without_code(page.read_text("utf-8"))):
        if target.startswith(("http:", "https:")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists():
            broken.append(target)
        elif anchor and there.suffix == ".md":
            titles = re.findall(r"^#+ (.+)$", there.read_text("utf-8"), re.MULTILINE)
            if anchor not in {_slug(title) for title in titles}:
                broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_pages_name_no_machine(page: Path) -> None:
    assert re.findall(r"/tmp/\S*|/root/\S*|/Users/\S*", page.read_text("utf-8")) == []


def test_the_index_leads_to_every_page() -> None:
    index = (ROOT / "docs" / "index.md").read_text("utf-8")
    pages = [page.relative_to(ROOT / "docs") for page in (ROOT / "docs").rglob("*.md")]
    wanted = [str(page) for page in pages if page.parts[0] != "decisions" and page.name != "index.md"]
    assert [page for page in wanted if f"({page})" not in index] == []
