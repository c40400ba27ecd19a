"""What the end of a run means for schedules, written in its transaction; a controller does the rest.

Every run that ends passes here: two indexed reads, which find nothing for a run that no schedule is about.
"""

from __future__ import annotations

from msgspec.structs import replace

from holdfast.model import Run, RunState
from holdfast.rules import firing
from holdfast.store.sql import statements
from holdfast.store.sqlite import schedule_rows
from holdfast.store.sqlite.connection import Connection

_SQL = statements("holdfast.store.sqlite", "sql", "schedules.sql")
_RUN_ENDED, _COMING_AFTER = _SQL["run_ended"], _SQL["coming_after"]


def moved(connection: Connection, before: Run, after: Run, now_us: int) -> None:
    """Note that a run ended, or was taken up again: whose turn it is now, and who comes after it. Never refuses."""
    if before.state.final == after.state.final:
        return
    if not after.state.final:
        connection.run(_SQL["run_taken_up"], (after.key,))
        return
    ended = connection.row(_RUN_ENDED, (after.key,))
    schedule: str | None = None if ended is None else ended[0]
    if schedule is not None:
        connection.run(_SQL["wake_the_waiting"], (schedule, now_us))
    if after.state is RunState.SUCCEEDED:
        for (name,) in connection.rows(_COMING_AFTER, (after.agent, schedule)):
            _come_after(connection, name, after, now_us)


def _come_after(connection: Connection, name: str, source: Run, now_us: int) -> None:
    row = connection.row(_SQL["schedule"], (name,))
    assert row is not None, "it was read in this transaction"
    fire = firing.after(schedule_rows.schedule_of(row), source, now_us)
    if connection.row(_SQL["has_mark"], (name, fire.mark)) is not None:
        return
    n: int = connection.value(_SQL["count_fire"], (name,))
    connection.run(_SQL["insert_fire"], schedule_rows.fire_values(replace(fire, n=n)))
    connection.run(_SQL["wake"], (name, now_us))
