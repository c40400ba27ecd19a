"""Budgets: reserved before a call, settled beside the entry of its outcome, charged to every scope above.

A reservation whose attempt is over (`live` has another token, or none) is of a call whose outcome nobody knows. Whoever
meets it first settles it as used: the same call when it asks again, or a sweep.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from holdfast.errors import NotFound, RunNotFound
from holdfast.model import (
    SOFT_PERCENT,
    Account,
    Amounts,
    BudgetChange,
    BudgetRecord,
    Decision,
    NewBudget,
    NewReservation,
    Note,
    Reserved,
    RunState,
    Settle,
    Unit,
    Verdict,
)
from holdfast.rules import budget as rules
from holdfast.rules import transitions
from holdfast.store.transactions import decisions, rows
from holdfast.store.transactions.connection import Connection, Row

_UNITS: Mapping[str, Unit] = {str(unit): unit for unit in Unit}

MOST_WOKEN: Final = 100
"""Runs that one settled call wakes at most, so that no entry takes long; the next call wakes more."""


class _Scope(NamedTuple):
    """A budget's row, as of now."""

    key: int
    name: str
    soft_percent: int
    per_us: int | None
    since_us: int

    @property
    def ends_at_us(self) -> int | None:
        return None if self.per_us is None else self.since_us + self.per_us


# --- what attempts ask ------------------------------------------------------------------------------------------


def limited(connection: Connection, run: int) -> tuple[str, ...]:
    """The units that some scope of the run limits: nothing is read for it while the store has no limit at all."""
    if connection.row("budgets.any_limit") is None:
        return ()
    keys = [row[0] for row in connection.rows("budgets.chain", (run,))]
    return tuple(unit for (unit,) in connection.rows("budgets.limited", (json.dumps(keys),)))


def reserve(connection: Connection, asked: Sequence[NewReservation], now_us: int) -> list[Reserved]:
    """Reserve for each call that asks, in order, inside the caller's transaction."""
    return [_reserve(connection, new, now_us) for new in asked]


def _reserve(connection: Connection, new: NewReservation, now_us: int) -> Reserved:
    if connection.row("budgets.runs_under", (new.run, new.token)) is None:
        return Reserved(verdict=Verdict.FENCED)
    held = connection.rows("budgets.of_call", (new.run, new.call))
    if held and held[0][3] == new.token:
        return Reserved(verdict=Verdict.GRANTED)  # its answer was lost
    if held:
        _settle_lost(connection, new.run, new.call, held, now_us)
    chain = _chain(connection, new.run, now_us, models=Unit.REQUESTS in new.asked)
    refused = next(
        (found for scope in chain if (found := _refused(connection, scope, new.asked, now_us))), None
    )
    if refused is not None:
        scope, answer = refused
        connection.run("budgets.wait", (new.run, scope.key, answer.unit, answer.asked))
        return answer
    connection.run("budgets.wait_no_more", (new.run,))
    for scope in chain:
        for unit, amount in new.asked.items():
            if amount:
                _save(connection, scope, rules.reserve(_account(connection, scope, unit), amount))
                connection.run("budgets.hold", (new.run, new.call, scope.key, unit, amount, new.token))
    return Reserved(verdict=Verdict.GRANTED)


def _refused(
    connection: Connection, scope: _Scope, asked: Amounts, now_us: int
) -> tuple[_Scope, Reserved] | None:
    accounts = {account.unit: account for account in _accounts(connection, scope)}
    verdicts = {unit: rules.verdict(account, asked.get(unit, 0)) for unit, account in accounts.items()}
    unit = rules.worst(verdicts)
    if unit is None:
        return None
    account, wanted = accounts[unit], asked.get(unit, 0)
    return scope, Reserved(
        verdict=verdicts[unit],
        scope=scope.name,
        unit=unit,
        asked=wanted,
        hard=account.hard or 0,
        used=account.used,
        reserved=account.reserved,
        wait_us=rules.wait_us(account, wanted, now_us, scope.ends_at_us),
    )


def settle(connection: Connection, run: int, position: int, thing: Settle, now_us: int) -> None:
    """Charge what the call used, and let go what it had reserved."""
    held = connection.rows("budgets.of_call", (run, thing.call))
    _let_go(connection, run, thing.call, held)
    _charge(connection, run, thing.spent, now_us, models=Unit.REQUESTS in thing.spent)
    _make_room(connection, held, now_us)


def was_cut_off(connection: Connection, run: int) -> bool:
    """Whether the code of a run that runs has died in a body, and its working time is counted."""
    return connection.row("budgets.cut_off", (run,)) is not None


def charge_cut_off(connection: Connection, run: int, now_us: int, *, worker: int | None = None) -> bool:
    """The code of a run that runs has died in a body: charge the working time that is known of it, until its dead
    `worker` was heard last, else until now; whether anything was charged. Its other reservations are settled as lost.

    What is known is the step that was told last: of several side by side, and of one that had just begun, less.
    """
    row = connection.row("budgets.cut_off", (run,))
    if row is None:
        return False
    until_us: int | None = now_us
    if worker is not None:
        figures = rows.sample_of(connection.value("budgets.last_figures", (worker,)))
        until_us = None if figures is None else figures.at_us
    told: dict[str, object] = msgspec.json.decode(row[0])
    worked_us = rules.cut_off(told, connection.value("budgets.step_of", (run,)), until_us, now_us)
    if worked_us:
        _charge(connection, run, {Unit.WORKING_S: worked_us}, now_us, models=False)
    return worked_us > 0


def waits(connection: Connection, run: int) -> bool:
    """Whether the budget that the run was refused by has not been raised since."""
    return connection.row("budgets.waits", (run,)) is not None


def settle_lost(connection: Connection, now_us: int, limit: int) -> int:
    """Settle reservations of attempts that are over, of at most `limit` calls; return of how many."""
    calls = connection.rows("budgets.lost", (max(0, limit),))
    for run, call in calls:
        _settle_lost(connection, run, call, connection.rows("budgets.of_call", (run, call)), now_us)
    return len(calls)


def _settle_lost(connection: Connection, run: int, call: str, held: Sequence[Row], now_us: int) -> None:
    """Nobody knows what the call used. Each scope is charged what was reserved there, whatever became of the run; that
    a soft limit is passed is told in its feed, if it has one."""
    _let_go(connection, run, call, held)
    by_scope: dict[int, Amounts] = {}
    for budget, unit, amount, _ in held:
        by_scope.setdefault(budget, {})[_UNITS[unit]] = amount
    for budget, amounts in by_scope.items():
        for unit, amount in rules.lost(amounts).items():
            row = connection.row("budgets.account", (budget, unit))
            assert row is not None, "a reservation's account is there"
            before = _account_of(row)
            after = rules.settle(before, 0, amount)
            _save_account(connection, budget, after)
            scope = _Scope(*connection.row("budgets.by_key", (budget,)) or ())
            if rules.passes_soft(before, after, scope.soft_percent):
                _tell_anyway(connection, run, _soft(scope.name, after), now_us)
    _make_room(connection, held, now_us)


def _let_go(connection: Connection, run: int, call: str, held: Sequence[Row]) -> None:
    for budget, unit, amount, _ in held:
        row = connection.row("budgets.account", (budget, unit))
        assert row is not None, "a reservation's account is there"
        _save_account(connection, budget, rules.settle(_account_of(row), amount, 0))
    if held:
        connection.run("budgets.let_go", (run, call))


def _make_room(connection: Connection, held: Sequence[Row], now_us: int) -> None:
    """Where a reservation was let go, wake who waited for that, as many as fit beside each other."""
    for budget in sorted({row[0] for row in held}):
        left: dict[str, int] = {}
        for run, unit, asked, room in connection.rows("budgets.may_fit", (budget, MOST_WOKEN)):
            if asked <= left.setdefault(unit, room):
                left[unit] -= asked
                _wake(connection, run, now_us)


def _charge(connection: Connection, run: int, spent: Amounts, now_us: int, *, models: bool) -> None:
    for scope in _chain(connection, run, now_us, models=models):
        for unit, amount in spent.items():
            before = _account(connection, scope, unit)
            after = rules.settle(before, 0, amount)
            _save(connection, scope, after)
            if rules.passes_soft(before, after, scope.soft_percent):
                _tell(connection, run, _soft(scope.name, after), now_us)


def _chain(connection: Connection, run: int, now_us: int, *, models: bool) -> list[_Scope]:
    """The scopes of a run, its own first. One that uses a model and has none gets its own, which only counts, and says
    so: once."""
    chain = [_now(connection, _Scope(*row[:5]), now_us) for row in connection.rows("budgets.chain", (run,))]
    if chain or not models:
        return chain
    (run_id,) = connection.row("budgets.run_named", (run,)) or ("",)
    scope = _add(connection, f"run:{run_id}", run, None, now_us)
    message = (
        "the run uses a model and has no budget: give its agent one, @agent(budget=Budget(usd=5)), or "
        f"`holdfast budget set {run_id} --usd 5`"
    )
    _tell(connection, run, Note("budget.missing", rows.event_json(message=message)), now_us)
    return [scope]


def _tell(connection: Connection, run: int, note: Note, now_us: int) -> None:
    """An event in the feed of the run, which runs."""
    event_no = connection.value("budgets.count_event", (run,))
    decisions.write_notes(connection, run, event_no, (note,), now_us)


def _tell_anyway(connection: Connection, key: int, note: Note, now_us: int) -> None:
    """The same, whatever became of the run: one that was deleted has no feed."""
    run = decisions.run_by_key(connection, key)
    if run is not None:
        decisions.apply(connection, run, Decision(run=run, notes=(note,)), now_us)


def _soft(scope: str, account: Account) -> Note:
    told = rows.event_json(scope=scope, unit=account.unit, used=account.used, hard=account.hard)
    return Note("budget.soft", told)


# --- what operators do ------------------------------------------------------------------------------------------


def create(connection: Connection, run: int, run_id: str, new: NewBudget, now_us: int) -> None:
    """Give a new run its budget."""
    _add(connection, f"run:{run_id}", run, new, now_us)


def change(connection: Connection, name: str, asked: BudgetChange, now_us: int) -> BudgetRecord:
    """Change a budget, made when it is not there, and wake the runs that wait for it. Raises RunNotFound, Refused."""
    scope = _find(connection, name, now_us)
    run_id, run = rules.run_of_scope(name), None
    if run_id is not None:
        run = connection.value("budgets.key_of", (run_id,))
        if run is None:
            raise RunNotFound(f"no run has the id {run_id!r} in {connection.where}; `holdfast ls` lists them")
        transitions.check_whole(decisions.run_by_id(connection, run_id))
    if scope is None:
        scope = _add(connection, name, run, None, now_us)
    before = _accounts(connection, scope)
    for unit, hard in asked.set.items():
        _save(connection, scope, msgspec.structs.replace(_account(connection, scope, unit), hard=hard))
    for unit, added in asked.add.items():
        account = _account(connection, scope, unit)
        hard = rules.changed(name, account.hard, unit, added)
        _save(connection, scope, msgspec.structs.replace(account, hard=hard))
    per_us = scope.per_us if asked.per_us is None else asked.per_us or None
    since_us = scope.since_us
    if per_us != scope.per_us:
        since_us = now_us if per_us is None else rules.window_start(rules.check_per(per_us), now_us)
    soft_percent = asked.soft_percent or scope.soft_percent
    connection.run("budgets.change", (scope.key, soft_percent, per_us, since_us))
    if run is not None:
        after = _accounts(connection, scope)
        limits = {account.unit: account.hard for account in after}
        _tell_anyway(connection, run, Note("budget.set", rows.event_json(limits=limits)), now_us)
        was = {account.unit: account for account in before}
        for account in after:
            if rules.passes_soft(was.get(account.unit, Account(unit=account.unit)), account, soft_percent):
                _tell_anyway(connection, run, _soft(name, account), now_us)
    _wake_all(connection, scope, now_us)
    return _record(connection, _Scope(scope.key, name, soft_percent, per_us, since_us))


def _wake_all(connection: Connection, scope: _Scope, now_us: int) -> None:
    for (run,) in connection.rows("budgets.waiting", (scope.key,)):
        _wake(connection, run, now_us)


def _wake(connection: Connection, key: int, now_us: int) -> None:
    """A run that waits for its budget asks again; an attempt that is about to park for it does not park."""
    connection.run("budgets.wait_no_more", (key,))
    run = decisions.run_by_key(connection, key)
    if run is not None and run.state is RunState.WAITING:
        decisions.apply(connection, run, transitions.fund(run, now_us), now_us)


def forget(connection: Connection, name: str, now_us: int) -> None:
    """Delete a budget and what was used of it; who waits for it goes on. Raises NotFound."""
    scope = _find(connection, name, now_us)
    if scope is None:
        there = ", ".join(repr(row[1]) for row in connection.rows("budgets.all", (True, 20))) or "none"
        raise NotFound(f"there is no budget {name!r} in {connection.where}; there is {there}")
    _wake_all(connection, scope, now_us)
    connection.run("budgets.forget", (scope.key,))


def of_run(connection: Connection, run_id: str, now_us: int) -> list[BudgetRecord]:
    """The budgets that the run is charged to, its own first. Raises RunNotFound."""
    run = decisions.run_by_id(connection, run_id)
    found = connection.rows("budgets.chain", (run.key,))
    return [_record(connection, _peek(_Scope(*row[:5]), now_us)) for row in found]


def get(connection: Connection, name: str, now_us: int) -> BudgetRecord | None:
    """A budget by its scope, or None."""
    row = connection.row("budgets.by_scope", (name,))
    return None if row is None else _record(connection, _peek(_Scope(*row), now_us))


def listed(connection: Connection, now_us: int, limit: int, *, runs: bool) -> list[BudgetRecord]:
    """The shared budgets, and with `runs` those of runs that limit something."""
    found = connection.rows("budgets.all", (runs, limit))
    return [_record(connection, _peek(_Scope(*row), now_us)) for row in found]


# --- schedules --------------------------------------------------------------------------------------------------


def put_of_schedule(connection: Connection, name: str, new: NewBudget | None) -> None:
    """The budget that each run of the schedule gets."""
    if new is None:
        connection.run("budgets.drop_of_schedule", (name,))
    else:
        limits = msgspec.json.encode(new.limits)
        connection.run("budgets.put_of_schedule", (name, limits, new.soft_percent))


def of_schedule(connection: Connection, name: str) -> NewBudget | None:
    """The same, read back."""
    row = connection.row("budgets.of_schedule", (name,))
    if row is None:
        return None
    limits: Amounts = msgspec.json.decode(row[0], type=dict[Unit, int])
    return NewBudget(limits=limits, soft_percent=row[1])


# --- rows -------------------------------------------------------------------------------------------------------


def _add(connection: Connection, name: str, run: int | None, new: NewBudget | None, now_us: int) -> _Scope:
    soft_percent = SOFT_PERCENT if new is None else new.soft_percent
    key: int = connection.value("budgets.add", (name, run, soft_percent, now_us))
    scope = _Scope(key, name, soft_percent, None, now_us)
    for unit, hard in ({} if new is None else new.limits).items():
        _save(connection, scope, Account(unit=unit, hard=hard))
    return scope


def _find(connection: Connection, name: str, now_us: int) -> _Scope | None:
    row = connection.row("budgets.by_scope", (name,))
    return None if row is None else _now(connection, _Scope(*row), now_us)


def _peek(scope: _Scope, now_us: int) -> _Scope:
    """The scope in the window that is now."""
    if scope.per_us is None or not rules.begins_anew(scope.per_us, scope.since_us, now_us):
        return scope
    return scope._replace(since_us=rules.window_start(scope.per_us, now_us))


def _now(connection: Connection, scope: _Scope, now_us: int) -> _Scope:
    """The same; a new window is written down."""
    found = _peek(scope, now_us)
    if found is not scope:
        connection.run("budgets.begin_window", (found.key, found.since_us))
        connection.run("budgets.begin_units", (found.key,))
    return found


def _accounts(connection: Connection, scope: _Scope) -> list[Account]:
    return [_account_of(row) for row in connection.rows("budgets.accounts", (scope.key,))]


def _account(connection: Connection, scope: _Scope, unit: Unit) -> Account:
    row = connection.row("budgets.account", (scope.key, unit))
    return Account(unit=unit) if row is None else _account_of(row)


def _account_of(row: Row) -> Account:
    return Account(unit=_UNITS[row[0]], hard=row[1], used=row[2], reserved=row[3])


def _save(connection: Connection, scope: _Scope, account: Account) -> None:
    _save_account(connection, scope.key, account)


def _save_account(connection: Connection, budget: int, account: Account) -> None:
    connection.run("budgets.save", (budget, account.unit, account.hard, account.used, account.reserved))


def _record(connection: Connection, scope: _Scope) -> BudgetRecord:
    accounts = tuple(_accounts(connection, scope))
    row = connection.row("budgets.by_scope", (scope.name,))
    if row is not None and row[4] != scope.since_us:  # a window that nothing was charged in yet
        accounts = tuple(msgspec.structs.replace(account, used=0) for account in accounts)
    return BudgetRecord(
        scope=scope.name,
        soft_percent=scope.soft_percent,
        per_us=scope.per_us,
        ends_at_us=scope.ends_at_us,
        accounts=accounts,
        waiting=connection.value("budgets.count_waiting", (scope.key,)),
    )
