"""The codec stands on the hot path of every step: its cost is a promise, too."""

from __future__ import annotations

import timeit
from collections.abc import Callable

import msgspec

from holdfast import codec
from holdfast.codec import Shape

KILOBYTE: dict[str, object] = {
    "path": "src/application/models.py",
    "text": "x" * 700,
    "count": 3,
    "figures": [1, 2, 3, 4.5, True, None],
    "nested": {"a": "b", "c": [{"k": "v"}] * 5},
}


def json_result(): ...  # type: ignore[no-untyped-def]


def number() -> int: ...  # type: ignore[empty-body]


def cost_us(call: Callable[[], object], number: int = 500) -> float:
    return timeit.timeit(call, number=number) / number * 1e6


def test_a_kilobyte_is_recoded_at_the_cost_of_its_bytes() -> None:
    """The budget is 4 µs on an idle core; told as a ratio of neighbouring measurements, since machines differ."""
    shape = Shape.of(json_result, "it")
    ratios = [
        cost_us(lambda: shape.recode(KILOBYTE))
        / cost_us(lambda: msgspec.json.decode(msgspec.json.encode(KILOBYTE)))
        for _ in range(20)
    ]
    assert min(ratios) < 2.0


def test_a_number_is_recoded_in_a_microsecond() -> None:
    shape = Shape.of(number, "it")
    assert min(cost_us(lambda: shape.recode(5)) for _ in range(20)) < 2.0


def test_a_fingerprint_of_small_arguments_costs_two_microseconds() -> None:
    args = ("src/x.py", 3, {"a": 1})
    assert min(cost_us(lambda: codec.fingerprint(args, None)) for _ in range(20)) < 3.0
