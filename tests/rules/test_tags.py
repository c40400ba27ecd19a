"""What people call their runs by."""

from __future__ import annotations

import pytest

from holdfast.errors import UsageError
from holdfast.rules import tags


def test_tags_are_read_as_people_type_them_and_told_in_the_same_way() -> None:
    found = tags.parsed(["customer=7", "nightly", "path=a=b"])
    assert found == {"customer": "7", "nightly": "", "path": "a=b"}
    assert tags.told(found) == "customer=7 nightly path=a=b"


def test_tags_that_can_be_are_ordered_by_name() -> None:
    assert tags.checked({"b": "2", "a": ""}) == (("a", ""), ("b", "2"))


@pytest.mark.parametrize(
    "bad",
    [
        {"": "x"},
        {"a=b": "x"},
        {"two\nlines": "x"},
        {"x" * 201: ""},
        {"a": "x" * 201},
        {"a": "\x1b[31m"},
        {"a": 7},
        {7: "a"},
        {str(number): "" for number in range(51)},
    ],
)
def test_what_cannot_be_a_tag_is_refused(bad: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        tags.checked(bad)
