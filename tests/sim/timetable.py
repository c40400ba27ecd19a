"""Schedules in the simulated world: a process that adds and steers them, and their laws.

1. A due time is met once, and none is passed over in silence: fires of times follow each other without a gap.
2. A fired fire has exactly one run, born in its transaction; a run of a schedule has exactly one fire.
3. While overlap forbids it, no two runs of a schedule are unfinished.
4. Each success that a schedule comes after has exactly one fire, there as soon as the success is.
5. A fire that waits for its turn is looked at as soon as nothing is in its way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from holdfast import Context, Schedule, agent
from holdfast.client import Client
from holdfast.rules import firing
from holdfast.store.sqlite.connection import Connection
from holdfast.testing.loop import VirtualClock
from tests.sim.laws import LawBroken

OPERATIONS: Final = frozenset({
    "put_schedule", "pause_schedule", "resume_schedule", "remove_schedule", "run_schedule_now", "backfill_schedule",
    "fire_schedules",
})  # fmt: skip
FIRST_TIMES_S: Final = (7, 20, 45)


@agent
async def chime(ctx: Context, seconds: float) -> str:
    """What schedules start: it takes some time."""
    await ctx.step(_ring)
    await ctx.sleep(seconds)
    return await ctx.step(_ring)


@agent
async def echo(ctx: Context) -> str:
    """What follows it."""
    return await ctx.step(_ring)


async def _ring() -> str:
    await asyncio.sleep(0.5)
    return "ding"


def schedules(chance: Any) -> list[Schedule]:
    """The schedules of a seed."""
    made: list[Schedule] = []
    for n in range(chance.randint(1, 3)):
        overlap = chance.choice(["skip", "queue", "cancel", "allow"])
        kinds = ["skip", "last", "all"] if overlap in ("queue", "allow") else ["skip", "last"]
        made.append(
            Schedule(
                f"time-{n}",
                chime,
                [chance.choice([0.0, 5.0, 40.0])],
                every=chance.choice(FIRST_TIMES_S),
                overlap=overlap,
                catch_up=chance.choice(kinds),
                catch_up_most=3,
                jitter=chance.choice([0, 0, 5]),
            )
        )
    follows = chance.choice(["time-0", "chime"])
    made.append(Schedule("then", echo, after=follows, overlap=chance.choice(["queue", "allow"])))
    return made


async def keep(
    client: Client, wanted: list[Schedule], chance: Any, calm: Callable[[], bool], surely: Any
) -> None:
    """Add them, and do with them what people do, until it is calm."""
    for schedule in wanted:
        await surely(lambda s=schedule: client.schedules.add(s))  # type: ignore[misc]
    while not calm():
        await asyncio.sleep(chance.expovariate(1 / 10))
        again = chance.choice(wanted)
        name = again.name
        deeds = [
            lambda n=name: client.schedules.pause(n),
            lambda n=name: client.schedules.resume(n),
            lambda n=name: client.schedules.resume(n),
            lambda n=name: client.schedules.run_now(n),
            lambda s=again: client.schedules.add(s),
        ]
        if name != "then":
            now = datetime.fromtimestamp(await surely(client.store.now) / 1e6, UTC)
            deeds.append(lambda n=name, t=now: client.schedules.backfill(n, t - timedelta(seconds=60)))
        await surely(chance.choice(deeds))


class TimetableLaws:
    """Watches the schedules of one store."""

    def __init__(self, path: Path, clock: VirtualClock) -> None:
        self._clock = clock
        self._db = Connection(path, reads_only=True)
        self._stood: dict[str, tuple[int, int]] = {}
        self.fired = 0

    def close(self) -> None:
        self._db.close()

    def check(self) -> None:
        """All laws, on the store as it is."""
        with self._db.moment():
            self.fired = 0
            for row in self._db.rows(
                "SELECT name, every_us, anchor_us, after, overlap, last_due_us, fires, paused, wake_us FROM schedules"
            ):
                self._check(*row)
            born = self._db.value("SELECT count(*) FROM runs WHERE id GLOB 'time-*' OR id GLOB 'then-*'")
            if born != self.fired:
                raise LawBroken(f"{born} runs of schedules, {self.fired} fires that became one")

    def _check(
        self, name: str, every_us: int | None, anchor_us: int | None, after: str | None,
        overlap: str, last_due_us: int | None, count: int, paused: int, wake_us: int | None,
    ) -> None:  # fmt: skip
        before = self._stood.get(name, (0, 0))
        self._stood[name] = stands = (last_due_us or 0, count)
        self._law(stands[0] >= before[0] and stands[1] >= before[1], name, f"went back to {stands}")
        fires = self._db.rows(
            "SELECT n, mark, due_us, cause, status, run, run_key, active, why, at_us FROM schedule_fires"
            " WHERE schedule = ? ORDER BY n",
            (name,),
        )
        oldest = max(0, count - firing.KEPT_FIRES)
        self._law(
            [row[0] for row in fires if row[0] > oldest] == list(range(oldest + 1, count + 1)), name, "a gap"
        )
        for fire in fires:
            self._check_fire(name, fire)
        if every_us is not None and anchor_us is not None:
            self._check_times(name, fires, every_us, anchor_us, last_due_us)
        if after is not None:
            self._check_following(name, after, fires)
        if any(row[4] == "queued" for row in fires) and not any(row[7] for row in fires) and not paused:
            due = wake_us is not None and (wake_us <= self._clock.wall_us() or self._clock.jumped)
            self._law(due, name, f"a fire waits for nothing, and will be looked at {wake_us}")
        if overlap != "allow":
            unfinished = [row[5] for row in fires if row[7] and row[3] != "person"]
            self._law(len(unfinished) <= 1, name, f"overlap is {overlap}, and {unfinished} are unfinished")

    def _check_fire(self, name: str, fire: tuple[Any, ...]) -> None:
        n, _, _, _, status, run, key, active, _, at_us = fire
        if status != "fired":
            self._law(key is None and not active, name, f"fire {n} is {status} and has a run")
            return
        self.fired += 1
        found = self._db.row("SELECT key, finished_at_us, created_at_us FROM runs WHERE id = ?", (run,))
        assert found is not None, f"{name}: fire {n} has no run"
        self._law(found[0] == key, name, f"fire {n} names run {key}, which is {found[0]}")
        self._law(bool(active) == (found[1] is None), name, f"fire {n}: active {active}, end {found[1]}")
        self._law(found[2] == at_us, name, f"fire {n} at {at_us}, its run at {found[2]}")

    def _check_times(
        self, name: str, fires: list[tuple[Any, ...]], every_us: int, anchor_us: int, last_due_us: int | None
    ) -> None:
        dues = {row[2]: row for row in fires if row[3] in ("time", "backfill")}
        self._law(
            len(dues) == sum(row[3] in ("time", "backfill") for row in fires),
            name,
            "a due time was met twice",
        )
        self._law(all((due - anchor_us) % every_us == 0 for due in dues), name, "a due time out of step")
        due_us = last_due_us
        while due_us is not None and due_us > anchor_us:
            self._law(due_us in dues, name, f"the due time {due_us} was passed over in silence")
            if "so were those before it" in (dues[due_us][8] or ""):
                break  # it says so
            if dues[due_us][3] == "backfill" and due_us - every_us not in dues:
                break  # it said so until somebody asked for it after all
            due_us -= every_us

    def _check_following(self, name: str, after: str, fires: list[tuple[Any, ...]]) -> None:
        marks = {row[1] for row in fires if row[3] == "run"}
        if after == "chime":
            found = self._db.rows("SELECT key FROM runs WHERE agent = 'chime' AND state = 'succeeded'")
        else:
            found = self._db.rows(
                "SELECT runs.key FROM schedule_fires JOIN runs ON runs.key = run_key"
                " WHERE schedule = ? AND state = 'succeeded'",
                (after,),
            )
        done = {f"run {row[0]}" for row in found}
        self._law(marks == done, name, f"fires of {marks - done} too many, of {done - marks} missing")

    def _law(self, holds: bool, name: str, message: str) -> None:
        if not holds:
            raise LawBroken(f"schedule {name}: {message}")
