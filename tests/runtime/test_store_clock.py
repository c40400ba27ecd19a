"""The store's clock, as near as a machine knows it."""

from __future__ import annotations

import pytest

from holdfast.errors import StoreUnavailable
from holdfast.store_clock import ASK_US, JUMP_US, StoreClock
from holdfast.testing.conformance import MovableClock

HOUR_US = 3_600_000_000


class Elsewhere:
    """A store whose clock is ahead, a journey away."""

    def __init__(self, own: MovableClock, ahead_us: int, there_us: int = 0, back_us: int = 0) -> None:
        self.own, self.ahead_us, self.there_us, self.back_us = own, ahead_us, there_us, back_us
        self.asked = 0

    async def now(self) -> int:
        self.asked += 1
        self.own.advance(self.there_us)
        told = self.own.wall_us() + self.ahead_us
        self.own.advance(self.back_us)
        return told


async def test_a_store_with_the_clock_of_this_machine_adds_nothing_however_long_it_takes() -> None:
    own = MovableClock()
    clock, store = StoreClock(own), Elsewhere(own, 0, 3_000, 900_000)
    await clock.keep_up(store.now)
    assert (clock.ahead_us, clock.wall_us()) == (0, own.wall_us())


@pytest.mark.parametrize("ahead_us", [HOUR_US, -HOUR_US])
async def test_a_store_that_is_an_hour_off_is_followed_to_within_half_a_journey(ahead_us: int) -> None:
    own = MovableClock()
    clock, store = StoreClock(own), Elsewhere(own, ahead_us, 1_000, 9_000)
    await clock.keep_up(store.now)
    assert abs(clock.wall_us() - own.wall_us() - ahead_us) <= 5_000
    assert (clock.boot_us(), clock.boot_id()) == (own.boot_us(), own.boot_id())


async def test_an_answer_that_says_nothing_new_changes_nothing() -> None:
    own = MovableClock()
    clock, store = StoreClock(own), Elsewhere(own, HOUR_US)
    await clock.keep_up(store.now)
    store.there_us, store.back_us = 0, 2_000_000
    own.advance(ASK_US)
    await clock.keep_up(store.now)
    assert (clock.ahead_us, store.asked) == (HOUR_US, 2)


async def test_it_asks_now_and_then_and_at_once_when_the_clock_of_this_machine_was_set() -> None:
    own = MovableClock()
    clock, store = StoreClock(own), Elsewhere(own, 0)
    for _ in range(3):
        await clock.keep_up(store.now)
        own.advance(1_000)
    assert store.asked == 1
    own.set_back(HOUR_US)
    store.ahead_us = HOUR_US
    await clock.keep_up(store.now)
    assert (store.asked, clock.ahead_us) == (2, HOUR_US)
    own.set_back(JUMP_US - 1)
    await clock.keep_up(store.now)
    assert store.asked == 2
    own.advance(ASK_US)
    await clock.keep_up(store.now)
    assert store.asked == 3


async def test_a_store_that_does_not_answer_leaves_what_is_known_and_is_asked_again() -> None:
    own = MovableClock()
    clock, store = StoreClock(own), Elsewhere(own, HOUR_US)
    await clock.keep_up(store.now)
    own.advance(ASK_US)

    async def down() -> int:
        raise StoreUnavailable("down")

    with pytest.raises(StoreUnavailable):
        await clock.keep_up(down)
    assert clock.ahead_us == HOUR_US
    await clock.keep_up(store.now)
    assert store.asked == 2
