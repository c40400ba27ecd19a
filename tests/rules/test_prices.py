"""Usage objects and prices: what the SDKs report is read as it is meant, and what is garbage is refused."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from holdfast.errors import UsageError
from holdfast.prices import shipped
from holdfast.rules.prices import Cost, Price, Prices, check_cost, parsed
from holdfast.rules.rate import HORIZON_US, Booked, RateLimit, adjust, terms_of
from holdfast.rules.usage import Usage, stated, together, usage_of

# --- the SDKs, with their own classes ---------------------------------------------------------------------------


def test_a_message_of_anthropic_counts_cache_reads_apart_and_cache_writes_as_fresh() -> None:
    from anthropic.types import Message
    from anthropic.types import Usage as Theirs

    usage = Theirs(
        input_tokens=10, output_tokens=7, cache_creation_input_tokens=100, cache_read_input_tokens=1000
    )
    message = Message(
        id="m", content=[], model="claude-x", role="assistant", stop_reason=None, type="message", usage=usage
    )
    expected = Usage(tokens_in=110, tokens_out=7, tokens_cached=1000, tokens_written=100, model="claude-x")
    assert usage_of(message) == expected
    assert usage_of(usage) == expected._replace(model=None)
    assert usage_of(message.model_dump()) == expected


def test_a_message_of_anthropic_tells_what_was_written_to_the_cache_for_an_hour() -> None:
    from anthropic.types import CacheCreation
    from anthropic.types import Usage as Theirs

    def written(total: int | None, *, hour: int, minutes: int) -> Theirs:
        apart = CacheCreation(ephemeral_1h_input_tokens=hour, ephemeral_5m_input_tokens=minutes)
        return Theirs(
            input_tokens=10, output_tokens=7, cache_creation_input_tokens=total, cache_creation=apart
        )

    expected = Usage(tokens_in=110, tokens_out=7, tokens_written=100, tokens_written_1h=60)
    for total in (100, None):  # the sum may be missing
        usage = written(total, hour=60, minutes=40)
        assert usage_of(usage) == expected
        assert usage_of(usage.model_dump()) == expected
    assert usage_of(written(100, hour=0, minutes=0)) == expected._replace(tokens_written_1h=0)
    with pytest.raises(UsageError, match="ephemeral_1h_input_tokens=-1"):
        usage_of({"input_tokens": 1, "output_tokens": 1, "cache_creation": {"ephemeral_1h_input_tokens": -1}})


def test_a_chat_completion_of_openai_counts_the_cached_among_the_prompt() -> None:
    from openai.types import CompletionUsage
    from openai.types.chat import ChatCompletion
    from openai.types.completion_usage import PromptTokensDetails

    usage = CompletionUsage(
        completion_tokens=7,
        prompt_tokens=100,
        total_tokens=107,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=60),
    )
    chat = ChatCompletion(id="c", choices=[], created=0, model="gpt-x", object="chat.completion", usage=usage)
    assert usage_of(chat) == Usage(tokens_in=40, tokens_out=7, tokens_cached=60, model="gpt-x")
    bare = CompletionUsage(completion_tokens=7, prompt_tokens=100, total_tokens=107)
    assert usage_of(bare) == Usage(tokens_in=100, tokens_out=7)


def test_a_response_of_openai_counts_the_cached_among_the_input() -> None:
    from openai.types.responses import ResponseUsage

    usage = ResponseUsage.model_validate(
        {
            "input_tokens": 100,
            "output_tokens": 7,
            "total_tokens": 107,
            "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        }
    )
    assert usage_of(SimpleNamespace(usage=usage, model="gpt-x")) == Usage(40, 7, 60, model="gpt-x")


def pydantic_ai(**more: Any) -> SimpleNamespace:
    """The attributes of pydantic_ai.usage.RunUsage 2.68, recorded."""
    named = {
        "input_tokens": 100,
        "output_tokens": 7,
        "cache_read_tokens": 60,
        "cache_write_tokens": 30,
        "requests": 3,
        "tool_calls": 2,
        "cost": None,
    }
    return SimpleNamespace(**{**named, **more})


def test_a_run_of_pydantic_ai_counts_its_requests_and_knows_its_cost() -> None:
    expected = Usage(40, 7, 60, 30, requests=3)
    assert usage_of(SimpleNamespace(usage=pydantic_ai())) == expected, "version 2: a property"
    assert usage_of(SimpleNamespace(usage=lambda: pydantic_ai())) == expected, "version 1: a method"
    assert usage_of(SimpleNamespace(usage=lambda: None)) is None
    assert usage_of(pydantic_ai(cost=Decimal("0.25"))) == expected._replace(usd=250_000_000)
    assert usage_of(pydantic_ai(requests=0, cache_write_tokens=500)) == Usage(40, 7, 60, 40, requests=1)


def test_the_end_of_a_stream_of_anthropic_may_know_only_what_was_made() -> None:
    from anthropic.types import MessageDeltaUsage

    delta = MessageDeltaUsage(output_tokens=7)
    assert usage_of(delta) == Usage(tokens_out=7)
    assert usage_of(SimpleNamespace(type="message_delta", usage=delta)) == Usage(tokens_out=7)
    assert usage_of(delta.model_dump()) == Usage(tokens_out=7)


def test_a_run_of_the_agents_sdk_of_openai_counts_its_requests() -> None:
    """The attributes of agents.usage.Usage, as its reference has them."""
    usage = SimpleNamespace(
        requests=4,
        input_tokens=100,
        input_tokens_details=SimpleNamespace(cached_tokens=60),
        output_tokens=7,
        output_tokens_details=SimpleNamespace(reasoning_tokens=5),
        total_tokens=107,
    )
    assert usage_of(usage) == Usage(40, 7, 60, requests=4)


@pytest.mark.parametrize(
    "value", [None, 5, "text", {}, [], object(), {"usage": None}, {"usage": 7}, {"output_tokens": 7}]
)
def test_what_has_no_usage_has_none(value: object) -> None:
    assert usage_of(value) is None


@pytest.mark.parametrize("count", [-1, float("nan"), float("inf"), 1.5, True, "7", 10**15, 10**400])
def test_garbage_is_refused(count: object) -> None:
    for usage in (
        {"input_tokens": count, "output_tokens": 1},
        {"prompt_tokens": 9, "completion_tokens": count},
        pydantic_ai(requests=count),
    ):
        with pytest.raises(UsageError, match="no count of tokens"):
            usage_of(usage)


@pytest.mark.parametrize(
    "usd", [-1, float("nan"), "5", True, 2e9, 10**400, Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity")]
)
def test_money_that_is_none_is_refused(usd: object) -> None:
    with pytest.raises(UsageError, match="no amount of money"):
        stated(0, 0, 0, usd, None)


def test_usages_add_up_and_money_only_where_it_is_known_of_all() -> None:
    one, other = Usage(1, 2, 3, usd=5, model="a"), Usage(10, 20, 30, 4)
    hour = Usage(9, tokens_written=5, tokens_written_1h=4)
    assert together([hour, hour]).tokens_written_1h == 8
    assert together([one, one]) == Usage(2, 4, 6, requests=2, usd=10, model="a")
    assert together([other, one]) == Usage(11, 22, 33, 4, requests=2, usd=None, model="a")


# --- prices -----------------------------------------------------------------------------------------------------

SONNET = Price(tokens_in=3, tokens_out=15, tokens_cached=0.3, tokens_written=3.75)
TABLE = Prices({"claude-sonnet-4-5": SONNET, "gpt-5-2025-01-01": Price(tokens_in=1, tokens_out=2)})


def test_tokens_are_priced_exactly_and_rounded_up_to_a_nanodollar() -> None:
    million = 1_000_000
    usage = Usage(2 * million, million, million, million)
    assert SONNET.nanodollars(usage) == round((3 + 15 + 0.3 + 3.75) * 1e9)
    assert Price(tokens_in=0.0001, tokens_out=0).nanodollars(Usage(1)) == 1
    plain = Price(tokens_in=2, tokens_out=8)
    assert plain.nanodollars(Usage(0, 0, 5)) == plain.nanodollars(Usage(5, 0, 0, 5)) == 10_000


def test_what_is_written_to_a_cache_for_an_hour_has_a_price_of_its_own() -> None:
    million = 1_000_000
    usage = Usage(2 * million, tokens_written=million, tokens_written_1h=million // 2)
    assert SONNET.nanodollars(usage) == round((3 + 3.75 / 2 + 6 / 2) * 1e9), (
        "as providers have it: twice the fresh"
    )
    dear = Price(tokens_in=3, tokens_out=15, tokens_written=3.75, tokens_written_1h=7)
    assert dear.nanodollars(usage) == round((3 + 3.75 / 2 + 7 / 2) * 1e9)
    assert Price(tokens_in=3, tokens_out=15).nanodollars(usage) == round(6 * 1e9), (
        "nobody said that it is dearer"
    )


def test_the_shipped_prices_of_what_is_written_to_a_cache_are_those_of_the_provider() -> None:
    claude = {model: price for model, price in shipped()[0].table.items() if model.startswith("claude")}
    assert claude
    for price in claude.values():
        assert price.tokens_written == pytest.approx(1.25 * price.tokens_in)
        assert price.tokens_written_1h == pytest.approx(2 * price.tokens_in)


@pytest.mark.parametrize(
    ("model", "found"),
    [
        ("claude-sonnet-4-5", True),
        ("claude-sonnet-4-5-20250929", True),
        ("claude-sonnet-4-5-latest", True),
        ("anthropic/claude-sonnet-4-5", True),
        ("anthropic:claude-sonnet-4-5-20250929", True),
        ("gpt-5-2025-01-01", True),
        ("gpt-5", False),
        ("claude-sonnet-4", False),
        ("claude-sonnet-4-5-mini", False),
    ],
)
def test_a_model_is_found_by_its_name_with_provider_and_date(model: str, found: bool) -> None:
    assert (TABLE.price(model) is not None) is found


@pytest.mark.parametrize("table", [5, None, {"m": 3}, {7: SONNET}])
def test_what_is_no_table_of_prices_says_what_is_one(table: Any) -> None:
    with pytest.raises(UsageError, match="a table of prices by model"):
        Prices(table)


def test_a_model_without_price_names_the_fix() -> None:
    said = str(TABLE.missing("claude-sonet-4-5"))
    assert "did you mean 'claude-sonnet-4-5'?" in said
    assert "HOLDFAST_PRICES" in said
    assert "Cost(usd=…)" in said
    assert "did you mean" not in str(TABLE.missing("zzz"))


def test_ones_own_table_stands_over_the_other() -> None:
    mine = Prices({"gpt-5": SONNET, "claude-sonnet-4-5": Price(tokens_in=0, tokens_out=0)}, "mine")
    both = mine.over(TABLE)
    assert both.price("claude-sonnet-4-5") == Price(tokens_in=0, tokens_out=0)
    assert both.price("gpt-5-2025-01-01") == Price(tokens_in=1, tokens_out=2)
    assert both.named == "mine and the prices given"


def test_a_table_is_read_from_toml() -> None:
    text = 'as_of = 2025-10-15\n["my-model"]\nin = 3\nout = 15\ncached = 0.3\nwritten = 4\nwritten_1h = 6\n'
    assert parsed(text, "p.toml") == Prices(
        {
            "my-model": Price(
                tokens_in=3, tokens_out=15, tokens_cached=0.3, tokens_written=4, tokens_written_1h=6
            )
        },
        "p.toml",
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("in = ", "p.toml is no TOML"),
        ("x = 3", "'x' is no table"),
        ("[x]\nin = 3", "'x' lacks `in` or `out`"),
        ("[x]\nin = 3\nout = 1\nper = 2", "'x' has a price 'per'"),
        ("[x]\nin = -3\nout = 1", "'x': Price"),
        ('[x]\nin = "3"\nout = 1', "'x': Price"),
        ("[x]\nin = nan\nout = 1", "'x': Price"),
        ("[x]\nin = true\nout = 1", "'x': Price"),
    ],
)
def test_a_table_that_is_wrong_says_where(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parsed(text, "p.toml")


def test_a_cost_is_checked_where_it_is_written() -> None:
    assert Cost(model="m", tokens_in=9, max_tokens_out=4).usage == Usage(9, 4, model="m")
    check_cost(None)
    check_cost(Cost(usd=1))
    for bad in ({"tokens_in": -1}, {"usd": float("nan")}, {"model": ""}, {"max_tokens_out": "4"}):
        with pytest.raises(UsageError):
            Cost(**bad)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"did you mean cost=Cost\("):
        check_cost(5)


# --- rates that count tokens ------------------------------------------------------------------------------------


def test_a_rate_counts_what_it_says() -> None:
    usage = Usage(100, 7, 60)
    counted = {
        kind: RateLimit("r", "9/m", counts=kind).counted(usage)
        for kind in ("tokens", "tokens_in", "tokens_out")
    }  # type: ignore[arg-type]
    assert counted == {"tokens": 107, "tokens_in": 100, "tokens_out": 7}
    assert RateLimit("r", "9/m").counted(usage) == 1
    with pytest.raises(UsageError, match="one of calls, tokens"):
        RateLimit("r", "9/m", counts="words")  # type: ignore[arg-type]


def test_what_a_call_used_more_or_less_than_its_turn_moves_the_booking() -> None:
    terms = terms_of("60/m", burst=10)
    assert adjust(Booked(5_000_000), terms, 2) == Booked(7_000_000)
    assert adjust(Booked(5_000_000), terms, -2) == Booked(3_000_000)
    assert adjust(Booked(1_000_000, 9), terms, -2) == Booked(0, 9)
    assert adjust(Booked(), terms, 10**12) == Booked(HORIZON_US), "no further than a day"
    assert adjust(Booked(2 * HORIZON_US), terms, 10**12) == Booked(2 * HORIZON_US)


def test_the_tokens_of_a_usage_are_all_that_somebody_has_to_price() -> None:
    assert Usage(1, 2, 4, tokens_written=1, requests=9).tokens == 7
