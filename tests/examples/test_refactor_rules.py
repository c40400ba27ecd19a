"""Planning, and the engines behind the rules."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from examples.refactor import rules
from examples.refactor.engines import Refused, Unavailable
from examples.refactor.engines.percent_format import rewritten
from examples.refactor.engines.ruff import Ruff, family_of
from examples.refactor.engines.script import Script
from examples.refactor.model import Change, Finding, Job
from examples.refactor.rules import engine_of, find, plan

SOURCES = ("shop/cart.py", "shop/prices.py", "shop/unused.py")


def test_changes_come_rule_by_rule_as_asked_and_file_by_file() -> None:
    found = [Finding("UP", "b.py", 2), Finding("F", "z.py", 1), Finding("UP", "a.py", 1)]
    assert plan(found, ["UP", "F"]) == (
        Change(1, "UP", "a.py", 1),
        Change(2, "UP", "b.py", 2),
        Change(3, "F", "z.py", 1),
    )
    assert plan(list(reversed(found)), ["UP", "F"]) == plan(found, ["UP", "F"])
    assert [change.key for change in plan(found, ["F", "UP"], limit=1)] == ["F:z.py"]


def test_a_diagnostic_belongs_to_the_longest_rule_that_fits() -> None:
    assert family_of("C401", ["C", "C4"]) == "C4"
    assert family_of("F401", ["F", "FURB"]) == "F"
    assert family_of("FURB105", ["F"]) is None
    assert family_of("UP031", ["UP031", "UP"]) == "UP031"


def test_ruff_finds_what_it_would_change_and_nothing_else(job: Job) -> None:
    found = {(finding.rule, finding.path) for finding in Ruff().find(job, ["F", "C4", "SIM"], SOURCES)}
    assert found == {
        ("F", "shop/unused.py"),
        ("C4", "shop/cart.py"),
        ("C4", "shop/prices.py"),
        ("SIM", "shop/prices.py"),
    }


def test_what_is_found_is_what_changes(job: Job) -> None:
    wanted = ["F", "C4", "SIM", "percent-format"]
    for change in plan(find(job, wanted, SOURCES), wanted):
        source = Path(job.tree, change.path).read_bytes()
        assert engine_of(change.rule).rewrite(job, change, source) != source, change.key


def test_an_engine_writes_nothing_to_the_tree(job: Job) -> None:
    path = Path(job.tree, "shop/prices.py")
    source = path.read_bytes()
    engine_of("C4").rewrite(job, Change(1, "C4", "shop/prices.py", 1), source)
    assert path.read_bytes() == source


def test_ruff_leaves_a_file_that_does_not_parse_as_it_is(job: Job) -> None:
    broken = b"def broken(:\n"
    assert Ruff().rewrite(job, Change(1, "UP", "shop/cart.py", 1), broken) == broken


def test_an_unknown_rule_is_named(job: Job) -> None:
    with pytest.raises(Unavailable, match="NOPE"):
        find(job, ["NOPE"], SOURCES)


def test_a_missing_engine_says_how_to_get_it(job: Job, tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')  # a Python without any package
    bare.chmod(0o755)
    with pytest.raises(Unavailable, match="pip install ruff"):
        find(replace(job, tools=str(bare)), ["UP"], SOURCES)
    with pytest.raises(Unavailable, match="pip install libcst"):
        find(replace(job, tools=str(bare)), ["percent-format"], SOURCES)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = '%s of %s' % (a, b.c)\n", "x = f'{a} of {b.c}'\n"),
        ('x = "%s" % (rows[0],)\n', 'x = f"{rows[0]}"\n'),
        ("x = '%s' % a\n", None),  # a may be a tuple
        ("x = '%d of %s' % (a, b)\n", None),
        ("x = '%s%%' % (a,)\n", None),
        ("x = '%(a)s' % (a,)\n", None),
        ("x = '{} %s' % (a,)\n", None),
        ("x = b'%s' % (a,)\n", None),
        ("x = '%s %s' % (a,)\n", None),
        ("x = '%s' % (call(a),)\n", None),
        ("x = '%s' % (rows['k'],)\n", None),
        ("x = '%s' % (*rows,)\n", None),
        ("x = '%s' % ()\n", None),
    ],
)
def test_percent_format_rewrites_only_what_means_the_same(source: str, expected: str | None) -> None:
    content, places = rewritten(source.encode())
    assert content.decode() == (expected or source)
    assert places == (expected is not None)


def test_a_custom_rule_is_a_script_with_two_commands(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "shout.py"
    script.write_text(
        "import json, sys\n"
        "if sys.argv[1] == 'rewrite':\n    sys.stdout.write(sys.stdin.read().upper())\n"
        "else:\n    print(json.dumps({'path': sys.argv[2], 'places': 1}))\n"
    )
    monkeypatch.setitem(rules.CUSTOM_RULES, "shout", Script(script, needs="nothing"))
    found = find(job, ["shout", "F"], SOURCES)
    assert Finding("shout", "shop/cart.py", 1) in found
    assert engine_of("shout").rewrite(job, Change(1, "shout", "shop/cart.py", 1), b"x") == b"X"


def test_a_custom_rule_that_fails_refuses_in_its_own_words(job: Job, tmp_path: Path) -> None:
    script = tmp_path / "fails.py"
    script.write_text("raise SystemExit('I cannot read this')\n")
    with pytest.raises(Refused, match="I cannot read this"):
        Script(script, needs="").rewrite(job, Change(1, "fails", "shop/cart.py", 1), b"x")
