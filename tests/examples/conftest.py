"""Small codebases to refactor: one with pytest, one with unittest."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from examples.refactor.model import Job

SHOP = {
    "shop/__init__.py": "",
    "shop/cart.py": (
        "from shop.prices import price_of\n\n\n"
        "def all_valid(forms):\n    return all([form() for form in forms])\n\n\n"
        "def total(names):\n    result = sum(price_of(name) for name in names)\n    return result\n"
    ),
    "shop/prices.py": (
        "PRICES = dict(apple=3, pear=4)\n\n\n"
        "def price_of(name):\n    if name in PRICES.keys():\n        return PRICES[name]\n    else:\n        return 0\n"
    ),
    "shop/unused.py": "import os\n\n\ndef greet(name):\n    return 'hello %s and %s' % (name, name)\n",
    "README.txt": "A shop.\n",
}
PYTEST_TESTS = {
    "tests/conftest.py": "import pytest\n\n\n@pytest.fixture\ndef names():\n    return ['apple', 'pear']\n",
    "tests/test_cart.py": (
        "from shop.cart import all_valid, total\n\n\n"
        "def test_total(names):\n    assert total(names) == 7\n\n\n"
        "def test_every_form_is_validated():\n"
        "    seen = []\n"
        "    forms = [lambda: seen.append(1) or False, lambda: seen.append(2) or False]\n"
        "    assert not all_valid(forms)\n"
        "    assert seen == [1, 2]\n"
    ),
    "tests/test_prices.py": (
        "from shop import prices\n\n\n"
        "def test_price():\n    assert prices.price_of('apple') == 3\n\n\n"
        "def test_that_always_failed():\n    assert prices.price_of('plum') == 9\n"
    ),
}
UNITTEST_TESTS = {
    "tests/__init__.py": "",
    "tests/test_cart.py": (
        "import unittest\n\nfrom shop.cart import all_valid, total\n\n\n"
        "class CartTest(unittest.TestCase):\n"
        "    def test_total(self):\n        self.assertEqual(total(['apple', 'pear']), 7)\n\n"
        "    def test_every_form_is_validated(self):\n"
        "        seen = []\n"
        "        all_valid([lambda: seen.append(1) or False, lambda: seen.append(2) or False])\n"
        "        self.assertEqual(seen, [1, 2])\n\n"
        "    def test_that_always_failed(self):\n        self.assertEqual(total(['plum']), 9)\n"
    ),
}

MakeProject = Callable[[Mapping[str, str]], Path]


@pytest.fixture(autouse=True)
def _no_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The small codebases need none of pytest's plugins, and start in half the time without."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


@pytest.fixture
def make_project(tmp_path: Path) -> MakeProject:
    """Write the files of a codebase and return its folder."""

    def make(contents: Mapping[str, str]) -> Path:
        root = tmp_path / "shop-1.0"
        for name, text in contents.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return root

    return make


@pytest.fixture
def project(make_project: MakeProject) -> Path:
    return make_project({**SHOP, **PYTEST_TESTS})


@pytest.fixture
def unittest_project(make_project: MakeProject) -> Path:
    return make_project({**SHOP, **UNITTEST_TESTS})


def job_on(root: Path, tmp_path: Path) -> Job:
    """A job that works on the codebase itself."""
    folder = tmp_path / "job"
    folder.mkdir(exist_ok=True)
    return Job(
        repo=str(root), folder=str(folder), tree=str(root), python=sys.executable, tools=sys.executable
    )


@pytest.fixture
def job(project: Path, tmp_path: Path) -> Job:
    return job_on(project, tmp_path)


@pytest.fixture
def unittest_job(unittest_project: Path, tmp_path: Path) -> Job:
    return job_on(unittest_project, tmp_path)
