"""What the end of a run means for schedules, written in its transaction; a controller does the rest.

Every run that ends passes here: two indexed reads, which find nothing for a run that no schedule is about.
"""

from __future__ import annotations

from msgspec.structs import replace

from holdfast.model import Run, RunState
from holdfast.rules import firing
from holdfast.store.transactions import schedule_rows
from holdfast.store.transactions.connection import Connection


def moved(connection: Connection, before: Run, after: Run, now_us: int) -> None:
    """Note that a run ended, or was taken up again: whose turn it is now, and who comes after it. Never refuses."""
    if before.state.final == after.state.final:
        return
    if not after.state.final:
        connection.run("schedules.run_taken_up", (after.key,))
        return
    ended = connection.row("schedules.run_ended", (after.key,))
    schedule: str | None = None if ended is None else ended[0]
    if schedule is not None:
        connection.run("schedules.wake_the_waiting", (schedule, now_us))
    if after.state is RunState.SUCCEEDED:
        for (name,) in connection.rows("schedules.coming_after", (after.agent, schedule)):
            _come_after(connection, name, after, now_us)


def _come_after(connection: Connection, name: str, source: Run, now_us: int) -> None:
    row = connection.row("schedules.schedule", (name,))
    assert row is not None, "it was read in this transaction"
    fire = firing.after(schedule_rows.schedule_of(row), source, now_us)
    if connection.row("schedules.has_mark", (name, fire.mark)) is not None:
        return
    n: int = connection.value("schedules.count_fire", (name,))
    connection.run("schedules.insert_fire", schedule_rows.fire_values(replace(fire, n=n)))
    connection.run("schedules.wake", (name, now_us))
