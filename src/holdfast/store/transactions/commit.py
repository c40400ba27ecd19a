"""The hot path: Changes of many runs in one transaction.

Laws of this file:
1. The fence (token, state, position) stands in the statement that moves a run's counters; nothing is read before it.
2. One UPDATE for all consecutive plain Changes of a run, one call of SQLite for those of all runs that have nothing
   else, and one INSERT statement for the rows of the whole batch.
3. A refused Change leaves the others untouched: a group that does not fit is tried again Change by Change, and a batch
   in which something cannot be, with a savepoint for each.
4. Within a Change the order in the feed is: notes, entries, progress, checkpoint, what the outcome says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from msgspec import structs
from msgspec.structs import replace

from holdfast.errors import Conflict, Refused
from holdfast.model import (
    AdjustRate,
    Change,
    Committed,
    Crashed,
    Decision,
    EntryKind,
    EntryStatus,
    NewCheckpoint,
    Outcome,
    Park,
    Progress,
    RefusedChange,
    Release,
    Run,
    RunState,
    Succeeded,
)
from holdfast.rules import transitions
from holdfast.store.transactions import beside, budgets, decisions, payloads, questions, rows
from holdfast.store.transactions.connection import Broken, Connection
from holdfast.store.transactions.engine import RATES, RUNS

Answer = Committed | RefusedChange
EventRow = tuple[Any, ...]

_OK = EntryStatus.OK
OUTCOMES: Final = (_OK, EntryStatus.FAILED, EntryStatus.ABANDONED)
"""What a run counts as a step, of whatever call: failed tries and marks are none."""
_ONCE = EntryKind.ONCE
_TOGETHER: Final = 2
"""From so many ends in a batch on they are written together."""
_INLINE: Final = payloads.INLINE_BYTES


def weigh(changes: Sequence[Change]) -> int:
    """How many bytes of results and states the Changes bring. Raises PayloadTooLarge, before anything is written, when
    a payload is over the hard limit."""
    size = 0
    for change in changes:
        for entry in change.entries:
            length = len(entry.payload)
            size += length
            if length > _INLINE:
                payloads.check_size(entry.payload, f"the result of {entry.identity.name!r}")
        if change.checkpoint is not None:
            payloads.check_size(change.checkpoint.state, f"the state of run number {change.run}")
            size += len(change.checkpoint.state)
        if isinstance(change.outcome, Succeeded):
            payloads.check_size(change.outcome.result, f"the result of run number {change.run}")
    return size


def locks_of(changes: Sequence[Change]) -> tuple[str, ...]:
    """The locks that a transaction of these Changes takes, where the database does not lock all of itself."""
    more = rates = False
    for change in changes:
        more = more or change.outcome is not None
        for thing in change.beside:
            more = more or type(thing) in beside.OF_OTHERS
            rates = rates or type(thing) is AdjustRate
    return (RUNS,) * more + (RATES,) * rates


class Gathered(NamedTuple):
    """Plain Changes of any number of runs, as what one statement writes. Rows and answers are numbered from the
    counters that their run has before; their `at_us` is that of the statement."""

    moves: list[tuple[list[int], Move]]
    """Which Changes, by index, move a run by how much; by run, so that whoever locks runs locks them in one order."""
    rows: list[EventRow]
    progress: list[tuple[int, Progress]]
    answers: dict[int, Committed]


def gather(changes: Sequence[Change]) -> Gathered | None:
    """The Changes, where nothing but the fence can refuse them and each payload has its place in its row; else None."""
    return _Rows(changes, 0).gathered()


def commit(connection: Connection, changes: Sequence[Change], now_us: int) -> list[Answer]:
    """Apply the Changes inside the caller's transaction, and answer each."""
    if len(changes) == 1:
        batch = _Batch(connection, changes, now_us, apart=True)
        batch.apply([0])
        return batch.finish()
    by_run: dict[int, list[int]] = {}
    for index, change in enumerate(changes):
        by_run.setdefault(change.run, []).append(index)
    groups = list(by_run.values())
    try:
        with connection.savepoint():
            return _Batch(connection, changes, now_us, apart=False).apply_all(groups)
    except (Refused, Broken):  # one of them cannot be: which one, and that it goes alone
        return _Batch(connection, changes, now_us, apart=True).apply_all(groups)


class Move(NamedTuple):
    """By how much some Changes of one run move its counters; the values of `advance`, in its order."""

    entries: int
    events: int
    steps: int
    step: str | None
    run: int
    token: int
    expected: int | None


class _Rows:
    """Changes as rows, and the answers to them: what they come to when their runs have these counters."""

    def __init__(self, changes: Sequence[Change], now_us: int) -> None:
        self._changes = changes
        self._now_us = now_us
        self._rows: list[EventRow] = []
        self._answers: dict[int, Answer] = {}
        self._progress: dict[int, Progress] = {}

    def _move_of(self, indexes: list[int]) -> Move | None:
        """What the Changes add up to; None when they cannot chain. `expected` is None for Changes without entries."""
        entries = events = steps = 0
        expected: int | None = None
        last = self._changes[indexes[-1]]
        for index in indexes:
            change = self._changes[index]
            if change.token != last.token:
                return None
            if change.entries:
                if expected is None:
                    expected = change.position
                elif change.position != expected + entries:
                    return None
                for entry in change.entries:
                    entries += 1
                    if entry.status in OUTCOMES:
                        steps += 1
            if change.notes:
                events += len(change.notes)
            if change.progress is not None:
                events += 1
        return Move(entries, events + entries, steps, last.step, last.run, last.token, expected)

    def _all_plain(self, indexes: list[int]) -> bool:
        for index in indexes:  # noqa: SIM110 - `all` would make a generator for every run
            if not is_plain(self._changes[index]):
                return False
        return True

    def gathered(self) -> Gathered | None:
        """All of them, numbered from nothing; None when one of them needs more than its fence and its rows."""
        by_run: dict[int, list[int]] = {}
        for index, change in enumerate(self._changes):
            by_run.setdefault(change.run, []).append(index)
        moves: list[tuple[list[int], Move]] = []
        for _, indexes in sorted(by_run.items()):
            move = self._move_of(indexes) if self._all_plain(indexes) else None
            if move is None or not all(self._fits(self._changes[index]) for index in indexes):
                return None
            moves.append((indexes, move))
            self.collect(indexes, 0, 0)
        answers = {index: each for index, each in self._answers.items() if isinstance(each, Committed)}
        return Gathered(moves, self._rows, list(self._progress.items()), answers)

    def _fits(self, change: Change) -> bool:
        entries = all(len(entry.payload) <= _INLINE for entry in change.entries)
        return entries and all(len(note.payload) <= _INLINE for note in change.notes)

    def _keep(self, run: int, payload: bytes) -> tuple[bytes | None, int | None]:
        """In its row."""
        return payload, None

    def collect(self, indexes: list[int], position: int, event_no: int) -> None:
        for index in indexes:
            position, event_no = self._add_rows(self._changes[index], position, event_no)
            self._answers[index] = Committed(position, event_no, self._now_us)

    def _add_rows(self, change: Change, position: int, event_no: int) -> tuple[int, int]:
        """Collect the rows of a Change that follow these counters, and return the counters after them."""
        run, now_us = change.run, self._now_us
        if change.notes:
            for note in change.notes:
                event_no += 1
                self._add_note(run, event_no, note.type, note.payload)
        for entry in change.entries:
            event_no += 1
            position += 1
            status, payload = entry.status, entry.payload
            blob: int | None = None
            kept: bytes | None = payload
            if len(payload) > _INLINE:
                kept, blob = self._keep(run, payload)
            self._rows.append(
                (
                    run, event_no, now_us, "step.finished" if status is _OK else rows.ENTRY_EVENTS[status],
                    position, entry.kind, status, *entry.identity, entry.started_at_us, change.token,
                    entry.args_hash or None, entry.signal, kept, blob,
                )
            )  # fmt: skip
        if change.progress is not None:
            event_no += 1
            self._add_progress(run, event_no, change.progress)
        return position, event_no

    def _add_note(self, run: int, n: int, kind: str, payload: bytes) -> None:
        kept = self._keep(run, payload)
        nothing = (None,) * 12
        self._rows.append((run, n, self._now_us, kind, *nothing, *kept))

    def _add_progress(self, run: int, n: int, progress: Progress) -> None:
        told = rows.event_json(
            current=progress.current,
            total=progress.total,
            description=progress.description,
            phase=progress.phase,
        )
        self._add_note(run, n, "progress", told)
        self._progress[run] = progress


class _Batch(_Rows):
    """One transaction's Changes: the rows they add up to, and the answer to each.

    `apart`: what cannot be is refused by itself, each Change behind a savepoint of its own; otherwise it is raised, and
    the whole batch is to be undone.
    """

    def __init__(
        self, connection: Connection, changes: Sequence[Change], now_us: int, *, apart: bool
    ) -> None:
        super().__init__(changes, now_us)
        self._apart = apart
        self._connection = connection

    def _keep(self, run: int, payload: bytes) -> tuple[bytes | None, int | None]:
        return payloads.keep(self._connection, run, payload)

    def apply_all(self, groups: list[list[int]]) -> list[Answer]:
        """Apply the Changes of several runs, first those of the runs that only go on, all in one call; answer each."""
        going_on: dict[int, tuple[list[int], Move]] = {}
        others: list[list[int]] = []
        for indexes in groups:
            move = self._move_of(indexes) if self._all_plain(indexes) else None
            if move is None or move.expected is None:
                others.append(indexes)
            else:
                going_on[move.run] = indexes, move
        moves = [move for _, move in going_on.values()]
        for position, event_no, reason, run in self._connection.returned("commit.advance", moves):
            indexes, move = going_on.pop(run)
            if reason != self._changes[indexes[-1]].reason:
                self._set_reason(indexes[-1])
            self.collect(indexes, position - move.entries, event_no - move.events)
        for indexes in [*self._end_together(others), *(refused for refused, _ in going_on.values())]:
            self.apply(indexes)
        return self.finish()

    def _end_together(self, groups: list[list[int]]) -> list[list[int]]:
        """End attempts that only end, as many as there are, in as few statements as one; return the other groups."""
        ending: dict[int, tuple[list[int], Move]] = {}
        left: list[list[int]] = []
        for indexes in [] if self._apart or len(groups) < _TOGETHER else groups:
            move = self._move_of(indexes) if self._only_ends(indexes) else None
            if move is None or not self._in_place(indexes[-1], move):
                left.append(indexes)
            else:
                ending[move.run] = indexes, move
        if len(ending) < _TOGETHER:
            return groups
        self._move_all(ending)
        self._settle_all({run: indexes[-1] for run, (indexes, _) in ending.items()})
        return left

    def _only_ends(self, indexes: list[int]) -> bool:
        """Whether the last one says how the attempt ended, and nothing else that could be refused."""
        last = self._changes[indexes[-1]]
        outcome = last.outcome
        if outcome is None or isinstance(outcome, Crashed | Release):
            return False
        if isinstance(outcome, Park) and outcome.unfunded:
            return False
        return self._all_plain(indexes[:-1]) and is_plain(structs.replace(last, outcome=None))

    def _in_place(self, index: int, move: Move) -> bool:
        """Whether a Change without entries stands at the position that those before it come to."""
        last = self._changes[index]
        if last.entries or move.expected is None:
            return True
        return last.position == move.expected + move.entries

    def _move_all(self, ending: Mapping[int, tuple[list[int], Move]]) -> None:
        """Move the counters of all, and collect their rows. Raises Refused when the fence refuses one."""
        moves = [move for _, move in ending.values()]
        notes = [(move.events, move.step, move.run, move.token) for move in moves if move.expected is None]
        found = self._connection.returned(
            "commit.advance", [one for one in moves if one.expected is not None]
        )
        found += self._connection.returned("commit.advance_notes", notes)
        if len(found) < len(moves):
            raise Refused("one of them is fenced out")
        for position, event_no, reason, run in found:
            indexes, move = ending[run]
            last = self._changes[indexes[-1]]
            if move.expected is None and position != last.position:
                raise Refused(f"the run is at position {position}, the Change at {last.position}")
            if reason != last.reason:
                self._set_reason(indexes[-1])
            self.collect(indexes, position - move.entries, event_no - move.events)

    def _settle_all(self, ended: Mapping[int, int]) -> None:
        """Decide what becomes of the runs whose counters were moved: by run, the Change that says how it ended."""
        decisions.look_ahead(self._connection, list(ended))
        moves: dict[int, tuple[Run, Decision]] = {}
        for run, index in ended.items():
            row, ties = decisions.row_with_ties(self._connection, run)
            before, outcome = rows.run_of(row), self._changes[index].outcome
            assert outcome is not None, "it says how the attempt ended"
            decision = transitions.settle(before, outcome, self._now_us)
            if decisions.moves_alone(before, decision, ties):
                moves[run] = before, decision
        for after in decisions.apply_all(self._connection, list(moves.values()), None, self._now_us):
            self._told(ended[after.key], after.event_no)
        for run, index in ended.items():
            outcome, answer = self._changes[index].outcome, self._answers[index]
            if run not in moves and outcome is not None and isinstance(answer, Committed):
                self._flush(run)  # the outcome may supersede what was collected
                self._answers[index] = self._settle(run, outcome, answer)

    def _told(self, index: int, event_no: int) -> None:
        answer = self._answers[index]
        assert isinstance(answer, Committed), "its counters were moved"
        self._answers[index] = structs.replace(answer, event_no=event_no)

    def apply(self, indexes: list[int]) -> None:
        """Apply the Changes of one run, in order; plain ones that follow each other at once."""
        plain: list[int] = []
        for index in indexes:
            if is_plain(self._changes[index]):
                plain.append(index)
                continue
            if plain:
                self._advance(plain)
                plain = []
            self._apply_whole(index)
        if plain:
            self._advance(plain)

    def finish(self) -> list[Answer]:
        """Write the rows of the batch, and return the answers in the order of the Changes."""
        if self._rows:
            self._connection.many("commit.insert_event", self._rows)
        if self._progress:
            self._connection.many(
                "commit.upsert_progress", [self._progress_row(*each) for each in self._progress.items()]
            )
        return [self._answers[index] for index in range(len(self._changes))]

    # --- entries, notes and progress ------------------------------------------------------------------------

    def _advance(self, indexes: list[int]) -> None:
        """Move the run's counters once for all of `indexes`, and collect their rows."""
        moved = self._move(indexes)
        if moved is not None:
            self.collect(indexes, *moved)
        elif len(indexes) == 1:
            self._answers[indexes[0]] = self._refused(self._changes[indexes[0]])
        else:
            for index in indexes:
                self._advance([index])

    def _move(self, indexes: list[int]) -> tuple[int, int] | None:
        """The run's position and event_no before these Changes; None when the fence refuses them or cannot chain."""
        move = self._move_of(indexes)
        if move is None:
            return None
        if move.expected is None:
            row = self._connection.row("commit.advance_notes", (move.events, move.step, move.run, move.token))
        else:
            row = self._connection.row("commit.advance", move)
        if row is None:
            return None
        if row[2] != self._changes[indexes[-1]].reason:
            self._set_reason(indexes[-1])
        return row[0] - move.entries, row[1] - move.events

    def _set_reason(self, index: int) -> None:
        """Nearly never: so that no index is looked at on the hot path."""
        last = self._changes[index]
        self._connection.run("commit.set_reason", (last.reason, last.run))

    def _progress_row(self, run: int, progress: Progress) -> tuple[Any, ...]:
        return (
            run, float(progress.current), None if progress.total is None else float(progress.total),
            progress.description, progress.phase, progress.started_at_us, self._now_us,
        )  # fmt: skip

    # --- everything else: signals, checkpoints, outcomes ----------------------------------------------------

    def _apply_whole(self, index: int) -> None:
        """Apply one Change that is more than steps, notes and progress: all of it or nothing."""
        change = self._changes[index]
        self._flush(change.run)  # what came before stays, whatever becomes of this one
        if not self._apart:
            self._apply_fully(change, index)
            return
        progress = self._progress.get(change.run)
        try:
            with self._connection.savepoint():
                self._apply_fully(change, index)
        except (Refused, Broken) as error:
            self._rows = [row for row in self._rows if row[0] != change.run]
            self._progress.pop(change.run, None)
            if progress is not None:
                self._progress[change.run] = progress
            refused = self._refused(change, str(error))
            self._answers[index] = replace(refused, conflict=isinstance(error, Conflict))

    def _apply_fully(self, change: Change, index: int) -> None:
        self._advance([index])
        answer = self._answers[index]
        if isinstance(answer, Committed):
            self._answers[index] = self._apply_rest(change, answer)
            self._flush(change.run)

    def _apply_rest(self, change: Change, done: Committed) -> Committed:
        position = done.position - len(change.entries)
        fenced = change.checkpoint is not None or change.outcome is not None
        if fenced and change.position != position and not change.entries:
            raise Refused(f"the run is at position {position}, the Change at {change.position}")
        for at, entry in enumerate(change.entries, position + 1):
            if entry.signal is not None:
                self._consume(change.run, entry.signal, at)
        for thing in change.beside:
            beside.write(self._connection, change.run, done.position, thing, self._now_us)
        if change.checkpoint is not None:
            done = self._save(change.run, change.checkpoint, done)
        if change.outcome is not None:
            self._flush(change.run)  # the outcome may supersede what was collected
            done = self._settle(change.run, change.outcome, done)
        return done

    def _consume(self, run: int, signal: int, position: int) -> None:
        self._connection.run("commit.consume_signal", (position, run, signal))
        if self._connection.changed() != 1:
            raise Refused(
                f"signal {signal} is not in the inbox of the run: another entry consumed it, or it never came"
            )

    def _save(self, run: int, new: NewCheckpoint, done: Committed) -> Committed:
        connection = self._connection
        row = connection.row("commit.count_checkpoint", (run,))
        assert row is not None, "the fence let the run through"
        n, event_no = row
        encoding, body = payloads.pack(new.state)
        self._flush(run)
        after = connection.value("commit.tail_start", (run, new.segment, event_no))
        connection.run(
            "commit.insert_checkpoint",
            (run, n, new.segment, new.name, self._now_us, after, new.keep, new.now_us, body,
             payloads.digest(new.state), len(new.state), encoding),
        )  # fmt: skip
        if new.turns:
            connection.run("commit.insert_turns", (run, n, new.turns))
        connection.run("commit.prune_checkpoints", (run, max(1, new.keep)))
        told = rows.event_json(n=n, name=new.name, segment=new.segment, bytes=len(new.state))
        self._add_note(run, event_no, "checkpoint.saved", told)
        for note in questions.passed(connection, run, new.segment):
            event_no = connection.value("commit.count_event", (run,))
            self._add_note(run, event_no, note.type, note.payload)
        return structs.replace(done, event_no=event_no)

    def _settle(self, run: int, outcome: Outcome, done: Committed) -> Committed:
        if isinstance(outcome, Crashed | Release):  # a body that its attempt ends itself is settled beside it
            budgets.charge_cut_off(self._connection, run, self._now_us)
        row, ties = decisions.row_with_ties(self._connection, run)
        before = rows.run_of(row)
        if isinstance(outcome, Park) and outcome.unfunded and not budgets.waits(self._connection, run):
            outcome = replace(outcome, until_us=self._now_us)  # raised since the attempt was refused
        decision = transitions.settle(before, outcome, self._now_us)
        # The attempt knows how it ended: nobody holds the run any more, and `asks` need not tell it.
        after = decisions.apply(self._connection, before, decision, self._now_us, ties=ties, holder=None)
        return structs.replace(done, event_no=after.event_no)

    def _flush(self, run: int) -> None:
        """Write what is collected of this run."""
        if not self._rows:
            return
        mine = [row for row in self._rows if row[0] == run]
        if mine:
            self._rows = [row for row in self._rows if row[0] != run]
            self._connection.many("commit.insert_event", mine)

    def _refused(self, change: Change, message: str | None = None) -> RefusedChange:
        row = self._connection.row("commit.fence", (change.run,))
        if row is None:
            return RefusedChange(
                state=None, token=0, message=f"run number {change.run} is gone from the store"
            )
        state, token, position = rows.STATES[row[0]], row[1], row[2]
        if message is None:
            message = _why(change, state, token, position)
        return RefusedChange(state=state, token=token, message=message)


def is_plain(change: Change) -> bool:
    """Whether nothing but the fence can refuse it."""
    if change.outcome is not None or change.checkpoint is not None or change.beside:
        return False
    for entry in change.entries:  # noqa: SIM110 - `all` would make a generator for every Change
        if entry.signal is not None or entry.kind is _ONCE:
            return False
    return True


def _why(change: Change, state: RunState, token: int, position: int) -> str:
    if token != change.token:
        return f"attempt {change.token} is fenced out: the run's token is {token}, it is {state}"
    if state is not RunState.RUNNING:
        return f"the run is {state}: it records nothing"
    return f"the run is at position {position}, the Change at {change.position}"
