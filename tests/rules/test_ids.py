"""What runs and children are called."""

from __future__ import annotations

import pytest

from holdfast.errors import UsageError
from holdfast.rules.ids import ID_LONGEST, checked_id, child_id


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
