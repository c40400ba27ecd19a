"""What runs and children are called."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import UsageError
from holdfast.rules.ids import ID_LONGEST, checked_id, child_id, folder_name, key_of_folder


@pytest.mark.parametrize("good", ["a", "r-1.b", "ähre", "x" * ID_LONGEST])
def test_an_id_that_people_can_type_is_taken_as_it_is(good: str):
    assert checked_id(good) == good


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("", "1 to 200"),
        ("x" * (ID_LONGEST + 1), "has 201"),
        ("a b", "spaces"),
        ("a\n", "control"),
        ("-a", "dash"),
    ],
)
def test_an_id_that_nobody_can_type_is_refused(bad: str, message: str):
    with pytest.raises(UsageError, match=message):
        checked_id(bad)


def test_a_child_is_called_after_its_parent_and_its_agent():
    assert child_id("r", "read", "0123456789abcdef") == "r.read-0123456789"


def test_deep_in_a_tree_the_name_stays_short_enough():
    digest = "0" * 32
    longest = "x" * (ID_LONGEST - len(".read-") - 10)
    assert len(child_id(longest, "read", digest)) == ID_LONGEST
    assert child_id(f"{longest}x", "read", digest) == f"read-{digest}"
    assert len(child_id("x" * 200, "a" * 128, digest)) <= ID_LONGEST


HOSTILE = [
    "../../etc/passwd", "/", "..", ".", "a/b", "a\\b", "C:aux", "CON", "nul.", "naïve", "İstanbul", "🐚", "a" * 200,
    "?*<>|", "%00", "x\u202egpj", "~root", "$HOME",
]  # fmt: skip


@pytest.mark.parametrize("run_id", HOSTILE)
def test_a_folder_is_one_portable_file_name_whatever_the_id(run_id: str):
    name = folder_name(7, run_id, 1_800_000_000_000_000)
    assert re.fullmatch(r"7\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.[0-9a-f]{16}", name)
    assert len(name) <= 80
    assert key_of_folder(name) == 7


@given(
    st.lists(st.tuples(st.integers(1, 3), st.text(min_size=1, max_size=4), st.integers(0, 2)), unique=True)
)
def test_two_runs_never_have_one_folder(runs: list[tuple[int, str, int]]):
    assert len({folder_name(*one) for one in runs}) == len(runs)


def test_a_folder_is_called_for_ever_as_it_is_called_today():
    assert (
        folder_name(12, "Nightly/Report 3", 1_800_000_000_000_000) == "12.nightly-report-3.78821661bd946d34"
    )


@pytest.mark.parametrize(
    "name", ["", "7", "7.a", "07.a.0123456789abcdef", "0.a.0123456789abcdef", "7.A.0123456789abcdef",
             "7.a.0123456789abcdeg", "7.a.0123456789abcdef.txt", "../7.a.0123456789abcdef", "7.a/b.0123456789abcdef",
             f"{10**20}.a.0123456789abcdef"],
)  # fmt: skip
def test_what_is_called_otherwise_is_no_folder_of_a_run(name: str):
    assert key_of_folder(name) is None
