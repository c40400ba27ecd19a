"""What an artifact may be called, and what its name says."""

from __future__ import annotations

import pytest

from holdfast.errors import UsageError
from holdfast.rules.artifacts import UNKNOWN, check_name, media_type


@pytest.mark.parametrize("name", ["a", "../../etc/passwd", "/abs", "ü b", "x" * 255])
def test_a_label_is_taken_as_it_is(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "x" * 256, "a\n", "\x1b[0m", "\u202e", 5, None, b"a"])
def test_what_no_line_can_hold_is_refused(name: object) -> None:
    with pytest.raises(UsageError, match="the name"):
        check_name(name)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("a.html", "text/html"), ("A.PNG", "image/png"), ("a.tar.gz", "application/gzip"), ("a.unheard", UNKNOWN),
     ("html", UNKNOWN), ("a.", UNKNOWN), (".svg", "image/svg+xml")],
)  # fmt: skip
def test_the_media_type_is_guessed_from_the_suffix(name: str, wanted: str) -> None:
    assert media_type(name) == wanted
