"""Equal calls give equal inputs, and an input that does not fit names the parameter and the way out."""

from __future__ import annotations

import dataclasses
import math
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import pydantic
import pytest

from holdfast import codec
from holdfast.codec import LIMIT_BYTES
from holdfast.errors import InvalidInput, NotSerializable, PayloadTooLarge, UsageError


@dataclasses.dataclass
class Source:
    url: str
    depth: int = 1


class Filter(pydantic.BaseModel):
    words: set[str] = set()


async def fetch(  # type: ignore[no-untyped-def]
    ctx: Unknown,  # type: ignore[name-defined] # noqa: F821 - the context's annotation is nobody's business
    sources: list[Source],
    into: Path = Path("out"),
    ratio: float = 1,
    by_number: dict[int, Filter] | None = None,
    extra=None,
) -> None: ...


async def alone(ctx: object) -> None: ...


def test_positional_arguments_become_an_object_with_sorted_keys_and_defaults() -> None:
    data = codec.input_json(fetch, ([Source("a")],))
    assert data == (
        b'{"by_number":null,"extra":null,"into":"out","ratio":1.0,"sources":[{"depth":1,"url":"a"}]}'
    )


def test_equal_calls_give_equal_inputs() -> None:
    one = codec.input_json(
        fetch, ([Source("a")], Path("x"), 2, {1: Filter(words={"b", "a"})}, {"q": 1, "p": 2})
    )
    two = codec.input_json(
        fetch, ([Source("a", 1)], Path("x"), 2.0, {1: Filter(words={"a", "b"})}, {"p": 2, "q": 1})
    )
    assert one == two


def test_what_was_given_comes_back_as_declared() -> None:
    args = ([Source("a", 3)], Path("x"), 0.5, {1: Filter(words={"a"})}, {"q": [1]})
    assert codec.decode_input(fetch, codec.input_json(fetch, args)) == args


def test_an_agent_without_parameters_has_an_empty_input() -> None:
    assert codec.input_json(alone, ()) == b"{}"
    assert codec.decode_input(alone, b"{}") == ()


def test_a_typed_input_is_the_same_as_the_call() -> None:
    typed = b' { "sources" : [ {"url":"a"} ], "ratio": 1 } '
    assert codec.normalise_input(fetch, typed) == codec.input_json(fetch, ([Source("a")],))
    assert codec.normalise_input(alone, b" { } ") == b"{}"


def test_a_parameter_added_later_takes_its_default() -> None:
    assert codec.decode_input(fetch, b'{"sources":[]}') == ([], Path("out"), 1.0, None, None)


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (b"", "the input is not JSON"),
        (b"{sources:[]}", "the input is not JSON"),
        (b'{"sources":[NaN]}', "the input is not JSON"),
        (b'"\xff"', "must be a JSON object"),
        (b"[1]", "must be a JSON object whose keys are the agent's parameters"),
        (b"null", "must be a JSON object"),
        (b"{}", "parameter 'sources' of agent 'fetch' is missing and has no default"),
        (b'{"sources":[],"sorces":[]}', "agent 'fetch' has no parameter 'sorces': did you mean 'sources'"),
        (
            b'{"sources":[],"zzz":1}',
            "has no parameter 'zzz': it takes sources, into, ratio, by_number, extra",
        ),
        (b'{"sources":[],"ctx":1}', "has no parameter 'ctx'"),
        (
            b'{"sources":5}',
            r"parameter 'sources' of agent 'fetch' \(declared list\[.*Source\]\) does not fit",
        ),
        (b'{"sources":[{"url":1}]}', r"Expected `str`, got `int` - at `\$\[0\]\.url`"),
        (b'{"sources":[],"into":5}', "parameter 'into'"),
        (b'{"sources":[],"by_number":{"1":{"words":5}}}', "parameter 'by_number'"),
        (b'{"sources":' + b"[" * 100_000, "the input is not JSON"),
    ],
)
def test_an_input_that_does_not_fit_names_what_and_the_way_out(typed: bytes, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        codec.normalise_input(fetch, typed)


@pytest.mark.parametrize(
    ("args", "error", "says"),
    [
        ((), InvalidInput, "'sources' of agent 'fetch' is missing"),
        ((1, 2, 3, 4, 5, 6), InvalidInput, r"takes 5 arguments after ctx \(sources, into.*but 6 were given"),
        (("text",), InvalidInput, "parameter 'sources' .* does not fit"),
        (([], "x", "fast"), InvalidInput, "parameter 'ratio'"),
        (([], "x", math.nan), NotSerializable, "parameter 'ratio' .* NaN"),
        (
            ([], "x", 1, None, threading.Lock()),
            NotSerializable,
            "parameter 'extra' of agent 'fetch' .* no JSON form",
        ),
        (([], "x", 1, None, (1, 2)), NotSerializable, "'extra' .* a tuple comes back as a list.*Annotate"),
        (([], "x", 1, None, Decimal(1)), NotSerializable, "Annotate the parameter, as in `extra: Decimal`"),
    ],
)
def test_a_call_that_does_not_fit_names_the_parameter(args: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        codec.input_json(fetch, args)


def test_an_input_over_the_limit_is_refused() -> None:
    async def take(ctx: object, one: str, two: str) -> None: ...

    half = "x" * (LIMIT_BYTES // 2 + 1)
    with pytest.raises(PayloadTooLarge, match="the input is 64"):
        codec.input_json(take, (half, half))


def test_a_default_is_never_shared_between_runs() -> None:
    async def keeps(ctx: object, found: list[str] = []) -> None: ...  # noqa: B006 - the point of the test

    (first,) = codec.decode_input(keeps, b"{}")
    assert isinstance(first, list)
    first.append("changed")
    assert codec.decode_input(keeps, b"{}") == ([],)
    assert codec.input_json(keeps, ()) == b'{"found":[]}'


def test_a_parameter_whose_type_cannot_be_resolved_is_named() -> None:
    async def broken(ctx: object, thing: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(UsageError, match=r"annotation of parameter 'thing' of .*broken"):
        codec.input_json(broken, (1,))
