"""Promises about finding runs: by their tags, by a text, and those that `prune` would delete."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from holdfast.errors import Conflict, RunNotFound, UsageError
from holdfast.model import Failed, NewRun, Progress, RunFilter
from holdfast.rules.transitions import cancel
from holdfast.store.protocol import Store
from holdfast.testing.conformance.place import (
    DAY_US,
    FAILURE,
    Place,
    Promises,
    new_run,
    register,
    start,
    step,
)


def tagged(run_id: str, **tags: str) -> NewRun:
    """A run to create, with these tags."""
    return replace(new_run(run_id), tags=tuple(tags.items()))


async def found(store: Store, **chosen: Any) -> list[str]:
    """The ids of the runs that a filter chooses."""
    return [run.id for run in await store.list_runs(RunFilter(**chosen))]


class TagPromises(Promises):
    """What the store promises about finding runs."""

    async def test_tags_come_into_being_with_the_run_and_only_then(self, store: Store) -> None:
        first = (await store.create_run(tagged("a", customer="7", nightly=""))).run
        await store.create_run(tagged("a", customer="8"))  # it was there, and keeps its own
        other = (await store.create_run(new_run("b"))).run
        assert await store.get_tags([first.key, other.key]) == {first.key: {"customer": "7", "nightly": ""}}
        assert await store.get_tags([]) == {}

    async def test_many_runs_are_created_together_or_not_at_all(self, store: Store) -> None:
        first = await store.create_runs([tagged("a", n="1"), new_run("b")])
        assert [(each.run.id, each.existed) for each in first] == [("a", False), ("b", False)]
        again = await store.create_runs([new_run("b"), new_run("c")])
        assert [(each.run.id, each.existed) for each in again] == [("b", True), ("c", False)]
        with pytest.raises(Conflict):
            await store.create_runs([new_run("d"), new_run("a", agent="another")])
        assert [run.id for run in await store.list_runs(RunFilter())] == ["c", "b", "a"]
        assert await store.create_runs([]) == []

    async def test_tags_are_set_and_removed_together_or_not_at_all(self, store: Store) -> None:
        run = (await store.create_run(tagged("a", customer="7", nightly=""))).run
        assert await store.tag_run("a", {"customer": "8", "nightly": None, "new": ""}) == {
            "customer": "8",
            "new": "",
        }
        with pytest.raises(UsageError):
            await store.tag_run("a", {"customer": "9", "a=b": ""})
        assert await store.get_tags([run.key]) == {run.key: {"customer": "8", "new": ""}}
        with pytest.raises(RunNotFound):
            await store.tag_run("no", {"customer": "9"})

    async def test_runs_are_found_by_their_tags(self, store: Store) -> None:
        await store.create_run(tagged("a", customer="7", nightly=""))
        await store.create_run(tagged("b", customer="8", nightly=""))
        await store.create_run(tagged("c", customer="7"))
        assert await found(store, tags=(("customer", "7"),)) == ["c", "a"]
        assert await found(store, tags=(("customer", ""),)) == ["c", "b", "a"]
        assert await found(store, tags=(("customer", "7"), ("nightly", ""))) == ["a"]
        assert await found(store, tags=(("customer", "9"),)) == []

    async def test_tags_of_a_deleted_run_are_gone(self, store: Store) -> None:
        await store.create_run(tagged("a", customer="7"))
        await store.update_run("a", cancel)
        await store.delete_run("a")
        fresh = (await store.create_run(new_run("a"))).run
        assert await store.get_tags([fresh.key]) == {}

    async def test_runs_are_found_by_a_text_wherever_it_stands(self, store: Store) -> None:
        await store.create_run(tagged("by-tag", customer="kelp & co"))
        await store.create_run(new_run("by-agent", agent="kelper"))
        await store.create_run(new_run("KELP-id"))
        worker = await register(store)
        failed = await start(store, worker, "by-error")
        await failed.settle(Failed(failure=replace(FAILURE, message="no kelp here")))
        moving = await start(store, worker, "by-progress")
        await moving.commit(step(), progress=Progress(current=1, description="cutting kelp"))
        await store.create_run(new_run("other"))
        everywhere = {"by-tag", "by-agent", "KELP-id", "by-error", "by-progress"}
        assert set(await found(store, text="kelp")) == everywhere
        assert await found(store, text="kelp & co") == ["by-tag"]
        assert await found(store, text="k_lp") == await found(store, text="%") == []
        assert await found(store, text="message") == []  # the form of what is stored is not looked at

    async def test_prunable_counts_what_prune_deletes(self, store: Store, place: Place) -> None:
        for number in range(3):
            await store.create_run(new_run(f"old-{number}", agent="a" if number else "b"))
            await store.update_run(f"old-{number}", cancel)
        await store.create_run(new_run("unfinished"))
        place.clock.advance(DAY_US)
        cut = place.clock.wall_us()
        await store.create_run(new_run("young"))
        await store.update_run("young", cancel)
        assert await store.prunable(cut) == {"a": 2, "b": 1}
        assert await store.prune(cut, 10) == 3
        assert await store.prunable(cut) == {}
