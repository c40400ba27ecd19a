"""The board of `top` without a terminal: keys, orders, filters, totals, what fits on the screen."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from rich.console import Console

from holdfast.cli.board import KEPT_S, Act, Board, HostView, Order, Snapshot, share_spent, totals_of
from holdfast.cli.board_view import frame, table
from holdfast.cli.keys import Keys
from holdfast.client import BudgetUnitView, BudgetView, ClocksView, ResourcesView, RunView, WorkerView
from holdfast.model import HostStall, Reason, RunState, Unit
from holdfast.rules.clocks import Sign

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
HOST = HostView(
    cores=2, load=0.5, memory_mb=24_000.0, memory_free_mb=20_000.0, stalled=HostStall(12.0, 0.0, 30.0)
)
WORKER = WorkerView(name="w1", host="h", pid=1)


def used(cpu: float, memory: float = 100.0, *, shared: bool = False, processes: int = 2) -> ResourcesView:
    return ResourcesView(
        cpu_percent=cpu, memory_mb=memory, disk_mb=1.0, processes=processes, level="ok", shared=shared
    )


def run(id: str, age_s: float = 0.0, state: RunState = RunState.RUNNING, **changes: Any) -> RunView:
    began = NOW - timedelta(seconds=age_s)
    view = RunView(
        id=id, agent="agent", version="0", state=state, reason=None, queue="default", priority=0, attempts=1,
        failures=0, steps=1, step=None, progress=None, checkpoint=None, resources=None, worker=None, result=None,
        error=None, created_at=began, started_at=began, finished_at=None, tags={},
    )  # fmt: skip
    return replace(view, **changes)


def look(*runs: RunView, after_s: float = 0.0, more: bool = False) -> Snapshot:
    return Snapshot(
        at=NOW + timedelta(seconds=after_s), totals=totals_of(runs, {}), host=HOST, runs=runs, more=more
    )


def board(*runs: RunView, **options: Any) -> Board:
    made = Board(**options)
    made.take(look(*runs), ())
    return made


def press(on: Board, *keys: str) -> list[Order]:
    return [order for key in keys if (order := on.press(key)) is not None]


def shown(on: Board) -> list[str]:
    return [one.id for one in on.shown()]


def drawn(on: Board, snapshot: Snapshot, size: tuple[int, int]) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=size[0], height=size[1]).print(frame(on, snapshot, size, "sqlite:///s"), end="")
    return file.getvalue().removesuffix("\n").split("\n")


def test_a_folder_with_more_files_than_are_counted_is_at_least_so_large() -> None:
    for at_least, cell in ((False, " 2.0 GB"), (True, "≥ 2.0 GB")):
        size = replace(used(1.0), workspace_mb=2000.0, workspace_at_least=at_least)
        file = io.StringIO()
        Console(file=file, width=200).print(table([run("r", resources=size)], 200))
        assert cell in file.getvalue()
        assert ("≥" in file.getvalue()) is at_least


# --- keys -------------------------------------------------------------------------------------------------------


def test_bytes_are_cut_into_keys_wherever_they_are_split() -> None:
    data = "ja\x1b[A\x1bOB\x1b[5~é\r\x7f\x1b[1;5C漢q".encode()
    whole = ["j", "a", "up", "down", "page up", "é", "enter", "backspace", "漢", "q"]
    assert Keys().feed(data) == whole
    keys = Keys()
    assert [key for byte in data for key in keys.feed(bytes([byte]))] == whole


def test_an_escape_is_a_key_when_nothing_follows() -> None:
    keys = Keys()
    assert keys.feed(b"\x1b") == []
    assert keys.settle() == ["escape"]
    assert keys.settle() == []
    assert keys.feed(b"\x1bq") == ["escape", "q"]


def test_what_no_keyboard_sends_is_passed_over() -> None:
    keys = Keys()
    assert keys.feed(b"\x1b[99~\x00\x02k") == ["k"]
    assert keys.feed(b"\x1b[" + b"0" * 40)[:1] != ["escape"]
    keys.settle()
    assert keys.feed(b"\xff\xff\xff\xffq")[-1] == "q"


# --- moving, sorting, filtering ---------------------------------------------------------------------------------


def test_a_selection_moves_and_stays_on_its_run_when_the_order_changes() -> None:
    on = board(run("a", resources=used(30)), run("b", resources=used(20)), run("c", resources=used(10)))
    assert (shown(on), on.selected) == (["a", "b", "c"], "a")
    press(on, "j", "down")
    assert on.selected == "c"
    press(on, "down", "G")
    assert on.selected == "c"
    press(on, "k")
    on.take(look(run("b", resources=used(99)), run("a"), run("c")), ())
    assert (shown(on)[0], on.selected) == ("b", "b")
    press(on, "end", "home")
    assert on.selected == shown(on)[0]
    on.take(look(run("x")), ())
    assert on.selected == "x"
    on.take(look(), ())
    assert on.selected is None
    assert press(on, "j", "p", "x") == [] and on.message == "no run is selected"


def test_what_is_measured_alone_is_sorted_before_what_is_not() -> None:
    on = board(
        run("shared", resources=used(900, shared=True)),
        run("old", 5, resources=used(1, 900)),
        run("new", 1, resources=used(1, 10)),
        run("busy", 9, resources=used(50, 20)),
    )
    assert shown(on) == ["busy", "new", "old", "shared"]
    press(on, "s")
    assert (on.sort, shown(on)) == ("memory", ["old", "busy", "new", "shared"])
    names = [on.sort]
    for _ in range(4):
        press(on, "s")
        names.append(on.sort)
    assert names == ["memory", "silent", "spent", "newest", "cpu"]


def test_the_tightest_limit_says_how_much_is_spent() -> None:
    def with_budget(id: str, used: float, limit: float | None) -> RunView:
        units = (
            BudgetUnitView(unit=Unit.USD, limit=limit, used=used, reserved=0, remaining=None),
            BudgetUnitView(unit=Unit.STEPS, limit=100, used=1, reserved=0, remaining=99),
        )
        budget = BudgetView(scope=f"run:{id}", soft=0.8, per_s=None, ends_at=None, units=units, waiting=0)
        return run(id, budget=budget)

    half, little, open_ended, none = (
        with_budget("half", 5, 10), with_budget("little", 1, 10), with_budget("open", 9, None), run("none"),
    )  # fmt: skip
    assert [share_spent(one) for one in (half, little, open_ended, none)] == [0.5, 0.1, 0.01, -1.0]
    on = board(none, open_ended, little, half, sort="spent")
    assert shown(on) == ["half", "little", "open", "none"]
    text = "\n".join(drawn(on, look(*on.runs), (120, 12)))
    assert "$5.00/$10.00" in text and "1/100 steps" in text


def test_a_filter_is_typed_kept_and_cleared() -> None:
    on = board(
        run("alpha"), run("beta", worker=WORKER), run("gamma", state=RunState.WAITING, reason=Reason.SIGNAL)
    )
    press(on, "/", *"BE", "q")
    assert (on.mode, on.filter, shown(on)) == ("filter", "BEq", [])
    press(on, "backspace")
    assert shown(on) == ["beta"] and on.selected == "beta"
    press(on, "enter")
    assert on.mode == "table" and shown(on) == ["beta"]
    press(on, "escape")
    assert len(shown(on)) == 3
    for text, found in (("signal", ["gamma"]), ("w1", ["beta"]), ("waiting", ["gamma"])):
        press(on, "/", *text, "enter")
        assert shown(on) == found
        press(on, "escape")
    press(on, "/", *"al", "escape")
    assert on.mode == "table" and len(shown(on)) == 3


# --- acts -------------------------------------------------------------------------------------------------------


def test_what_ends_something_is_asked_first() -> None:
    on = board(run("a"))
    for key, act, said in (
        ("x", Act.KILL, "it goes on from its checkpoint"),
        ("c", Act.CANCEL, "nothing more"),
    ):
        assert press(on, key) == []
        assert (
            on.mode == "ask" and "a: " in on.question() and said in on.question() and "y / n" in on.question()
        )
        assert press(on, "n") == [] and on.message == "nothing was done" and on.mode == "table"
        press(on, key)
        assert press(on, "y") == [Order(act, "a")]
        assert on.mode == "table"
        press(on, key)
        assert press(on, "q") == [] and not on.over  # any other key means no


def test_the_answer_is_for_the_run_that_was_asked_about() -> None:
    on = board(run("a", resources=used(5)), run("b"))
    press(on, "x")
    on.take(look(run("b", resources=used(99)), run("c")), ())
    assert press(on, "y") == [Order(Act.KILL, "a")]


def test_pause_and_throttle_go_both_ways_at_once() -> None:
    on = board(run("a"))
    assert press(on, "p", "t") == [Order(Act.PAUSE, "a"), Order(Act.THROTTLE, "a")]
    on.take(look(run("a", state=RunState.WAITING, reason=Reason.PAUSED, throttled=True)), ())
    assert press(on, "p", "t") == [Order(Act.PAUSE, "a", off=True), Order(Act.THROTTLE, "a", off=True)]


def test_help_is_left_with_any_key_and_q_leaves_the_board() -> None:
    on = board(run("a"))
    press(on, "?")
    assert on.mode == "help"
    press(on, "q")
    assert on.mode == "table" and not on.over
    press(on, "q")
    assert on.over


def test_a_run_that_has_ended_stays_for_some_seconds_at_the_end() -> None:
    on = board(run("a"), run("b"))
    assert on.unfinished == {"a", "b"}
    ended = run("a", state=RunState.SUCCEEDED, finished_at=NOW)
    on.take(look(run("b", 99), after_s=1), [ended])
    assert shown(on) == ["b", "a"] and on.unfinished == {"b"}
    on.take(look(run("b"), after_s=KEPT_S), ())
    assert shown(on) == ["b", "a"]
    on.take(look(run("b"), after_s=KEPT_S + 1.1), ())
    assert shown(on) == ["b"]
    on.take(look(run("b"), after_s=20), [ended])
    on.take(look(run("b"), run("a"), after_s=21), ())  # retried
    assert shown(on).count("a") == 1


# --- totals and the picture --------------------------------------------------------------------------------------


def test_totals_count_a_worker_once_whatever_it_executes() -> None:
    runs = [
        run("own", resources=used(50, 100, processes=3), worker=WORKER),
        run("one", resources=used(80, 300, shared=True), worker=WORKER),
        run("two", resources=used(80, 300, shared=True), worker=WORKER),
        run("waits", state=RunState.WAITING),
        run("next", state=RunState.QUEUED),
    ]
    totals = totals_of(runs, {"w1": used(80, 300, shared=True, processes=5), "w2": used(5, 20, processes=1)})
    assert (totals.running, totals.waiting, totals.queued) == (3, 1, 1)
    assert (totals.cpu_percent, totals.memory_mb, totals.processes) == (85.0, 320.0, 6)
    stale = totals_of(runs[:1], {"w1": used(10, 30, processes=1)})  # the worker's own figures are older
    assert (stale.cpu_percent, stale.memory_mb, stale.processes) == (50.0, 100.0, 3)


@pytest.mark.parametrize("size", [(40, 8), (80, 24), (200, 60), (20, 3)])
@pytest.mark.parametrize("mode", ["table", "help", "ask", "filter"])
def test_a_frame_fits_its_terminal(size: tuple[int, int], mode: Any) -> None:
    clocks = ClocksView(
        lease_left_s=20.0, silent_s=700.0, step_s=12.0, deadline_left_s=90_000.0, sign=Sign.IDLE
    )
    runs = [
        run(f"a-run-with-a-rather-long-name-{n}", n, resources=used(n), worker=WORKER, clocks=clocks)
        for n in range(100)
    ]
    on = board(*runs)
    press(on, "G", "k")
    on.mode, on.asked = mode, Order(Act.KILL, "a")
    lines = drawn(on, look(*runs), size)
    assert len(lines) <= size[1]
    assert all(len(line) <= size[0] for line in lines)
    last = {"table": "of 100", "help": "any key", "ask": "a: kill", "filter": "/"}[mode]
    assert last in lines[-1]
    if mode == "table":
        assert any(line.startswith("a-run-with") for line in lines)


def test_only_the_rows_around_the_selection_are_drawn() -> None:
    runs = [run(f"r{n:04}", n) for n in range(1000)]
    on = board(*runs)
    for _ in range(50):
        press(on, "page down")
    lines = drawn(on, look(*runs, more=True), (120, 20))
    assert on.selected == "r0500"
    assert any(line.startswith("r0500") for line in lines)
    assert not any(line.startswith("r0000") for line in lines)
    assert "of 1,000" in lines[-1] and "(the newest)" in lines[0]


def test_a_narrow_terminal_keeps_what_says_whether_it_hangs() -> None:
    clocks = ClocksView(lease_left_s=20.0, silent_s=700.0, step_s=12.0, deadline_left_s=None, sign=Sign.BUSY)
    one = run("r1", resources=used(97, 2048), clocks=clocks, worker=WORKER, throttled=True)

    def columns(width: int) -> str:
        file = io.StringIO()
        Console(file=file, width=width).print(table([one], width))
        return file.getvalue()

    narrow, wide = columns(60), columns(160)
    for text in ("r1", "running (throttled)", "97 %", "2.0 GB", "busy"):
        assert text in narrow, narrow
    for text in ("AGENT", "LEASE", "20s", "SILENT", "12m", "STEP", "WORKER", "w1"):
        assert text in wide, wide
    assert "DEADLINE" not in wide and "WORKER" not in narrow


def test_figures_of_a_whole_worker_are_marked() -> None:
    one = run("r1", resources=used(97, shared=True), worker=WORKER)
    file = io.StringIO()
    Console(file=file, width=160).print(table([one], 160))
    assert "~97 %" in file.getvalue() and "~100 MB" in file.getvalue()
