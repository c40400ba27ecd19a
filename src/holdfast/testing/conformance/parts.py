"""What the parts keep when they are used alone: states, checkpoints and progress of owners that are no runs."""

from __future__ import annotations

import asyncio

import pytest

from holdfast.errors import (
    CheckpointNotFound,
    Conflict,
    PayloadTooLarge,
    ProgressNotFound,
    StateNotFound,
    StoreCorrupt,
)
from holdfast.model import Progress
from holdfast.store.protocol import Store
from holdfast.testing.conformance.place import SECOND_US, Place, Promises

LARGE = b'"' + b"kelp" * 10_000 + b'"'
TOO_LARGE = b'"' + bytes(64 * 1024 * 1024) + b'"'


class PartPromises(Promises):
    """Promises about the parts used alone."""

    # --- states ---------------------------------------------------------------------------------------------

    async def test_a_saved_state_is_there_for_every_handle(self, store: Store, place: Place) -> None:
        other = await place.open()
        for version, body in enumerate((b"1", LARGE, b"null"), 1):
            assert await store.save_state_of("a", body, version - 1) == version
            found = await other.load_state_of("a")
            assert (found.version, found.state, found.at_us) == (version, body, place.clock.wall_us())

    async def test_a_state_that_is_not_there_is_not_found(self, store: Store) -> None:
        await store.save_state_of("a", b"1", 0)
        with pytest.raises(StateNotFound, match="'b'"):
            await store.load_state_of("b")
        with pytest.raises(StateNotFound, match="'b'"):
            await store.delete_state_of("b")

    async def test_a_save_with_another_version_than_the_expected_changes_nothing(self, store: Store) -> None:
        for expected in (1, 7):
            with pytest.raises(Conflict, match="nothing is there"):
                await store.save_state_of("a", b"1", expected)
        await store.save_state_of("a", b"1", 0)
        await store.save_state_of("a", b"2", 1)
        for expected in (0, 1, 3):
            with pytest.raises(Conflict, match="version 2 is there"):
                await store.save_state_of("a", b"3", expected)
        assert (await store.load_state_of("a")).state == b"2"
        assert await store.save_state_of("a", b"3", None) == 3

    async def test_of_many_writers_with_one_version_one_wins(self, store: Store, place: Place) -> None:
        other = await place.open()
        saves = [one.save_state_of("a", b"%d" % n, 0) for n in range(5) for one in (store, other)]
        ended = await asyncio.gather(*saves, return_exceptions=True)
        assert [one for one in ended if not isinstance(one, Conflict)] == [1]

    async def test_a_deleted_state_is_gone_and_its_versions_are_not_given_again(self, store: Store) -> None:
        await store.save_state_of("a", b"1", 0)
        await store.delete_state_of("a")
        with pytest.raises(StateNotFound):
            await store.load_state_of("a")
        with pytest.raises(StateNotFound):
            await store.delete_state_of("a")
        assert await store.save_state_of("a", b"2", 0) > 1
        with pytest.raises(Conflict):
            await store.save_state_of("a", b"3", 1)  # it saw what was deleted

    async def test_a_state_over_the_limit_is_refused(self, store: Store) -> None:
        with pytest.raises(PayloadTooLarge, match="64 MiB"):
            await store.save_state_of("a", TOO_LARGE, None)
        with pytest.raises(PayloadTooLarge, match="64 MiB"):
            await store.save_checkpoint_of("a", TOO_LARGE, None, 5)

    async def test_a_damaged_state_is_detected(self, store: Store, place: Place) -> None:
        await store.save_state_of("a", b'"whole"', 0)
        await place.damage_state_of("a")
        with pytest.raises(StoreCorrupt, match="checksum"):
            await store.load_state_of("a")

    # --- checkpoints ----------------------------------------------------------------------------------------

    async def test_the_newest_and_the_named_checkpoints_of_an_owner_stay(self, store: Store) -> None:
        for n in range(1, 8):
            name = "kept" if n == 2 else None
            assert await store.save_checkpoint_of("a", b"%d" % n, name, 3) == n
        await store.save_checkpoint_of("b", b"of another", None, 1)
        listed = await store.list_checkpoints_of("a")
        assert [(one.n, one.name, one.good, one.state) for one in listed] == [
            (2, "kept", True, None),
            (5, None, True, None),
            (6, None, True, None),
            (7, None, True, None),
        ]
        found, bad = await store.load_checkpoint_of("a")
        assert (found.n, found.state, bad) == (7, b"7", ())
        assert (await store.load_checkpoint_of("a", name="kept"))[0].state == b"2"
        assert (await store.load_checkpoint_of("a", 5))[0].state == b"5"

    async def test_numbers_of_deleted_checkpoints_are_not_given_again(self, store: Store) -> None:
        for n in (1, 2):
            assert await store.save_checkpoint_of("a", b"1", None, 5) == n
            await store.delete_checkpoint_of("a", n)
        assert await store.list_checkpoints_of("a") == []
        assert await store.save_checkpoint_of("a", LARGE, None, 5) == 3

    async def test_two_handles_never_give_one_number_twice(self, store: Store, place: Place) -> None:
        other = await place.open()
        saves = [one.save_checkpoint_of("a", b"1", None, 50) for _ in range(10) for one in (store, other)]
        assert sorted(await asyncio.gather(*saves)) == list(range(1, 21))

    async def test_an_owners_corrupt_newest_checkpoint_is_passed_over(
        self, store: Store, place: Place
    ) -> None:
        for n in range(4):
            await store.save_checkpoint_of("a", b'"state %d"' % n, None, 5)
        await place.damage_checkpoint_of("a", 4)
        await place.damage_checkpoint_of("a", 3)
        found, bad = await store.load_checkpoint_of("a")
        assert (found.n, found.state, bad) == (2, b'"state 1"', (4, 3))
        assert [one.good for one in await store.list_checkpoints_of("a")] == [True, True, False, False]
        with pytest.raises(StoreCorrupt, match="checkpoint 4 fails its checksum"):
            await store.load_checkpoint_of("a", 4)

    async def test_an_owner_without_a_good_checkpoint_is_told_so(self, store: Store, place: Place) -> None:
        await store.save_checkpoint_of("a", b'"only"', None, 5)
        await place.damage_checkpoint_of("a", 1)
        with pytest.raises(StoreCorrupt, match="none of its 1"):
            await store.load_checkpoint_of("a")

    async def test_a_checkpoint_of_an_owner_that_is_not_there_is_not_found(self, store: Store) -> None:
        await store.save_checkpoint_of("a", b"1", "here", 5)
        with pytest.raises(CheckpointNotFound):
            await store.load_checkpoint_of("b")
        with pytest.raises(CheckpointNotFound, match="no checkpoint 2"):
            await store.load_checkpoint_of("a", 2)
        with pytest.raises(CheckpointNotFound, match="elsewhere"):
            await store.load_checkpoint_of("a", name="elsewhere")
        with pytest.raises(CheckpointNotFound, match="no checkpoint 2"):
            await store.delete_checkpoint_of("a", 2)
        assert await store.list_checkpoints_of("b") == []

    # --- progress -------------------------------------------------------------------------------------------

    async def test_the_newest_progress_of_an_owner_wins(self, store: Store, place: Place) -> None:
        began_us = place.clock.wall_us()
        for current in range(3):
            await store.save_progress_of("a", Progress(current=current, total=5, phase="dig"))
            place.clock.advance(SECOND_US)
        found = await store.get_progress_of("a")
        assert (found.version, found.progress.current, found.progress.total) == (3, 2, 5)
        assert found.progress.started_at_us == began_us
        assert found.progress.updated_at_us == began_us + 2 * SECOND_US
        await store.save_progress_of("a", Progress(current=0, phase="fill", description="sand"))
        found = await store.get_progress_of("a")
        assert found.progress.started_at_us == began_us + 3 * SECOND_US
        assert (found.progress.total, found.progress.description) == (None, "sand")

    async def test_progress_that_is_not_there_is_not_found(self, store: Store) -> None:
        await store.save_progress_of("a", Progress(current=1))
        await store.delete_progress_of("a")
        for owner in ("a", "b"):
            with pytest.raises(ProgressNotFound, match=f"'{owner}'"):
                await store.get_progress_of(owner)
            with pytest.raises(ProgressNotFound, match=f"'{owner}'"):
                await store.delete_progress_of(owner)
