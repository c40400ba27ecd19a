"""Tags: what people call their runs by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from holdfast.rules import tags as rules
from holdfast.rules import transitions
from holdfast.store.transactions import decisions
from holdfast.store.transactions.connection import Connection


def of_runs(connection: Connection, run_keys: Sequence[int]) -> dict[int, dict[str, str]]:
    """The tags of these runs; those without any are left out."""
    found: dict[int, dict[str, str]] = {}
    for run, name, value in connection.rows("runs.tags_of", (msgspec.json.encode(run_keys).decode(),)):
        found.setdefault(run, {})[name] = value
    return found


def change(connection: Connection, run_id: str, changed: Mapping[str, str | None]) -> dict[str, str]:
    """Set and remove tags; return what the run has then. Raises RunNotFound and UsageError."""
    owner = decisions.run_by_id(connection, run_id)
    transitions.check_whole(owner)
    run = owner.key
    kept = {**of_runs(connection, [run]).get(run, {}), **changed}
    wanted = dict(rules.checked({name: value for name, value in kept.items() if value is not None}))
    connection.many("runs.delete_tag", [(run, name) for name in changed])
    connection.many("runs.insert_tag", [(run, name, wanted[name]) for name in changed if name in wanted])
    return wanted
