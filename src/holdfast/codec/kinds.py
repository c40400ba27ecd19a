"""What JSON can be read into: the types that msgspec leaves to us, their readers, and their names."""

from __future__ import annotations

import collections
import functools
import inspect
import re
import sys
import types
import typing
from pathlib import PurePath
from typing import Any, Final, Protocol, TypeVar, cast

import msgspec

from holdfast.errors import UsageError

EMPTY: Final = inspect.Signature.empty
JSON_KINDS: Final = (EMPTY, Any, object, None, types.NoneType)
REFUSALS: Final = (
    TypeError,
    ValueError,
    AttributeError,
    OverflowError,
    RecursionError,
    NotImplementedError,
    msgspec.MsgspecError,
)
"""What encoding, decoding and comparing raise for values they cannot handle; translated here, once."""

_T = TypeVar("_T")


class Reader(Protocol):
    """What reads JSON into one kind."""

    def decode(self, data: bytes, /) -> object: ...


def type_name(value: object) -> str:
    """The name of a value's class, as errors say it."""
    return kind_name(type(value))


def kind_name(kind: object) -> str:
    """The name of a kind, as errors say it."""
    if not isinstance(kind, type) or typing.get_args(kind):
        return str(kind).replace("typing.", "")
    return (
        kind.__qualname__
        if kind.__module__ in ("builtins", "__main__")
        else f"{kind.__module__}.{kind.__qualname__}"
    )


class _Unsupported(TypeError):
    """A value that has no JSON form."""


def _pydantic() -> Any:  # noqa: ANN401 - a module that is never imported by us has no type here
    """pydantic, if the user's code imported it."""
    return sys.modules.get("pydantic")


def is_model(kind: object) -> bool:
    """Whether the kind is a pydantic model. Never imports pydantic: who has a model has imported it."""
    pydantic = _pydantic()
    base = getattr(pydantic, "BaseModel", None)
    return base is not None and isinstance(kind, type) and issubclass(kind, base)


@functools.cache
def _names_apply() -> bool:
    """Whether this pydantic can validate by field name whatever the aliases are (2.11 on)."""
    return tuple(int(part) for part in _pydantic().VERSION.split(".")[:2]) >= (2, 11)


def _dump_model(model: Any) -> object:  # noqa: ANN401 - an instance of the user's pydantic
    dumped = model.model_dump(mode="json", round_trip=True, by_alias=not _names_apply())
    if _holds_secret(model):
        raise _Unsupported(
            "it holds a secret, which pydantic writes as asterisks: keep secrets out of what is recorded"
        )
    _order_sets(model, dumped)
    return cast("object", dumped)


def _order_sets(value: object, plain: object) -> None:
    """Sort the lists that pydantic made of sets, whose order is another one in every process."""
    if isinstance(plain, list):
        parts = cast("list[object]", plain)
        if isinstance(value, set | frozenset):
            parts.sort(key=msgspec.json.encode)
        elif isinstance(value, list | tuple):
            for part, plain_part in zip(cast("list[object]", value), parts, strict=False):
                _order_sets(part, plain_part)
        elif hasattr(value, "root"):
            _order_sets(vars(value)["root"], parts)
    elif isinstance(plain, dict):
        by_name = cast("dict[str, object]", plain)
        if isinstance(value, dict):
            for part, plain_part in zip(
                cast("dict[object, object]", value).values(), by_name.values(), strict=False
            ):
                _order_sets(part, plain_part)
        else:
            for name, part in getattr(value, "__dict__", {}).items():
                _order_sets(part, by_name.get(name))


def _holds_secret(part: object) -> bool:
    pydantic = _pydantic()
    if isinstance(part, (pydantic.SecretStr, pydantic.SecretBytes)):
        return bool(cast("Any", part).get_secret_value())
    if isinstance(part, pydantic.BaseModel):
        return any(map(_holds_secret, vars(part).values()))
    if isinstance(part, dict):
        return any(map(_holds_secret, cast("dict[object, object]", part).values()))
    if isinstance(part, list | tuple | set | frozenset):
        return any(map(_holds_secret, cast("list[object]", part)))
    return False


def _load_model(kind: Any, plain: object) -> object:  # noqa: ANN401 - a class of the user's pydantic
    data = msgspec.json.encode(
        plain
    )  # from JSON, not from Python values: strict models read dates and tuples so
    if _names_apply():
        return cast("object", kind.model_validate_json(data, by_name=True, by_alias=False))
    return cast("object", kind.model_validate_json(data))


def enc_hook(value: object) -> object:
    """A simpler value for one that msgspec does not know. Raises TypeError when it has none."""
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if is_model(type(value)):
        return _dump_model(value)
    raise _Unsupported(f"a {type_name(value)} has no JSON form")


def _dec_hook(kind: Any, plain: object) -> object:  # noqa: ANN401 - msgspec's signature
    if kind is object:
        return plain
    origin = typing.get_origin(kind) or kind
    if isinstance(origin, type):
        if issubclass(origin, PurePath):
            return origin(_expect(plain, str))
        if is_model(kind):
            return _load_model(kind, plain)
        if issubclass(origin, collections.Counter | collections.OrderedDict):
            return cast("object", origin(_expect(plain, dict)))
    raise NotImplementedError(f"{kind_name(kind)} cannot be read from JSON")


def _expect(plain: object, kind: type[_T]) -> _T:
    if not isinstance(plain, kind):
        raise ValueError(f"expected {kind.__name__}, got {type_name(plain)}")
    return plain


encode_json: Final = msgspec.json.Encoder(enc_hook=enc_hook).encode
encode_sorted: Final = msgspec.json.Encoder(enc_hook=enc_hook, order="sorted").encode
decode_json: Final = msgspec.json.Decoder().decode
decode_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class _UnionReader:
    """Reads unions with pydantic models in them, which msgspec cannot tell apart, by pydantic's own rules."""

    def __init__(self, kind: object) -> None:
        self._adapter = _pydantic().TypeAdapter(kind)

    def decode(self, data: bytes, /) -> object:
        if _names_apply():
            return cast("object", self._adapter.validate_json(data, by_name=True, by_alias=False))
        return cast("object", self._adapter.validate_json(data))


def _mentions_model(kind: object) -> bool:
    return is_model(kind) or any(_mentions_model(part) for part in typing.get_args(kind))


def reader(kind: object) -> Reader:
    """The decoder of a kind. Raises UsageError when JSON cannot be read into it."""
    try:
        return _cached_reader(kind)
    except TypeError as error:
        if "unhashable" in str(error):
            return _new_reader(kind)
        raise


@functools.lru_cache(maxsize=1024)
def _cached_reader(kind: object) -> Reader:
    return _new_reader(kind)


def _new_reader(kind: object) -> Reader:
    if kind in JSON_KINDS:
        return msgspec.json.Decoder()
    try:
        return msgspec.json.Decoder(cast("type[object]", kind), dec_hook=_dec_hook)
    except (*REFUSALS, NameError) as error:
        if isinstance(error, TypeError) and _mentions_model(kind):
            return _UnionReader(kind)
        raise UsageError(
            f"the type {kind_name(kind)} cannot be read from JSON: {error}. "
            "Declare one type that says what to build: a dataclass, or a union of tagged msgspec Structs"
        ) from error


# A float64 in MessagePack is 0xcb and eight bytes; NaN and infinities have an exponent of ones. Text cannot hold
# these bytes; integers and binaries can, so that a hit is looked at again.
_NAN_BYTES: Final = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")
_pack: Final = msgspec.msgpack.Encoder(enc_hook=enc_hook).encode


def holds_nan(value: object) -> bool:
    """Whether a NaN or an infinity stands anywhere in a value that can be encoded."""
    try:
        if not _NAN_BYTES.search(_pack(value)):
            return False
    except REFUSALS:
        pass  # integers beyond 64 bits: look at every part
    todo: list[object] = [msgspec.to_builtins(value, enc_hook=enc_hook)]
    while todo:
        part = todo.pop()
        if isinstance(part, float):
            if part - part != 0:
                return True
        elif isinstance(part, dict):
            todo.extend(cast("dict[object, object]", part).values())
        elif isinstance(part, list | tuple | set | frozenset):
            todo.extend(cast("list[object]", part))
    return False
