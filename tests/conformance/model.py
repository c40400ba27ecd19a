"""What a store must do, in plain Python: an oracle for the state machine, not a Store.

It knows nothing of SQL and nothing of `rules`: it is written from the protocol and the documentation alone, so that two
descriptions of one behaviour meet. Where the protocol leaves a choice (which of two suspects goes first), it checks
the choice that the store made and follows it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

LEASE_US = 30_000_000
WEIGHT_US = 60_000_000
POISON_AFTER = 3
FINAL = ("succeeded", "failed", "cancelled")
HELD = ("poison", "mismatch", "checkpoint_lost")


@dataclass
class ModelRun:
    """A run, as far as the promises see it."""

    key: int
    id: str
    input: bytes
    created: int
    priority: int
    version: str
    available: int | None
    deadline: int | None
    state: str = "queued"
    reason: str | None = None
    token: int = 0
    attempts: int = 0
    failures: int = 0
    worker: int | None = None
    entries: list[tuple[bytes, bool]] = field(default_factory=list)  # payload, superseded
    claimed_position: int = 0
    crashes: int = 0
    alone: int = 0
    suspect: bool = False
    asked: bool = False
    wait_name: str | None = None
    checkpoints: list[int] = field(default_factory=list)  # those still kept
    saved: int = 0
    signals: list[int | None] = field(default_factory=list)  # the position that consumed it

    @property
    def position(self) -> int:
        return len(self.entries)

    @property
    def inbox(self) -> list[int]:
        return [n for n, consumed in enumerate(self.signals, 1) if consumed is None]

    @property
    def runs_alone(self) -> bool:
        return self.suspect and self.position == self.claimed_position

    def forgive(self) -> None:
        if self.position != self.claimed_position:
            self.crashes, self.alone, self.suspect = 0, 0, False

    def save(self, keep: int) -> None:
        self.saved += 1
        self.checkpoints = [*self.checkpoints, self.saved][-keep:]

    def leave(self, state: str, reason: str | None, available: int | None = None) -> None:
        self.state, self.reason, self.available = state, reason, available
        self.worker, self.asked, self.wait_name = None, False, None

    def supersede(self, positions: tuple[int, ...]) -> None:
        for position in positions:
            self.entries[position - 1] = (self.entries[position - 1][0], True)
            self.signals = [None if consumed == position else consumed for consumed in self.signals]


@dataclass
class ModelWorker:
    """A generation of a worker."""

    versions: frozenset[str]
    lease_until: int
    boot: int
    retired: bool = False
    counted: bool = False
    fell_with: int | None = None  # how many runs it held when it was found dead


class Model:
    """The store's memory, and what each operation must make of it."""

    def __init__(self) -> None:
        self.runs: dict[str, ModelRun] = {}
        self.workers: dict[int, ModelWorker] = {}
        self.wall = self.since_boot = self.boot = 0

    def dead(self, worker: int) -> bool:
        known = self.workers[worker]
        return known.retired or known.boot != self.boot or known.lease_until <= self.since_boot

    def held(self, worker: int) -> list[ModelRun]:
        return [run for run in self.runs.values() if run.worker == worker]

    def renew(self, worker: int) -> bool:
        known = self.workers[worker]
        if known.retired:
            return False
        known.lease_until, known.boot, known.fell_with = self.since_boot + LEASE_US, self.boot, None
        return True

    def due(self, run: ModelRun) -> bool:
        if run.deadline is not None and run.deadline <= self.wall:
            return False
        if run.state == "running":
            return self.dead(run.worker)
        return run.state in ("queued", "waiting") and run.available is not None and run.available <= self.wall

    def eligible(self, worker: int) -> list[ModelRun]:
        served = frozenset() if self.workers[worker].retired else self.workers[worker].versions
        return [run for run in self.runs.values() if run.version in served and self.due(run)]

    def claim(self, worker: int, limit: int, got: list[str], moved: set[str]) -> None:
        """Check what the store handed out, then do the same. `moved` names the runs that it held or paused instead."""
        eligible = {run.id: run for run in self.eligible(worker)}
        assert set(got) | moved <= set(eligible), f"{got} or {moved} must not be handed to worker {worker}"
        assert len(got) <= limit
        before = self.held(worker)
        shy = {run_id: self._would_be_suspect(run) for run_id, run in eligible.items()}
        if any(shy[run_id] for run_id in got):
            assert len(got) == 1 and not before, f"{got} must run alone"
        if any(run.runs_alone for run in before):
            assert not got, "nothing is handed out beside a suspect"
        order = [
            run.available + WEIGHT_US * run.priority
            for run in map(eligible.get, got)
            if run.state != "running"
        ]
        assert order == sorted(order), f"{got} is not the order of claims"
        if not moved and not any(run.runs_alone for run in before) and not any(shy[run_id] for run_id in got):
            healthy = [run_id for run_id in eligible if not shy[run_id]]
            assert len(got) == min(limit, len(healthy)), f"{got} of {healthy}: too few"
            assert got or before or not eligible, f"{sorted(eligible)} hold each other up"
        for run_id in moved:
            self._hold_or_pause(eligible[run_id])
        for run_id in got:
            self._hand_out(eligible[run_id], worker)

    def _would_be_suspect(self, run: ModelRun) -> bool:
        fell = run.state == "running" and self._counted(run)
        return run.position == run.claimed_position and (run.suspect or fell)

    def _counted(self, run: ModelRun) -> bool:
        worker = self.workers[run.worker]
        return worker.boot == self.boot and (worker.counted or not worker.retired)

    def _take_over(self, run: ModelRun) -> None:
        worker = self.workers[run.worker]
        if worker.fell_with is None:
            worker.fell_with = len(self.held(run.worker))
        if run.position == run.claimed_position and self._counted(run):
            run.crashes, run.suspect = run.crashes + 1, True
            run.alone += worker.fell_with == 1
        run.forgive()

    def _hold_or_pause(self, run: ModelRun) -> None:
        self._take_over(run)
        assert run.alone >= POISON_AFTER or run.asked, f"{run.id} is held without a reason"
        run.token += 1
        run.leave("waiting", "poison" if run.alone >= POISON_AFTER else "paused")

    def _hand_out(self, run: ModelRun, worker: int) -> None:
        if run.state == "running":
            self._take_over(run)
            assert run.alone < POISON_AFTER and not run.asked, f"{run.id} must be held"
        run.forgive()
        run.state, run.reason, run.worker, run.wait_name = "running", None, worker, None
        run.token += 1
        run.attempts += 1
        run.claimed_position = run.position

    def fenced(self, key: int, token: int, position: int | None) -> ModelRun | None:
        """The run, where law 2 lets the Change through. `position` None: notes only."""
        for run in self.runs.values():
            if (
                run.key == key
                and run.state == "running"
                and run.token == token
                and position in (None, run.position)
            ):
                return run
        return None

    def settle(self, run: ModelRun, outcome: str, *, delay: int = 0, seen: int = 0) -> None:
        run.forgive()
        asked = run.asked
        match outcome:
            case "succeeded" | "failed":
                run.leave(outcome, None)
            case "hold":
                run.leave("waiting", "mismatch")
            case "retry":
                run.failures += 1
                run.leave("queued", "backoff", self.wall + delay)
            case "release":
                run.leave("queued", "drained", self.wall)
            case "sleep":
                run.leave("waiting", "sleep", self.wall + delay)
            case "signal":
                run.leave("waiting", "signal", self.wall if len(run.signals) > seen else None)
                run.wait_name = "go"
        if asked and outcome in ("retry", "release", "sleep", "signal"):
            run.leave("waiting", "paused")

    def operate(self, run: ModelRun, act: str, supersede: tuple[int, ...] = ()) -> bool:
        """Do what an operator asks, or return False where the state table has no such move."""
        held = run.state == "waiting" and run.reason in HELD
        match act:
            case "cancel" if run.state not in ("succeeded", "failed"):
                if run.state != "cancelled":
                    run.token += run.state == "running"
                    run.leave("cancelled", None)
            case "pause" if run.state == "running":
                run.asked = True
            case "pause" if run.state in ("queued", "waiting") and not held:
                run.leave("waiting", "paused")
            case "resume" if run.state == "running" and run.asked:
                run.asked = False
            case "resume" if run.state == "waiting" and run.reason == "paused":
                run.leave("queued", None, self.wall)
            case "retry" if (
                run.state in ("failed", "cancelled")
                or held
                or run.reason == "needs_code"
                or (run.state == "queued" and run.reason == "backoff")
            ):
                run.failures = run.crashes = run.alone = 0
                run.suspect = False
                if run.deadline is not None and run.deadline <= self.wall:
                    run.deadline += self.wall - run.created
                run.leave("queued", None, self.wall)
                run.supersede(supersede)
            case _:
                return False
        return True

    def signal(self, run: ModelRun, name: str) -> bool:
        if run.state in FINAL:
            return False
        run.signals.append(None)
        if run.state == "waiting" and run.reason == "signal" and run.wait_name == name:
            run.available = self.wall
        return True

    def sweep(self) -> None:
        served = {v for key, worker in self.workers.items() if not self.dead(key) for v in worker.versions}
        for run in self.runs.values():
            if run.state not in FINAL and run.deadline is not None and run.deadline <= self.wall:
                run.token += run.state == "running"
                run.leave("failed", None)
            elif served and run.state != "running" and self.due(run) and run.version not in served:
                run.leave("waiting", "needs_code")
        self.find_code(served)

    def find_code(self, served: Collection[str]) -> None:
        for run in self.runs.values():
            if run.reason == "needs_code" and run.version in served:
                run.leave("queued", None, self.wall)
