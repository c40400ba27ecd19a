"""What a program writes, as lines and as progress: pure."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.commands.lines import MAX_LINE_CHARS, MOST_REPEATS, Gauge, Lines
from holdfast.errors import UsageError


@pytest.mark.parametrize(
    "pattern", [r"(?:(?P<current>\d+)[ ,]*)+%", r"(?P<percent>(?:\d|\d\d)*)%", r"(?P<percent>(\d+)+)%"]
)
def test_a_pattern_that_may_search_for_ever_is_refused(pattern: str) -> None:
    with pytest.raises(UsageError, match="search for ever"):
        Gauge(pattern)


def repeats(count: int) -> str:
    return r"(?P<current>\d+)" + r"\d*" * (count - 1) + "x"


@pytest.mark.parametrize("count", [3, 5, 8, MOST_REPEATS])
def test_no_line_holds_the_loop_for_long_whatever_the_pattern(count: int) -> None:
    gauge, lines = Gauge(repeats(count)), 50
    began_s = time.thread_time()
    assert [gauge.read("1" * 2_000) for _ in range(lines)] == [None] * lines
    assert time.thread_time() - began_s < 1.0, "one is slow, and those that follow at once are passed over"


def test_a_slow_line_costs_the_lines_soon_after_it_alone() -> None:
    now = [0.0]
    gauge = Gauge(repeats(5), clock=lambda: now[0])
    assert gauge.read("1" * 200) is None
    assert gauge.read("12x") is None
    now[0] += 10.0
    assert gauge.read("12x") == (12, None)


def test_a_quick_pattern_is_compared_with_all_of_a_line_that_counts() -> None:
    gauge = Gauge(r".*?(?P<current>\d+)\s*/\s*(?P<total>\d+)\s*\[.*\]")
    assert gauge.read("x" * 180 + " 3 / 10 [=>  ]") == (3, 10)


def test_a_pattern_of_too_many_repetitions_is_refused() -> None:
    with pytest.raises(
        UsageError, match=rf"repeats {MOST_REPEATS + 1} times, and {MOST_REPEATS} are the most"
    ):
        Gauge(repeats(MOST_REPEATS + 1))


@pytest.mark.parametrize("word", ["inf", "nan", "1e400", "-inf"])
def test_a_figure_that_is_no_number_is_no_progress(word: str) -> None:
    assert Gauge(r"^(?P<current>\S+)").read(word) is None


def whole(*pieces: bytes) -> list[str]:
    lines = Lines()
    found = [line for piece in pieces for line in lines.feed(piece)]
    return [line.text for line in (*found, *lines.rest()) if line.whole]


def test_lines_end_where_they_end_and_the_last_one_at_the_end_of_the_stream() -> None:
    assert whole(b"one\ntwo\r\nthr", b"ee") == ["one", "two", "three"]


def test_of_a_line_that_is_drawn_over_the_last_state_is_the_line() -> None:
    assert whole(b"10%\r50%\r100%\ndone\n") == ["100%", "done"]
    assert whole(b"10%\r", b"100%\r", b"     \r", b"\n") == ["100%"]
    assert whole(b"10%\r99%\r") == ["99%"]


def test_each_state_of_a_progress_bar_is_seen() -> None:
    states = [line.text for line in Lines().feed(b"10%\r50%\r100%\n")]
    assert states == ["10%", "50%", "100%"]


def test_bytes_that_are_no_utf_8_are_replaced() -> None:
    assert whole(b"a\xffb\n") == ["a\ufffdb"]
    assert whole("é".encode()[:1], "é".encode()[1:] + b"\n") == ["é"]


def test_colours_titles_and_control_characters_are_left_out() -> None:
    assert whole(b"\x1b[31mred\x1b[0m\x07\n", b"\x1b]0;title\x07text\n") == ["red", "text"]


def test_a_line_without_an_end_is_cut_in_pieces_and_takes_no_more_memory() -> None:
    lines = Lines()
    seen = [len(line.text) for _ in range(100) for line in lines.feed(b"x" * 1000)]
    assert set(seen) == {MAX_LINE_CHARS}
    assert len(lines._open) <= MAX_LINE_CHARS
    assert whole(b"y" * (MAX_LINE_CHARS + 1) + b"\n") == ["y" * MAX_LINE_CHARS, "y"]


@given(st.binary(max_size=200), st.integers(1, 20))
def test_where_the_stream_is_cut_changes_nothing(data: bytes, size: int) -> None:
    assert whole(data) == whole(*(data[at : at + size] for at in range(0, len(data), size)))


@pytest.mark.parametrize(
    ("pattern", "line", "figures"),
    [
        (r"(?P<current>\d+)/(?P<total>\d+)", "step 3/10 of it", (3, 10)),
        (r"(?P<percent>[\d.]+)%", "Receiving objects:  42.5% (1/2)", (42.5, 100)),
        (r"(?P<current>[\d,]+) files", "1,234 files", (1234, None)),
        (r"(?P<current>\d+)/(?P<total>\d+|\?)", "3/?", (3, None)),
        (r"(?P<percent>\d+)%|(?P<current>\d+) of (?P<total>\d+)", "2 of 8", (2, 8)),
        (r"(?P<current>\d+)/(?P<total>\d+)", "nothing here", None),
    ],
)
def test_progress_is_read_from_lines(
    pattern: str, line: str, figures: tuple[float, float | None] | None
) -> None:
    assert Gauge(pattern).read(line) == figures


@pytest.mark.parametrize("pattern", ["(", r"\d+", r"(?P<total>\d+)", r"(?P<current>\d+)(?P<other>.)"])
def test_a_progress_pattern_that_could_tell_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(UsageError, match="progress pattern"):
        Gauge(pattern)
