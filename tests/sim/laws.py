"""The laws, asserted after every commit, on the file itself and through a connection of their own.

What the store says is folded event by event, so a check costs what is new. A broken law stops the simulation.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from holdfast.model import Change, Committed, RefusedChange
from holdfast.rules.states import TABLE
from holdfast.store.sqlite.connection import Connection
from holdfast.store.transactions.workers import lock_is_free
from holdfast.testing.loop import VirtualClock
from tests.sim.agents import MARK, Life
from tests.sim.limit_laws import LimitLaws

FINAL: Final = ("succeeded", "failed", "cancelled")
OUTCOMES: Final = ("ok", "failed", "abandoned")
MOVES: Final = {(state, to) for (state, _), targets in TABLE.items() for to in targets}
_SET_WHILE_RUNNING: Final = (None, "throttled", "stuck")

_ROWS: Final = (
    "SELECT key, id, state, reason, token, position, event_no, steps, checkpoint_n, worker, attempts, queue,"
    " available_at_us, wait_name FROM run_rows"
)
_FAMILIES: Final = (
    "SELECT parent, child, on_parent_end, standing, outcome, told.name, (SELECT count(*) FROM signals WHERE"
    " signals.run = parent AND consumed IS NULL AND name = 'holdfast:child/' || runs.id)"
    " FROM children JOIN runs ON runs.key = child LEFT JOIN signals AS told ON told.run = parent AND told.n = outcome"
)
_WORKERS: Final = "SELECT key, lease_until_us, retired, lock_path FROM workers"
_UNREAD: Final = "SELECT count(*) FROM signals WHERE run = ? AND name = ? AND consumed IS NULL"
_UNHEARD: Final = (
    "SELECT count(*) FROM signals WHERE run = ? AND name GLOB 'holdfast:approval/*' AND consumed IS NULL"
)
_NEWS: Final = (
    "SELECT n, type, position, kind, status, segment, scope, name, key, occurrence, token, payload, signal FROM events"
    " WHERE run = ? AND n > ? ORDER BY n"
)
_LIVE: Final = (
    "SELECT runs.queue, count(*) FROM runs JOIN workers ON workers.key = runs.worker"
    " WHERE retired = 0 AND lease_until_us > ? GROUP BY runs.queue"
)


class LawBroken(AssertionError):
    """A law does not hold; the message says which, and where."""


@dataclass
class Told:
    """What the events of a run told so far: the row must equal it."""

    id: str
    state: str = ""
    reason: str | None = None
    token: int = 0
    worker: int | None = None
    position: int = 0
    event_no: int = 0
    steps: int = 0
    checkpoints: int = 0
    segment: int = -1  # of the newest checkpoint
    attempts: int = 0
    progress: float = 0.0
    outcomes: dict[tuple[Any, ...], int] = field(default_factory=dict)  # identity → position, the live ones
    marks: dict[str, int] = field(default_factory=dict)  # mark → position, the live ones
    entries: dict[int, tuple[Any, ...]] = field(default_factory=dict)  # position → the row
    lines: set[str] = field(default_factory=set)
    questions: dict[int, set[str]] = field(
        default_factory=dict
    )  # number → what happened to it  # marks of log lines
    signals: dict[str, int] = field(default_factory=dict)  # name → the newest consumed
    pinned: dict[str, str] = field(default_factory=dict)  # tag → what code saw, in every attempt
    children: set[str] = field(default_factory=set)  # ids that starts recorded
    born: bool = False  # by another run
    superseded: int = 0
    rerun_token: int = 0  # attempts up to this one are from before an operator's retry
    begun: Counter[tuple[int, str]] = field(default_factory=Counter)  # (token, tag) → executions
    recorded: Counter[int] = field(default_factory=Counter)  # token → executions that left an entry
    effects: Counter[str] = field(
        default_factory=Counter
    )  # tag → bodies begun that must not begin twice blindly
    words: Counter[str] = field(default_factory=Counter)  # tag → verdicts that nothing was done
    lives: dict[int, Life] = field(default_factory=dict)  # token → the attempt's own view


class Laws:
    """Watches one store."""

    def __init__(self, path: Path, clock: VirtualClock) -> None:
        self._db = Connection(path, reads_only=True)
        self._clock = clock
        self._version = -1
        self._workers: dict[int, tuple[Any, ...]] = {}  # as they were at the commit before
        self.limits: dict[str, int] = {}
        self.runs: dict[int, Told] = {}
        self.by_id: dict[str, Told] = {}
        self.commits = 0
        self.limit_laws = LimitLaws(self._db, clock)

    def close(self) -> None:
        self._db.close()

    # --- after every commit ---------------------------------------------------------------------------------

    def check(self, operation: str, arguments: Sequence[Any] = (), answer: object = None) -> bool:
        """Whether something was committed; if so, every law holds."""
        version: int = self._db.value("PRAGMA data_version")
        if version == self._version:
            return False
        self._version = version
        self.commits += 1
        with self._db.moment():
            were = {key: told.state for key, told in self.runs.items()}
            born = {row[0] for row in self._db.rows("SELECT child FROM children")}
            for row in self._db.rows(_ROWS):
                self._check_run(operation, row, row[0] in born)
            self._check_families(were)
            if operation == "commit" and isinstance(answer, list):
                self._check_fence(arguments[0], answer)
            if operation in ("claim", "renew_lease") and self.limits:
                self._check_limits()
            if operation == "take_turns" and isinstance(answer, list):
                self.limit_laws.turns(arguments[0], answer)
            if operation == "hold_back":
                self.limit_laws.held_back(arguments[2])
            if operation not in ("take_turns", "hold_back", "renew_lease"):
                self.limit_laws.check_lines()
            self._workers = {row[0]: row for row in self._db.rows(_WORKERS)}
        return True

    def _check_run(self, operation: str, row: tuple[Any, ...], born: bool) -> None:
        key, run_id, _, _, token, position, event_no, steps = row[:8]
        told = self.runs.get(key)
        if told is None:
            told = self.runs[key] = self.by_id[run_id] = Told(run_id)
        told.born = born
        self._law(token >= told.token, told, f"the token fell from {told.token} to {token}")
        if operation == "update_run":
            self._supersede(key, told)
        if event_no != told.event_no:
            self._law(event_no > told.event_no, told, "the number of events fell")
            progress = told.progress
            for event in self._db.rows(_NEWS, (key, told.event_no)):
                self._fold(told, event, token, operation)
                if event[3] == "approval" and event[12] is not None:
                    self._check_answer(key, told, event)
            if told.progress != progress:
                # `once` stands outside the journal's order: a replay that has only such lines left is not silent.
                behind = sum(one[3] == "once" for one in told.entries.values())
                self._law(told.progress >= progress - behind, told,
                          f"progress went back from {progress:g} to {told.progress:g}")  # fmt: skip
                self._law(told.progress <= len(told.outcomes), told, "progress is ahead of what is recorded")
        told.token = token
        if told.worker is not None and row[9] not in (None, told.worker):
            self._check_takeover(told, told.worker)
        told.worker = row[9]
        self._law((position, event_no, steps) == (told.position, told.event_no, told.steps), told,
                  f"the row's counters {position, event_no, steps} are not those of its events")  # fmt: skip
        self._check_row(told, row)

    def _check_row(self, told: Told, row: tuple[Any, ...]) -> None:
        state, reason, checkpoints, worker, attempts = row[2], row[3], row[8], row[9], row[10]
        self._law(state == told.state, told, f"the row is {state}, its events say {told.state}")
        self._law(
            checkpoints == told.checkpoints, told, f"{checkpoints} checkpoints, told {told.checkpoints}"
        )
        self._law(attempts == told.attempts, told, f"{attempts} attempts, told {told.attempts}")
        self._law(
            (state == "running") == (worker is not None), told, "a worker without running, or the reverse"
        )
        if state == "running":
            self._law(reason in _SET_WHILE_RUNNING, told, f"running for the reason {reason}")
        else:
            if reason in ("signal", "approval", "child") and row[12] is None:
                unread: int = self._db.value(_UNREAD, (row[0], row[13]))
                self._law(
                    unread == 0, told, f"it waits for {row[13]!r}, which is in its inbox {unread} times"
                )
            self._law(
                reason == told.reason, told, f"the row's reason is {reason}, its events say {told.reason}"
            )
        self._law(
            reason not in ("mismatch", "checkpoint_lost"), told, f"held as {reason}, and nobody changed code"
        )

    def _fold(self, told: Told, event: tuple[Any, ...], token: int, operation: str) -> None:
        n, kind, position = event[:3]
        self._law(n == told.event_no + 1, told, f"event {n} follows {told.event_no}")
        told.event_no = n
        if kind.startswith("run."):
            self._fold_move(told, kind[4:], json.loads(event[11]))
            return
        if kind == "effect.settled":
            self._law(told.reason == "effect_unknown", told, f"a verdict while {told.state} ({told.reason})")
            return
        if kind.startswith("approval."):
            self._fold_question(told, kind[9:], json.loads(event[11]))
            return
        self._law(told.state == "running" or kind == "checkpoint.corrupt", told, f"{kind} while {told.state}")
        if position is not None:
            self._law(
                event[10] == token or self._ended_with_it(told, event[10], token),
                told,
                f"an entry of attempt {event[10]} while the token is {token}",
            )
            self._fold_entry(told, event)
        elif kind == "checkpoint.saved":
            segment = json.loads(event[11])["segment"]
            self._law(segment > told.segment, told, f"a checkpoint of segment {segment} after {told.segment}")
            told.segment, told.checkpoints = segment, told.checkpoints + 1
        elif kind == "progress":
            told.progress = json.loads(event[11])["current"]
        elif kind == "log":
            line = json.loads(event[11])["message"]
            self._law(line not in told.lines, told, f"the line {line} is recorded twice")
            told.lines.add(line)
        else:
            self._law(kind == "step.started" or operation == "claim", told, f"an event {kind} {event[11]}")

    def _fold_move(self, told: Told, state: str, why: dict[str, Any]) -> None:
        if told.state:
            self._law((told.state, state) in MOVES, told, f"moved from {told.state} to {state}")
        if told.state in FINAL:
            self._law(
                why.get("by") == "operator" or state == told.state, told, f"left {told.state} for {state}"
            )
        told.state, told.reason = state, why.get("reason")
        if state == "running":
            told.attempts += 1

    def _fold_question(self, told: Told, what: str, why: dict[str, Any]) -> None:
        """A question is asked before anything happens to it, answered once, overdue once, and over after its end."""
        n = why["n"]
        before = told.questions.get(n, set())
        self._law(told.state not in FINAL, told, f"question {n} is {what} while {told.state}")
        if what == "asked":
            self._law(
                not before & {"answered", "expired"}, told, f"question {n} is asked again after its end"
            )
            before.discard("withdrawn")
        else:
            self._law("asked" in before, told, f"question {n} is {what} before it was asked")
            self._law(what not in before, told, f"question {n} is {what} twice")
        if what == "answered":
            self._law(not before & {"expired", "withdrawn"}, told, f"question {n} is answered after its end")
        told.questions[n] = before | {what}

    def _check_answer(self, key: int, told: Told, event: tuple[Any, ...]) -> None:
        """What a run records of a question is what the store decided about it."""
        name = self._db.value("SELECT name FROM signals WHERE run = ? AND n = ?", (key, event[12]))
        asked = "SELECT status, choice, comment FROM approvals WHERE run = ? AND n = ?"
        ((status, choice, comment),) = self._db.rows(asked, (key, int(name.rpartition("/")[2])))
        if event[4] == "failed":
            self._law(status == "expired", told, f"no answer is recorded, and the question is {status}")
            return
        said = json.loads(event[11])
        self._law(status == "answered", told, f"an answer is recorded, and the question is {status}")
        self._law((said["choice"], said["comment"]) == (choice, comment), told, f"{said} is not {comment}")

    def _fold_entry(self, told: Told, event: tuple[Any, ...]) -> None:
        _, _, position, kind, status, segment, scope, name, key, occurrence, token, payload, signal = event
        self._law(position == told.position + 1, told, f"entry {position} follows {told.position}")
        told.position = position
        told.entries[position] = event
        identity = (segment, scope, name, key, occurrence) if kind != "once" else ("once", key)
        if status in OUTCOMES:
            known = told.outcomes.get(identity)
            self._law(known is None, told, f"{identity} has two outcomes: entries {known} and {position}")
            told.outcomes[identity] = position
            told.steps += 1
        if status in ("ok", "failed"):
            for found in MARK.finditer(payload.decode()):
                told.marks[found.group()] = position
        if kind in ("step", "once") and status not in ("unseen", "intended"):
            told.recorded[token] += 1
        if kind == "child" and name.endswith((":start", ":call")) and status == "ok":
            told.children.add(json.loads(payload))
        if signal is not None and kind != "child":
            newest = told.signals.get(name, 0)
            self._law(signal > newest or told.superseded > 0, told, f"signal {signal} came after {newest}")
            told.signals[name] = signal

    def _supersede(self, key: int, told: Told) -> None:
        gone = self._db.rows("SELECT position FROM events WHERE run = ? AND superseded = 1", (key,))
        if len(gone) == told.superseded:
            return
        told.superseded = len(gone)
        positions = {row[0] for row in gone}
        told.outcomes = {one: at for one, at in told.outcomes.items() if at not in positions}
        told.marks = {one: at for one, at in told.marks.items() if at not in positions}
        told.pinned = {tag: what for tag, what in told.pinned.items() if what in told.marks}
        told.rerun_token = told.token

    def _check_fence(self, changes: Sequence[Change], answers: list[Committed | RefusedChange]) -> None:
        for change, answer in zip(changes, answers, strict=True):
            if isinstance(answer, Committed):
                told = self.runs[change.run]
                self._law(
                    change.token == told.token or self._ended_with_it(told, change.token, told.token),
                    told,
                    f"attempt {change.token} recorded, token {told.token}",
                )

    @staticmethod
    def _ended_with_it(told: Told, attempt: int, token: int) -> bool:
        """A child that recorded, and that its parent's end cancelled in the same commit."""
        return told.born and attempt == token - 1

    def _check_families(self, were: dict[int, str]) -> None:
        """Every start has its child; a child ends with its parent, and its end is told once."""
        behind = {row[0] for row in self._db.rows("SELECT parent FROM children_behind")}
        born: dict[int, set[str]] = {}
        for parent, child, policy, standing, outcome, named, sent in self._db.rows(_FAMILIES):
            told, mine = self.runs[parent], self.runs[child]
            born.setdefault(parent, set()).add(mine.id)
            over, ended = told.state in FINAL, mine.state in FINAL
            self._law((standing == "open") != ended, mine, f"it is {mine.state}, and stands as {standing}")
            self._law(standing != "swept" or mine.state == "cancelled", mine, "swept, and not cancelled")
            if over and were.get(parent) not in FINAL and parent not in behind:
                self._law(
                    ended or policy == "leave", mine, f"it is {mine.state}, and its parent {told.state}"
                )
            if outcome is not None:
                self._law(named == f"holdfast:child/{mine.id}", mine, f"its end is told by {named}")
            self._law(sent <= 1, mine, f"{sent} untaken outcomes of it are in its parent's inbox")
            if not over and parent not in behind:
                self._law(
                    standing != "ended" or outcome is not None, mine, "its parent was not told of its end"
                )
                self._law(standing != "swept", mine, "its parent goes on without it")
        for key, told in self.runs.items():
            self._law(told.children == born.get(key, set()), told,
                      f"it started {told.children}, and its children are {born.get(key)}")  # fmt: skip

    def _check_takeover(self, told: Told, worker: int) -> None:
        """A run is taken from a dead worker only: as it was, before this commit."""
        _, until_us, retired, lock = self._workers[worker]
        dead = retired or until_us <= self._clock.boot_us() or (lock is not None and lock_is_free(Path(lock)))
        self._law(dead, told, f"it was taken from worker {worker}, which is alive")

    def _check_limits(self) -> None:
        live: dict[str, int] = dict(self._db.rows(_LIVE, (self._clock.boot_us(),)))
        for queue, limit in self.limits.items():
            count = sum(live.values()) if queue == "*" else live.get(queue, 0)
            if count > limit:
                raise LawBroken(f"queue {queue!r}: {count} live leases, its limit is {limit}")

    # --- what code sees -------------------------------------------------------------------------------------

    def entered(self, life: Life) -> None:
        """An attempt began."""
        told = self.by_id[life.run]
        self._law(life.token <= told.token, told, f"attempt {life.token} before it was claimed")
        self._law(life.token not in told.lives, told, f"attempt {life.token} began twice")
        told.lives[life.token] = life

    def started(self, life: Life, tag: str) -> None:
        """A body is executed: nothing that this attempt could know may answer it."""
        told = self.by_id[life.run]
        told.begun[life.token, tag] += 1
        if life.token <= told.rerun_token:
            return
        group = tag.partition("@")[0]
        for one in told.entries.values():
            if "@" in tag and one[3] == "group" and group in one[7] and one[4] in OUTCOMES:
                at = told.outcomes.get((one[5], one[6], one[7], one[8], one[9]))
                law = f"{tag} executes in attempt {life.token}, and its group was over in attempt {one[10]}"
                self._law(one[10] >= life.token or at != one[2], told, law)
        for mark, position in told.marks.items():
            if mark.startswith(f"<{tag}|") and told.entries[position][4] != "retried":
                by = told.entries[position][10]
                self._law(by > life.token, told, f"{tag} executes in attempt {life.token}, recorded by {by}")

    def begun(self, life: Life, tag: str) -> None:
        """The body of an effect begins: the first time, or because somebody said that nothing was done. Its intent is
        recorded, and by this attempt."""
        told = self.by_id[life.run]
        told.effects[tag] += 1
        self._law(
            told.effects[tag] <= 1 + told.words[tag], told,
            f"{tag} begins {told.effects[tag]} times, and {told.words[tag]} times nothing was done",
        )  # fmt: skip
        intents = [one for one in told.entries.values() if one[7] == tag and one[4] == "intended"]
        self._law(any(one[10] == life.token for one in intents), told, f"{tag} begins without an intent")

    def saw(self, life: Life, tag: str, what: str) -> None:
        """Code saw an outcome: it is in the store, and the same in every attempt."""
        told = self.by_id[life.run]
        if life.token <= told.rerun_token:
            return
        self._law(what in told.marks, told, f"{tag} saw {what}, which is not in the store")
        own = "@" not in tag or "wait" in tag or what.startswith(f"<{tag}|")
        self._law(own, told, f"{tag} saw {what}, which belongs to another part")
        self._pin(told, tag, what)
        for supposed, seen, recorded in life.supposed:
            if recorded is not None:
                at = [one for one in told.entries.values() if supposed in (one[7], one[8]) and one[4] != "ok"]
                self._law(bool(at), told, f"{supposed} was {seen}, and what came later is recorded before it")
            self._pin(told, supposed, seen)
        life.supposed.clear()

    def awoke(self, life: Life, tag: str) -> None:
        """A sleep is over: never before its recorded time."""
        told = self.by_id[life.run]
        if life.token <= told.rerun_token:
            return
        wakes = [int(one[11]) for one in told.entries.values() if one[8] == tag and one[3] == "timer"]
        self._law(len(wakes) == 1, told, f"the sleep {tag} has {len(wakes)} wake times")
        if self._clock.jumped:
            return  # a clock that was set back may say that it is early again
        self._law(self._clock.wall_us() >= wakes[0], told, f"the sleep {tag} ended early")

    def _pin(self, told: Told, tag: str, what: str) -> None:
        known = told.pinned.setdefault(tag, what)
        self._law(known == what, told, f"{tag} was {known}, and is {what} in a later attempt")

    # --- at the end -----------------------------------------------------------------------------------------

    def check_repeats(self) -> None:
        """Each attempt left at most the one step in flight without a record, and what it gave up just before."""
        for told in self.by_id.values():
            begun: Counter[int] = Counter()
            for (token, _), times in told.begun.items():
                begun[token] += times
            for token, times in begun.items():
                lost = times - told.recorded[token]
                life = told.lives[token]
                given_up = sum(recorded == "abandoned" for _, _, recorded in life.supposed)
                self._law(
                    lost <= life.width * (1 + given_up),
                    told,
                    f"attempt {token} left {lost} executions without a record",
                )

    def check_result(self, run_id: str, tags: list[str], result: list[str]) -> None:
        """The result of a play is its lines, each once, in order, as they were seen."""
        told = self.by_id[run_id]
        (key,) = (key for key, one in self.runs.items() if one is told)
        left: int = self._db.value("SELECT count(*) FROM approvals WHERE run = ? AND status = 'open'", (key,))
        self._law(left == 0, told, f"it is done, and asks {left} questions still")
        unread: int = self._db.value(_UNHEARD, (key,))
        self._law(unread == 0 or told.superseded > 0, told, f"{unread} answers were given and never heard")
        self._law(len(result) == len(tags), told, f"{len(result)} results of {len(tags)} lines")
        for tag, what in zip(tags, result, strict=True):
            marks = [found.group() for found in MARK.finditer(what)]
            if tag in told.pinned:
                self._law(
                    what.startswith(told.pinned[tag]) or not marks, told, f"{tag} saw {told.pinned[tag]}"
                )
            for mark in marks:
                self._law(mark in told.marks, told, f"the result has {mark}, which is not in the store")

    def _law(self, holds: bool, told: Told, message: str) -> None:
        if not holds:
            raise LawBroken(f"run {told.id}: {message}")
