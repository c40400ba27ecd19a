"""Promises about shared rates: no window has more than the rate, turns are kept, everybody hears of a Retry-After."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from holdfast.errors import NotFound
from holdfast.model import NewTurn, RateRecord, Succeeded, Terms, Turn
from holdfast.rules.rate import HORIZON_US, LATE_US, terms_of
from holdfast.rules.transitions import cancel
from holdfast.store.protocol import Store
from holdfast.testing.conformance.place import SECOND_US, SERVES, Attempt, Place, Promises, register, start

TEN = terms_of("10/s")
TENTH_US = 100_000


def turn(
    attempt: Attempt, call: str = "c", *, terms: Terms = TEN, cost: int = 1, rate: str = "api"
) -> NewTurn:
    """A call of this attempt that asks for its turn."""
    run = attempt.run
    return NewTurn(rate=rate, terms=terms, cost=cost, run=run.key, token=run.token, call=call)


async def take(store: Store, *asked: NewTurn) -> list[int]:
    """How long each has to wait."""
    return [each.wait_us for each in await store.take_turns(asked)]


class RatePromises(Promises):
    """What the store promises about shared rates."""

    async def test_turns_are_spread_evenly_in_the_order_of_asking(self, store: Store, place: Place) -> None:
        asking = turn(await start(store, await register(store)))
        assert await take(store, asking, asking, asking) == [0, TENTH_US, 2 * TENTH_US]
        place.clock.advance(TENTH_US)
        assert await take(store, asking) == [2 * TENTH_US]
        place.clock.advance(SECOND_US)
        assert await take(store, asking, asking) == [0, TENTH_US], "a pause allows no more than the burst"

    async def test_a_burst_begins_at_once_and_a_cost_counts(self, store: Store, place: Place) -> None:
        asking = turn(await start(store, await register(store)), terms=terms_of("10/s", burst=4))
        assert await take(store, asking, replace(asking, cost=3)) == [0, 0]
        assert await take(store, replace(asking, cost=2), asking) == [2 * TENTH_US, 3 * TENTH_US]

    async def test_rates_of_other_names_are_apart(self, store: Store, place: Place) -> None:
        attempt = await start(store, await register(store))
        assert await take(store, turn(attempt), turn(attempt, rate="other")) == [0, 0]

    async def test_handles_that_ask_at_once_share_the_rate(self, store: Store, place: Place) -> None:
        asking = turn(await start(store, await register(store)))
        others = [store, await place.open(), await place.open()]
        waits = await asyncio.gather(*(take(other, *[asking] * 3) for other in others for _ in range(2)))
        assert sorted(wait for each in waits for wait in each) == [n * TENTH_US for n in range(18)]

    async def test_a_turn_far_ahead_is_kept_for_its_call_and_given_out_once(
        self, store: Store, place: Place
    ) -> None:
        attempt = await start(store, await register(store))
        await take(store, *[turn(attempt, f"c{n}") for n in range(40)])
        ahead = turn(attempt, "mine")
        assert await take(store, ahead) == [40 * TENTH_US]
        place.clock.advance(10 * TENTH_US)
        assert await take(store, ahead, ahead) == [30 * TENTH_US] * 2, "asking again books nothing"
        place.clock.advance(15 * TENTH_US)
        assert await take(store, ahead) == [15 * TENTH_US]
        assert await take(store, ahead) == [16 * TENTH_US], "it was given out, and this is another one"

    async def test_a_turn_is_kept_for_the_next_attempt_and_lost_when_it_comes_late(
        self, store: Store, place: Place
    ) -> None:
        attempt = await start(store, await register(store))
        await take(store, *[turn(attempt, f"c{n}") for n in range(30)])
        assert await take(store, turn(attempt, "mine"), turn(attempt, "late")) == [
            30 * TENTH_US,
            31 * TENTH_US,
        ]
        await store.retire_worker(attempt.run.worker or 0)
        (claim,) = await store.claim(await register(store, "next"), SERVES, 1)
        again = Attempt(store, claim)
        place.clock.advance(29 * TENTH_US)
        assert await take(store, turn(again, "mine")) == [TENTH_US]
        place.clock.advance(2 * TENTH_US + LATE_US + 1)
        assert await take(store, turn(again, "late")) == [0], "a new one; the rate is free by now"
        assert await take(store, turn(again)) == [TENTH_US]

    async def test_a_fenced_out_attempt_books_nothing(self, store: Store, place: Place) -> None:
        attempt = await start(store, await register(store))
        await store.update_run("r", cancel)
        assert await store.take_turns([turn(attempt)]) == [Turn(wait_us=HORIZON_US, reserved=False)]
        other = await start(store, await register(store), "other")
        assert await take(store, turn(other)) == [0]

    async def test_a_retry_after_holds_everybody_back(self, store: Store, place: Place) -> None:
        attempt = await start(store, await register(store))
        terms = terms_of("10/s", burst=5)
        asking = turn(attempt, terms=terms)
        kept = [turn(attempt, f"c{n}", terms=terms) for n in range(60)]
        await take(store, *kept)
        await store.hold_back("api", terms, 4 * SECOND_US)
        rate = await store.get_rate("api")
        assert rate is not None and rate.held_back_us == 4 * SECOND_US
        after = await take(await place.open(), kept[30], kept[59])
        assert after == [56 * TENTH_US, 55 * TENTH_US], (
            "one that lay within it is booked anew, one after it stands"
        )
        place.clock.advance(4 * SECOND_US)
        assert (await store.get_rate("api")).held_back_us == 0  # type: ignore[union-attr]
        place.clock.advance(5 * SECOND_US)
        await store.hold_back("api", terms, SECOND_US)
        assert await take(store, asking, asking) == [10 * TENTH_US, 11 * TENTH_US], "no burst after it"

    async def test_nothing_is_booked_further_ahead_than_a_day(self, store: Store, place: Place) -> None:
        attempt = await start(store, await register(store))
        slow = [turn(attempt, f"c{n}", terms=terms_of("1/h")) for n in range(27)]
        turns = await store.take_turns(slow)
        assert [each.reserved for each in turns] == [True] * 25 + [False] * 2
        assert turns[-1].wait_us == HORIZON_US

    @pytest.mark.parametrize("by_us", [-3_600 * SECOND_US, 3_600 * SECOND_US])
    async def test_a_clock_that_is_set_stalls_nobody_and_frees_nothing(
        self, store: Store, place: Place, by_us: int
    ) -> None:
        asking = turn(await start(store, await register(store)))
        await take(store, asking, asking)
        place.clock.set_back(by_us)
        assert await take(store, asking) == [2 * TENTH_US]

    async def test_after_a_reboot_what_was_booked_is_over_in_time(self, store: Store, place: Place) -> None:
        asking = turn(await start(store, await register(store)), terms=terms_of("1/m"))
        await take(store, asking, asking)
        place.clock.reboot()  # which takes 20 s
        assert await take(store, replace(asking, call="other")) == [100 * SECOND_US]

    async def test_the_newest_declaration_counts_until_an_operator_pins_one(
        self, store: Store, place: Place
    ) -> None:
        asking = turn(await start(store, await register(store)))
        await take(store, asking, replace(asking, terms=terms_of("5/s")))
        assert await store.list_rates() == [
            RateRecord(name="api", terms=terms_of("5/s"), pinned=False, wait_us=3 * TENTH_US, held_back_us=0)
        ]
        await store.pin_rate("api", terms_of("2/s"))
        assert await take(store, asking, asking) == [3 * TENTH_US, 8 * TENTH_US]
        assert (await store.get_rate("api")).pinned  # type: ignore[union-attr]
        await store.pin_rate("api", None)
        await take(store, asking)
        assert (await store.get_rate("api")).terms == TEN  # type: ignore[union-attr]

    async def test_a_rate_that_is_not_there_is_not_found(self, store: Store, place: Place) -> None:
        assert await store.get_rate("api") is None
        for deed in (store.forget_rate("api"), store.pin_rate("api", None)):
            with pytest.raises(NotFound, match="no rate 'api'"):
                await deed
        await store.pin_rate("api", TEN)
        await store.forget_rate("api")
        assert await store.list_rates() == []

    async def test_a_deleted_run_leaves_no_turns_behind(self, store: Store, place: Place) -> None:
        attempt = await start(store, await register(store))
        await take(store, *[turn(attempt, f"c{n}") for n in range(40)])
        await attempt.settle(Succeeded(result=b"1"))
        await store.delete_run("r")
        assert await take(store, turn(await start(store, await register(store)))) == [40 * TENTH_US]
