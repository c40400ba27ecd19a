"""What code of a run logs reaches the run, and nothing else changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from holdfast.capture import (
    BURST_LINES,
    LINES_PER_S,
    MAX_MESSAGE_BYTES,
    Capture,
    LogLine,
    current_log_sink,
    install,
    tell_dropped,
)
from holdfast.threads import run_in_thread

log = logging.getLogger("some.library")


class MovedClock:
    def __init__(self) -> None:
        self.us = 0

    def wall_us(self) -> int:
        return self.us

    def boot_us(self) -> int:
        return self.us

    def boot_id(self) -> str:
        return "boot"


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def capture(clock: MovedClock) -> Iterator[Capture]:
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.INFO)
    others = [handler for handler in root.handlers if isinstance(handler, Capture)]
    for other in others:  # that of a worker of an earlier test
        root.removeHandler(other)
    capture = Capture(clock=clock)
    root.addHandler(capture)
    yield capture
    capture.remove()
    for other in others:
        root.addHandler(other)
    root.setLevel(level)


@pytest.fixture
def lines() -> Iterator[list[LogLine]]:
    found: list[LogLine] = []
    token = current_log_sink.set(found.append)
    yield found
    current_log_sink.reset(token)


def test_a_line_logged_in_a_run_reaches_its_sink(capture: Capture, lines: list[LogLine]) -> None:
    log.info("read %d files", 3)
    assert [(line.level, line.logger, line.message) for line in lines] == [
        ("info", "some.library", "read 3 files")
    ]
    assert lines[0].at_us > 1_600_000_000_000_000


def test_nothing_is_captured_outside_runs(capture: Capture) -> None:
    seen: list[LogLine] = []
    token = current_log_sink.set(seen.append)
    current_log_sink.reset(token)
    log.warning("outside")
    assert seen == []


def test_debug_lines_are_left_out(capture: Capture, lines: list[LogLine]) -> None:
    logger = logging.getLogger("chatty")
    logger.setLevel(logging.DEBUG)
    logger.debug("noise")
    assert lines == []


def test_our_own_loggers_are_not_captured(capture: Capture, lines: list[LogLine]) -> None:
    logging.getLogger("holdfast").warning("a")
    logging.getLogger("holdfast.worker").warning("b")
    logging.getLogger("holdfastened").warning("c")
    assert [line.message for line in lines] == ["c"]


def test_what_the_sink_logs_is_dropped(capture: Capture) -> None:
    seen: list[str] = []

    def sink(line: LogLine) -> None:
        seen.append(line.message)
        log.warning("from the sink")

    token = current_log_sink.set(sink)
    log.warning("first")
    log.warning("second")
    current_log_sink.reset(token)
    assert seen == ["first", "second"]


async def test_lines_of_a_thread_reach_the_run_that_began_it(capture: Capture, lines: list[LogLine]) -> None:
    await run_in_thread(log.warning, ("from a thread",)).future
    assert [line.message for line in lines] == ["from a thread"]


async def test_two_runs_get_their_own_lines(capture: Capture) -> None:
    async def run(name: str, found: list[LogLine]) -> None:
        current_log_sink.set(found.append)
        for _ in range(3):
            log.info(name)
            await asyncio.sleep(0)

    one: list[LogLine] = []
    two: list[LogLine] = []
    async with asyncio.TaskGroup() as group:
        group.create_task(run("one", one))
        group.create_task(run("two", two))
    assert [line.message for line in one] == ["one"] * 3
    assert [line.message for line in two] == ["two"] * 3


def test_a_flood_is_cut_to_the_rate_and_the_loss_is_counted(
    capture: Capture, lines: list[LogLine], clock: MovedClock
) -> None:
    for n in range(BURST_LINES + 500):
        log.info("line %d", n)
    assert len(lines) == BURST_LINES
    clock.us += 1_000_000
    for n in range(100):
        log.info("later %d", n)
    assert len(lines) == BURST_LINES + LINES_PER_S
    assert lines[BURST_LINES].message.startswith("dropped 500 lines")
    assert lines[BURST_LINES + 1].message == "later 0"


def test_a_loss_at_the_end_is_told_when_the_attempt_finishes(capture: Capture, clock: MovedClock) -> None:
    found: list[LogLine] = []
    sink = found.append
    token = current_log_sink.set(sink)
    for n in range(BURST_LINES + 7):
        log.info("line %d", n)
    current_log_sink.reset(token)
    tell_dropped(sink)
    tell_dropped(sink)
    assert found[-1].message.startswith("dropped 7 lines")
    assert len(found) == BURST_LINES + 1


def test_a_flood_of_one_run_costs_another_nothing(capture: Capture) -> None:
    loud: list[LogLine] = []
    quiet: list[LogLine] = []
    token = current_log_sink.set(loud.append)
    for _ in range(BURST_LINES * 2):
        log.info("loud")
    current_log_sink.set(quiet.append)
    log.info("quiet")
    current_log_sink.reset(token)
    assert [line.message for line in quiet] == ["quiet"]


@pytest.mark.parametrize("text", ["x" * 100_000, "é" * 50_000, "\ud800" * 10], ids=["long", "wide", "half"])
def test_a_message_is_always_recordable(capture: Capture, lines: list[LogLine], text: str) -> None:
    # Straight to the handler: what runs the tests cannot write half a character into its reports.
    capture.handle(log.makeRecord(log.name, logging.WARNING, __file__, 1, text, (), None))
    assert 0 < len(lines[0].message.encode()) <= MAX_MESSAGE_BYTES


def test_a_line_whose_arguments_do_not_fit_is_captured_with_the_reason(
    capture: Capture, lines: list[LogLine], monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet = logging.getLogger("bad.format")
    monkeypatch.setattr(
        logging, "raiseExceptions", False
    )  # pytest's own handler complains about the line too
    quiet.warning("%d files", "three")
    assert "'%d files'" in lines[0].message and "do not fit" in lines[0].message


def test_an_exception_is_captured_with_its_frames(capture: Capture, lines: list[LogLine]) -> None:
    try:
        raise ValueError("bad value")
    except ValueError:
        log.exception("it failed")
    assert lines[0].message.startswith("it failed\nTraceback")
    assert "ValueError: bad value" in lines[0].message


def test_a_sink_that_raises_does_not_fail_the_code_that_logs(
    capture: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)

    def sink(line: LogLine) -> None:
        raise RuntimeError("the sink is broken")

    token = current_log_sink.set(sink)
    log.warning("x")
    current_log_sink.reset(token)


@contextmanager
def bare_root() -> Iterator[logging.Logger]:
    """The root logger as a fresh interpreter has it (pytest puts handlers of its own on it for each test)."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []
    root.setLevel(logging.WARNING)
    try:
        yield root
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def test_installing_twice_installs_once() -> None:
    with bare_root() as root:
        assert install() is install()
        assert len(root.handlers) == 1


def test_info_lines_are_captured_where_nobody_configured_logging(
    lines: list[LogLine], capsys: pytest.CaptureFixture[str]
) -> None:
    with bare_root():
        install()
        log.info("info")
    assert [line.message for line in lines] == ["info"]
    assert capsys.readouterr().err == ""


def test_warnings_are_printed_as_before_where_nobody_configured_logging(
    lines: list[LogLine], capsys: pytest.CaptureFixture[str]
) -> None:
    with bare_root():
        install()
        log.warning("to the terminal, too")
    assert capsys.readouterr().err == "to the terminal, too\n"
    assert [line.message for line in lines] == ["to the terminal, too"]


def test_the_users_handlers_and_level_stay_as_they_are(
    lines: list[LogLine], capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[str] = []

    class Users(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())

    with bare_root() as root:
        root.addHandler(Users())
        root.setLevel(logging.ERROR)
        install()
        log.warning("below the user's level")
        log.error("seen by both")
        assert root.level == logging.ERROR
        root.handlers[1:] = []
        root.setLevel(logging.WARNING)
        install()
        log.info("below what the user set up")
        assert root.level == logging.WARNING
    assert seen == ["seen by both"]
    assert [line.message for line in lines] == ["seen by both"]
    assert capsys.readouterr().err == ""
