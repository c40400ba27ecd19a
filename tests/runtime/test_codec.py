"""What is recorded comes back as declared, or is refused when it is recorded: with the place, the type and the fix."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import enum
import functools
import math
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypedDict, TypeVar

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast import codec
from holdfast.codec import Shape
from holdfast.codec import values as codec_values
from holdfast.errors import NotSerializable, PayloadTooLarge, UsageError

T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(enum.IntEnum):
    SMALL = 1


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Deep:
    points: tuple[Point, ...]
    by_name: dict[str, Point]
    where: Path
    parent: Deep | None = None


@dataclasses.dataclass
class DeeperPoint(Point):
    z: int = 0


class Account(msgspec.Struct):
    owner: str
    balance: Decimal


class Cat(msgspec.Struct, tag=True):
    name: str


class Dog(msgspec.Struct, tag=True):
    name: str


class Model(pydantic.BaseModel):
    at: dt.datetime
    tags: set[str] = set()
    inner: list[Model] = []


class Aliased(pydantic.BaseModel):
    camel_case: int = pydantic.Field(alias="camelCase")
    other: int = pydantic.Field(0, validation_alias="in", serialization_alias="out")


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True, extra="forbid")
    at: dt.date
    pair: tuple[int, int]


class Computed(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    side: int

    @pydantic.computed_field
    def area(self) -> int:
        return self.side**2


class Paged(pydantic.BaseModel, Generic[T]):
    entries: list[T]


class Numbers(pydantic.RootModel[list[int]]):
    pass


class Secretive(pydantic.BaseModel):
    name: str
    token: pydantic.SecretStr = pydantic.SecretStr("")


class Holder(pydantic.BaseModel):
    accounts: dict[str, list[Secretive]]


class Measured(pydantic.BaseModel):
    value: float | None


@pydantic.dataclasses.dataclass
class Mixed:
    n: int
    model: Model


@attrs.define
class Attrs:
    x: int
    models: list[Model] = attrs.field(factory=list)


class Pair(NamedTuple):
    left: int
    right: str


class Options(TypedDict, total=False):
    depth: int
    where: Path


class Text(str):
    __slots__ = ()


NOW = dt.datetime(2026, 11, 22, 15, 30, 1, 5, dt.UTC)
MODEL = Model(at=NOW, tags={"a", "b"}, inner=[Model(at=NOW)])
POINT = Point(1, 2)

SURVIVORS: list[tuple[object, object]] = [
    (None, None),
    (True, bool),
    (2**80, int),
    (-(2**63) - 1, int),
    (1.5, float),
    (1, float),
    (-0.0, float),
    ("tëxt\x00", str),
    (b"\x00\xff", bytes),
    (Colour.RED, Colour),
    (Size.SMALL, Size),
    (NOW, dt.datetime),
    (dt.datetime(2026, 1, 1), dt.datetime),  # noqa: DTZ001 - naive ones survive as such
    (dt.date(2026, 1, 1), dt.date),
    (dt.time(1, 2, 3, 4), dt.time),
    (dt.timedelta(days=-1, microseconds=7), dt.timedelta),
    (uuid.UUID(int=7), uuid.UUID),
    (Decimal("1.10"), Decimal),
    (Path("a/b"), Path),
    (PurePosixPath("/x"), PurePosixPath),
    ([Path("a")], list[Path]),
    ({Path("a"): 1}, dict[Path, int]),
    ({1, 2}, set[int]),
    (frozenset({"a"}), frozenset[str]),
    ((1, "a"), tuple[int, str]),
    ([(1, 2)], list[tuple[int, int]]),
    ({1: "a", -2: "b"}, dict[int, str]),
    ({uuid.UUID(int=1): 1}, dict[uuid.UUID, int]),
    (Pair(1, "a"), Pair),
    ({"depth": 1, "where": Path("x")}, Options),
    (collections.Counter("aab"), collections.Counter[str]),
    (POINT, Point),
    (None, Point | None),
    ([POINT], list[Point]),
    (Deep((POINT,), {"a": POINT}, Path("p"), Deep((), {}, Path("q"))), Deep),
    (Account("a", Decimal("0.10")), Account),
    (Dog("rex"), Cat | Dog),
    (MODEL, Model),
    ({"m": [MODEL, None]}, dict[str, list[Model | None]]),
    (Aliased(camelCase=3, **{"in": 4}), Aliased),
    (Strict(at=dt.date(2026, 1, 1), pair=(1, 2)), Strict),
    (Computed(side=3), Computed),
    (Paged[Point](entries=[POINT]), Paged[Point]),
    ([Paged[int](entries=[1])], list[Paged[int]]),
    (Numbers([1, 2]), Numbers),
    (MODEL, Model | Strict),
    ([Computed(side=2), "text", 5], list[Computed | str | int]),
    (Mixed(1, MODEL), Mixed),
    (Attrs(1, [MODEL]), Attrs),
    ("a", Literal["a", "b"]),
    (5, Annotated[int, msgspec.Meta(ge=1)]),
    ({"a": [1, None, {"b": "c"}]}, dict[str, Any]),
    ([1, "a"], list[object]),
    ({"a": 1}, object),
    ({"a": 1}, Any),
    ([1.5, {"a": None}], dataclasses.MISSING),
]


@pytest.mark.parametrize(("value", "kind"), SURVIVORS)
def test_a_declared_type_comes_back_as_it_was(value: object, kind: object) -> None:
    shape = Shape.of(returning(kind), "the result of step 's'")
    data, decoded = shape.recode(value)
    assert decoded == value
    assert type(decoded) is type(value) or kind is float
    assert shape.decode(data) == decoded
    assert codec.decode(codec.encode(value, what="it"), shape.kind, what="it") == value


def returning(kind: object) -> Callable[..., object]:
    """A function with this return annotation, or with none."""

    def fn() -> object: ...

    fn.__annotations__ = {} if kind is dataclasses.MISSING else {"return": kind}
    return fn


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda parts: st.lists(parts) | st.dictionaries(st.text(), parts),
    max_leaves=20,
)


@given(JSON)
def test_json_types_survive_without_an_annotation(value: object) -> None:
    data, decoded = Shape.of(returning(dataclasses.MISSING), "it").recode(value)
    assert decoded == value
    assert codec.decode(data, Any, what="it") == value


def test_a_text_of_a_subclass_comes_back_as_text() -> None:
    assert type(Shape.of(returning(str), "it").recode(Text("a"))[1]) is str
    assert type(Shape.of(returning(dataclasses.MISSING), "it").recode(Text("a"))[1]) is str


# --- what is refused ------------------------------------------------------------------------------------------


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


def circle() -> object:
    value: list[object] = []
    value.append(value)
    return value


NONE = dataclasses.MISSING
SECRET = pydantic.SecretStr("s3cr3t")
REFUSED: list[tuple[str, object, object, str]] = [
    ("tuple", (1, 2), NONE, r"a tuple comes back as a list.*annotate the function's return type"),
    ("tuple inside", {"a": [(1, 2)]}, NONE, r"a tuple comes back as a list \(at \['a'\]\[0\]\)"),
    ("integer keys", {1: "a"}, NONE, r"the key \[1\] comes back as text"),
    ("set", {1, 2}, NONE, "a set comes back as a list"),
    ("dataclass", POINT, NONE, r"Point comes back as a dict.*\(-> Point\)"),
    ("model", MODEL, Any, r"Model comes back as a dict"),
    ("date", dt.date(2026, 1, 1), NONE, "datetime.date comes back as a str"),
    ("path", Path("a"), NONE, "PosixPath comes back as a str"),
    ("bytes", b"x", NONE, "bytes comes back as a str"),
    ("tuple in Any", {"a": (1, 2)}, dict[str, Any], "annotate more precisely"),
    ("dataclass in a bare dict", {"a": POINT}, dict, "annotate more precisely"),
    ("object", object(), NONE, "a object has no JSON form"),
    ("lock", {"a": [threading.Lock()]}, NONE, r"lock has no JSON form \(at \['a'\]\[0\]\)"),
    ("function", print, NONE, "has no JSON form"),
    ("open file in a dataclass", Point(x=threading.Event()), Point, r"\(at \.x\)"),  # type: ignore[arg-type]
    ("generator", (n for n in ""), NONE, "generator has no JSON form"),
    ("tuple keys", {(1, 2): 3}, NONE, r"a tuple has no JSON form \(the key \(1, 2\)\)"),
    ("keys deep down", {"a": {None: 3}}, NONE, r"\(the key None of \['a'\]\)"),
    ("nan", math.nan, NONE, "NaN or an infinity"),
    ("nan declared", math.nan, float | None, "NaN or an infinity"),
    ("infinity inside", [1.0, -math.inf], list[float | None], "NaN or an infinity"),
    ("nan in a dataclass", Point(math.nan), Point, "NaN or an infinity"),  # type: ignore[arg-type]
    ("nan in a model", Measured(value=math.nan), Measured, "NaN or an infinity"),
    ("nan beside a big number", [2**70, math.nan], list[float | None], "NaN or an infinity"),
    ("half a character", "\ud800", NONE, "lone surrogate"),
    ("half a character, declared", ["\ud800"], list[str], r"lone surrogate.*\(at \[0\]\)"),
    ("deep", nested(100_000), NONE, "nested too deeply"),
    ("circle", circle(), NONE, "contains itself"),
    ("other type", "5", int, r"does not fit its declared type int: Expected `int`, got `str`"),
    ("none", None, Point, "does not fit its declared type"),
    ("other class", DeeperPoint(1, 2, 3), Point, "declares .*Point, which is what would be read back"),
    ("secret", Secretive(name="a", token=SECRET), Secretive, "holds a secret"),
    ("secret inside", [Secretive(name="a", token=SECRET)], list[Secretive], "secret"),
    ("secret deep down", Holder(accounts={"a": [Secretive(name="a", token=SECRET)]}), Holder, "secret"),
    ("unreadable class", threading.Lock(), threading.Event, "has no JSON form"),
    ("readable only in part", {"a": 1}, collections.defaultdict[str, int], "cannot be read from JSON"),
]


@pytest.mark.parametrize(
    ("value", "kind", "says"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_what_does_not_survive_is_refused_at_the_first_call(value: object, kind: object, says: str) -> None:
    with pytest.raises(NotSerializable, match=says) as caught:
        Shape.of(returning(kind), "the result of step 'fetch'").recode(value)
    assert "the result of step 'fetch'" in str(caught.value)
    assert "s3cr3t" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_subclass_in_a_plain_place_is_what_json_says() -> None:
    assert codec.encode({"a": (1, Colour.RED, Path("x"))}, what="it") == b'{"a":[1,"red","x"]}'


@pytest.mark.parametrize("value", [math.nan, [math.inf], {"a": Point(-math.inf)}])  # type: ignore[arg-type]
def test_encode_refuses_what_json_lacks(value: object) -> None:
    with pytest.raises(NotSerializable, match=r"the state of run 'r1' .* NaN or an infinity"):
        codec.encode(value, what="the state of run 'r1'")


def test_encode_writes_none_beside_numbers() -> None:
    assert (
        codec.encode([None, 1.5, 2**70, 0xCB7FF8], what="it") == b"[null,1.5,1180591620717411303424,13336568]"
    )


def test_bytes_that_look_like_nan_are_not_taken_for_it() -> None:
    value = [0xCB7FF8CB7FF8CB, b"\xcb\x7f\xf8", None]
    assert codec.decode(codec.encode(value, what="it"), tuple[int, bytes, None], what="it") == tuple(value)


def test_a_payload_over_the_limit_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    big = "x" * (codec.LIMIT_BYTES + 1)
    with pytest.raises(PayloadTooLarge, match=r"the state is 64\.0 MiB of JSON, over the limit of 64 MiB"):
        codec.encode(big, what="the state")
    with pytest.raises(PayloadTooLarge, match="the result of step 's' is 64"):
        Shape.of(returning(str), "the result of step 's'").recode(big)
    assert codec.LIMIT_BYTES == codec_values.LIMIT_BYTES


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b'{"x":"a"}', Point),
        (b"{}", Point),
        (b"not json", Any),
        (b'"\xff"', str),
        (b"[" * 100_000, Any),
        (b"", Any),
    ],
)
def test_bytes_that_do_not_fit_are_refused_by_name(data: bytes, kind: object) -> None:
    with pytest.raises(NotSerializable, match="the state of run r1 does not fit"):
        codec.decode(data, kind, what="the state of run r1")


def test_a_recorded_result_that_no_longer_fits_is_refused_by_name() -> None:
    with pytest.raises(NotSerializable, match=r"the result of step 's' does not fit .*Point"):
        Shape.of(returning(Point), "the result of step 's'").decode(b'{"x":"a"}')


def test_data_never_names_code() -> None:
    poisoned = b'{"__class__": "os.system", "py/object": "os.system", "__reduce__": ["id"]}'
    assert codec.decode(poisoned, Any, what="it") == msgspec.json.decode(poisoned)


class Nested(pydantic.BaseModel):
    words: frozenset[str] = frozenset()
    parts: list[Model] = []
    by_name: dict[str, set[int]] = {}
    pairs: tuple[set[str], int] = (set(), 0)
    listed: pydantic.RootModel[set[str]] = pydantic.RootModel[set[str]](set())


SETS_IN_MODELS = """
import datetime as dt
from tests.runtime.test_codec import Model, Nested, NOW, codec
words = {"one", "two", "three", "four", "five"}
value = Nested(
    words=words, parts=[Model(at=NOW, tags=words)], by_name={"a": {3, 1, 2**40}}, pairs=(words, 1), listed=words
)
print(codec.encode(value, what="it").decode(), codec.fingerprint((value,), None).hex())
"""


def test_sets_in_models_are_recorded_in_one_order_in_every_process() -> None:
    told = {
        subprocess.run(
            [sys.executable, "-c", SETS_IN_MODELS],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            cwd=Path(__file__).parent.parent.parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in range(3)
    }
    assert len(told) == 1


# --- annotations ----------------------------------------------------------------------------------------------


def f_point() -> Point: ...  # type: ignore[empty-body]
async def f_async() -> Point: ...  # type: ignore[empty-body]
def f_awaitable() -> Awaitable[Point]: ...  # type: ignore[empty-body]
def f_coroutine() -> Coroutine[Any, Any, Point]: ...  # type: ignore[empty-body]
def f_missing() -> Nowhere: ...  # type: ignore[name-defined]  # noqa: F821
def f_parameter(unknown: Nowhere) -> Point: ...  # type: ignore[name-defined, empty-body]  # noqa: F821
def f_sequence() -> Sequence[int]: ...  # type: ignore[empty-body]
def f_union() -> Path | str: ...  # type: ignore[empty-body]
def f_none() -> None: ...


class WithMissing(msgspec.Struct):
    field: Nowhere  # type: ignore[name-defined]  # noqa: F821


def f_with_missing() -> WithMissing: ...  # type: ignore[empty-body]


def wrapped(fn: Callable[..., T]) -> Callable[..., T]:
    @functools.wraps(fn)
    def inner(*args: object) -> T:
        return fn(*args)

    return inner


class Callables:
    def method(self) -> Point: ...  # type: ignore[empty-body]

    @classmethod
    def made(cls) -> Point: ...  # type: ignore[empty-body]

    @staticmethod
    def static() -> Point: ...  # type: ignore[empty-body]

    def __call__(self) -> Point: ...  # type: ignore[empty-body]


@pytest.mark.parametrize(
    "fn",
    [
        f_point,
        f_async,
        f_awaitable,
        f_coroutine,
        f_parameter,
        functools.partial(f_parameter, 1),
        functools.partial(functools.partial(f_point)),
        wrapped(f_point),
        Callables().method,
        Callables.made,
        Callables.static,
        Callables(),
        Point,
    ],
)
def test_the_return_type_is_found(fn: Callable[..., object]) -> None:
    assert Shape.of(fn, "it").kind is Point


@pytest.mark.parametrize("fn", [lambda: 1, len, functools.partial(len, ()), f_none])
def test_functions_that_declare_nothing_give_json_types(fn: Callable[..., object]) -> None:
    assert Shape.of(fn, "it").recode({"a": None})[1] == {"a": None}


def test_a_sequence_may_be_a_tuple() -> None:
    assert Shape.of(f_sequence, "it").recode((1, 2))[1] == [1, 2]


def test_an_annotation_that_cannot_be_resolved_is_named() -> None:
    with pytest.raises(UsageError, match=r"return annotation of f_missing \('Nowhere'\).*TYPE_CHECKING"):
        Shape.of(f_missing, "it")
    with pytest.raises(UsageError, match="WithMissing"):
        Shape.of(f_with_missing, "it")


def test_a_union_that_json_cannot_tell_apart_is_refused_with_the_fix() -> None:
    with pytest.raises(UsageError, match="Declare one type"):
        Shape.of(f_union, "it")


def test_a_shape_is_built_once_for_a_function() -> None:
    assert Shape.of(f_point, "it") is Shape.of(f_point, "it")
    assert Shape.of(f_point, "another").what == "another"


# --- fingerprints ---------------------------------------------------------------------------------------------


def test_equal_arguments_have_equal_fingerprints() -> None:
    one = ({"b": 1, "a": {3, 1, 2}}, [POINT, MODEL], Path("x"))
    two = ({"a": {2, 3, 1}, "b": 1}, [Point(1, 2), MODEL.model_copy()], Path("x"))
    assert codec.fingerprint(one, None) == codec.fingerprint(two, None)
    assert len(codec.fingerprint(one, None)) == 16


def test_other_arguments_have_other_fingerprints() -> None:
    different = [
        (),
        (1,),
        ("1",),
        (1.5,),
        (1, 2),
        ([1, 2],),
        ({"a": 1},),
        ({1: 2},),
        ({2: 1},),
        (POINT,),
        (None,),
    ]
    prints = {codec.fingerprint(args, version) for args in different for version in (None, "1", "2")}
    assert len(prints) == len(different) * 3


def test_what_has_no_canonical_form_counts_by_its_type() -> None:
    def prints(*args: object) -> bytes:
        return codec.fingerprint(args, None)

    assert prints(threading.Lock(), 1) == prints(threading.Lock(), 1) != prints(threading.Lock(), 2)
    assert prints(threading.Event()) != prints(threading.Lock())
    assert prints(lambda: 1) == prints(lambda: 2)
    assert prints({"client": object(), "n": 1}) != prints({"client": object(), "n": 2})


@pytest.mark.parametrize(
    "args",
    [
        ("\ud800",),
        (circle(),),
        (nested(100_000),),
        (math.nan,),
        ({(1, 2): 3},),
        ({1, "a", None},),
        ({frozenset({1}), frozenset({"a"})},),
        ({None: object()},),
        (2**200,),
        (Secretive(name="a", token=pydantic.SecretStr("x")),),
        (open,),
        (type,),
    ],
    ids=lambda args: str(type(args[0])),
)
def test_a_fingerprint_never_raises(args: tuple[object, ...]) -> None:
    assert codec.fingerprint(args, None) == codec.fingerprint(args, None)


def test_texts_with_half_characters_are_told_apart() -> None:
    assert codec.fingerprint(("\ud800",), None) != codec.fingerprint(("\ud801",), None)


def test_sets_of_mixed_values_are_sorted() -> None:
    assert codec.fingerprint(({1, "a", 2.5, "b"},), None) == codec.fingerprint(({"b", 2.5, "a", 1},), None)
    assert codec.fingerprint(({1, "a"},), None) != codec.fingerprint(({1, "b"},), None)
    assert codec.fingerprint(({(1, 2): {3}},), None) != codec.fingerprint(({(1, 2): {4}},), None)


def test_fingerprints_are_the_same_in_every_process_and_release() -> None:
    """They are compared with recorded ones: whoever changes them holds every run in flight as a mismatch."""
    assert codec.fingerprint(("a", 1, {"b": {2, 1}}), None).hex() == "96d6684d597d689ffd155b88eda16d96"
    assert codec.fingerprint(({1: "a"}, object(), Path("x")), "2").hex() == "56fbd10d5abcc145536231bc34abc0b2"
