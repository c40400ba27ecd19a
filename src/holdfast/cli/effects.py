"""`approve ID ENTRY`: say what became of an effect that nobody knows about."""

from __future__ import annotations

import json

from holdfast.cli.arguments import json_text
from holdfast.cli.exits import Exit
from holdfast.cli.explain import explain
from holdfast.cli.options import on_run
from holdfast.cli.saying import say
from holdfast.cli.views import print_document
from holdfast.client import Client, RunHandle
from holdfast.client.view import at
from holdfast.errors import UsageError
from holdfast.verdicts import Done, GivenUp, NotDone, Verdict

GIVEN_UP = GivenUp().message


def verdict_of(done: str | None, rerun: bool, fail: str | None) -> Verdict:
    """The one verdict that the options give. Raises UsageError for none and for two."""
    if (done is not None) + rerun + (fail is not None) != 1:
        raise UsageError("say one of: --done JSON (it happened), --rerun (it did not), --fail [MESSAGE]")
    if done is not None:
        return Done(json.loads(json_text(done, "--done")))
    return NotDone() if rerun else GivenUp(fail or GIVEN_UP)


def settle_effect(store: str | None, run_id: str, entry: int, verdict: Verdict, as_json: bool) -> int:
    """Give the verdict, and say how the run stands now."""

    async def settle(client: Client, handle: RunHandle[object]) -> int:
        view = await handle.settle_effect(entry, verdict)
        if as_json:
            print_document(view)
            return Exit.SUCCEEDED
        why = explain(view, await handle.detail(), at(await client.store.now())).why
        say(f"{view.id}: {view.state}{f' ({view.reason})' if view.reason else ''}: {why}")
        return Exit.SUCCEEDED

    return on_run(store, run_id, settle)
