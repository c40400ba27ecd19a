"""`approve`: answer what a run asks, or say what became of an effect that nobody knows about."""

from __future__ import annotations

import sys

import click

from holdfast.cli.effects import GIVEN_UP, settle_effect, verdict_of
from holdfast.cli.exits import Exit
from holdfast.cli.options import common, on_run, run_argument
from holdfast.cli.saying import say
from holdfast.cli.views import print_document
from holdfast.client import ApprovalView, Client, RunHandle
from holdfast.client.inbox import meant
from holdfast.client.view import at
from holdfast.errors import UsageError
from holdfast.model import ApprovalStatus


@click.command()
@run_argument
@click.argument("choice", metavar="[CHOICE|ENTRY]", required=False)
@click.option(
    "--question", type=click.IntRange(min=1), metavar="N", help="Which one, when the run asks several."
)
@click.option("--by", metavar="NAME", help="Who answers. [default: the user of this shell]")
@click.option("--comment", metavar="TEXT", default="", help="What the run is told beside the choice.")
@click.option("--done", metavar="JSON|@FILE", help="The effect of ENTRY happened; its step returns this.")
@click.option("--rerun", is_flag=True, help="It did not happen, and cannot any more: its body runs again.")
@click.option(
    "--fail", is_flag=False, flag_value=GIVEN_UP, metavar="[MESSAGE]", help="Neither: its step fails."
)
@common
def approve(
    run_id: str,
    choice: str | None,
    question: int | None,
    by: str | None,
    comment: str,
    done: str | None,
    rerun: bool,
    fail: str | None,
    store: str | None,
    as_json: bool,
) -> int:
    """Answer what a run asks, or say what became of an effect that nobody knows about.

    Without CHOICE the open questions are shown, and at a terminal the answer is asked for. The same answer twice is one
    answer; another one later is refused. With --done, --rerun or --fail it is about the effect of ENTRY, the number
    that `holdfast show ID` names.
    """
    if done is not None or rerun or fail is not None:
        return settle_effect(store, run_id, _entry(choice), verdict_of(done, rerun, fail), as_json)

    async def answer(client: Client, handle: RunHandle[object]) -> int:
        if choice is None:
            return await _show_and_ask(client, handle, question, by, comment, as_json)
        return await _answer(handle, choice, question, by, comment, as_json)

    return on_run(store, run_id, answer)


def _entry(text: str | None) -> int:
    if text is None or not text.isascii() or not text.isdigit():
        raise UsageError(
            f"--done, --rerun and --fail say what became of an effect: ENTRY is its number, not {text!r}"
        )
    return int(text)


async def _answer(
    handle: RunHandle[object],
    choice: str,
    question: ApprovalView | int | None,
    by: str | None,
    comment: str,
    as_json: bool,
) -> int:
    answered = await handle.approve(choice, question=question, by=by, comment=comment)
    if as_json:
        print_document(answered)
    else:
        say(f"{handle.id}: {answered.question!r} is answered: {answered.choice!r} by {answered.by}")
    return Exit.SUCCEEDED


async def _show_and_ask(
    client: Client, handle: RunHandle[object], n: int | None, by: str | None, comment: str, as_json: bool
) -> int:
    """Show the open questions. At a terminal one that is alone, or named, is answered as it was seen."""
    asked = await handle.approvals()
    shown = [meant(handle.id, asked, n)] if n is not None else _open(asked)
    if as_json:
        print_document(shown)
        return Exit.SUCCEEDED
    if not shown:
        say(f"{handle.id} asks nothing now", err=True)
        return Exit.SUCCEEDED
    from holdfast.cli.console import console
    from holdfast.cli.explain import Explanation, answers
    from holdfast.cli.render import question_text, ways_out

    now = at(await client.store.now())
    for view in shown:
        console().print(question_text(view, now))
    if len(shown) > 1 or not sys.stdin.isatty() or not _open(shown):
        ways = answers(_open(shown))
        if ways:
            console().print(ways_out(Explanation("", ways)))
        return Exit.SUCCEEDED
    choice = click.prompt("your answer", type=click.Choice(shown[0].options), err=True)
    return await _answer(handle, choice, shown[0], by, comment, as_json)


def _open(asked: list[ApprovalView]) -> list[ApprovalView]:
    return [one for one in asked if one.status is ApprovalStatus.OPEN]
