"""What only a person can move: open questions, then runs that are held, paused or without code."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from holdfast.cli.explain import explain
from holdfast.client import ApprovalView, Client, Detail, RunView
from holdfast.client.view import at
from holdfast.model import HELD_REASONS, Reason, RunFilter, RunState

FOR_PEOPLE: Final = HELD_REASONS | {
    Reason.PAUSED,
    Reason.PARKED,
    Reason.NEEDS_CODE,
    Reason.BUDGET,
    Reason.LOOP,
}
"""Waits that nothing but a person ends. Questions are listed for themselves; a signal may come from a program."""
_NOTHING: Final = Detail(
    failure=None, mismatch=None, mismatch_entry=None, wait_name=None, due_at=None, asked=None
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Something that waits for a person, and the command that moves it. `kind` is `approval`, or the reason of a wait.

    `since` is when it was asked, of a run when it was created.
    """

    kind: str
    run: str
    agent: str
    question: int | None
    what: str
    options: tuple[str, ...]
    overdue: bool
    escalate_to: str | None
    since: datetime
    expires_at: datetime | None
    command: str


async def needs_of(client: Client, limit: int) -> list[Need]:
    """What waits for a person, at most `limit`: questions first, the overdue ones before the others."""
    found = [need_of_question(view) for view in await client.approvals(limit=limit)]
    if len(found) < limit:
        chosen = RunFilter(states=frozenset({RunState.WAITING}), reasons=FOR_PEOPLE, limit=limit - len(found))
        now = at(await client.store.now())
        found += [need_of_run(view, now) for view in await client.views(chosen)]
    return found


def need_of_question(view: ApprovalView) -> Need:
    """A question as something that a person moves."""
    choices = "|".join(shlex.quote(option) for option in view.options)
    return Need(
        kind="approval",
        run=view.run,
        agent=view.agent,
        question=view.n,
        what=view.question,
        options=view.options,
        overdue=view.overdue,
        escalate_to=view.escalate_to,
        since=view.asked_at,
        expires_at=view.expires_at,
        command=f"holdfast approve {shlex.quote(view.run)} {choices} --question {view.n}",
    )


def need_of_run(view: RunView, now: datetime) -> Need:
    """A run that is held, paused or without code: why, and the first way on."""
    why = explain(view, _NOTHING, now)
    several = view.reason in (
        Reason.MISMATCH,
        Reason.BUDGET,
    )  # its page weighs the ways out, or knows which budget
    return Need(
        kind=str(view.reason),
        run=view.id,
        agent=view.agent,
        question=None,
        what=why.why,
        options=(),
        overdue=False,
        escalate_to=None,
        since=view.created_at,
        expires_at=None,
        command=f"holdfast show {shlex.quote(view.id)}" if several else why.ways[0].command,
    )
