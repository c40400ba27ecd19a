"""The shape of a step: how what one function returns is recorded and handed out."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable
from typing import Any, Final, NoReturn, cast
from weakref import WeakKeyDictionary

import msgspec

from holdfast.codec.annotations import return_kind, target_of
from holdfast.codec.kinds import JSON_KINDS, REFUSALS, encode_json, is_model, kind_name, reader, type_name
from holdfast.codec.values import LIMIT_BYTES, decode, difference, encode, refuse_encoding, refuse_nan
from holdfast.errors import NotSerializable


class Shape:
    """How the results of one function are recorded: its return type, with encoder and decoder at hand.

    Build it with `Shape.of`; it is cheap to keep and may be used from any thread.
    """

    __slots__ = ("_class", "_compared", "_decode", "kind", "what")

    def __init__(self, what: str, kind: object) -> None:
        self.what = what
        self.kind = kind
        self._decode: Callable[[bytes], object] = reader(kind).decode
        self._compared = kind in JSON_KINDS or _is_loose(kind)
        self._class = kind if _is_record_class(kind) else None

    @classmethod
    def of(cls, fn: Callable[..., object], what: str) -> Shape:
        """The shape of what `fn` returns. `what` names the step in errors, as in "the result of step 'fetch'".

        Raises UsageError when the return annotation cannot be resolved, or JSON cannot be read into it.
        """
        target = target_of(fn)
        try:
            found = _shapes.get(target)
        except TypeError:  # no weak reference to it
            return cls(what, return_kind(target))
        if found is None:
            found = _shapes[target] = cls(what, return_kind(target))
        return found if found.what == what else cls(what, found.kind)

    def recode(self, value: object) -> tuple[bytes, object]:
        """Return the bytes to record and what they decode to: the value that the caller gets.

        Raises NotSerializable when the value does not survive, naming the step, the type and the fix;
        PayloadTooLarge over LIMIT_BYTES.
        """
        try:
            data = encode_json(value)
        except REFUSALS as error:
            refuse_encoding(value, self.what, error)
        # Comparing finds NaN by itself, and costs less than to look for a `null`.
        if len(data) > LIMIT_BYTES or (not self._compared and b"null" in data):
            encode(value, what=self.what)
        try:
            decoded = self._decode(data)
            if self._compared:
                if decoded != value:
                    self._refuse_change(value, decoded)
            elif self._class is not None and type(decoded) is not type(value):
                self._refuse_class(value)
        except REFUSALS as error:
            raise NotSerializable(
                f"{self.what} (a {type_name(value)}) does not fit its declared type {kind_name(self.kind)}: {error}. "
                "Return what the annotation says, or correct the annotation"
            ) from error
        return data, decoded

    def decode(self, data: bytes) -> object:
        """Read a recorded result. Raises NotSerializable when the declared type no longer fits it."""
        try:
            return self._decode(data)
        except REFUSALS:
            return decode(data, self.kind, what=self.what)

    def _refuse_change(self, value: object, decoded: object) -> NoReturn:
        refuse_nan(value, self.what)
        how = "annotate" if self.kind in JSON_KINDS else "annotate more precisely"
        example = (
            f"-> {type(value).__qualname__}"
            if type(value) not in (list, dict)
            else "-> list[...] or dict[...]"
        )
        raise NotSerializable(
            f"{self.what} (a {type_name(value)}) does not survive being recorded: {difference(value, decoded)}. "
            f"To fix it, {how} the function's return type ({example}), or return plain JSON types"
        )

    def _refuse_class(self, value: object) -> NoReturn:
        raise NotSerializable(
            f"{self.what} is a {type_name(value)}, but the function declares {kind_name(self.kind)}, which is what "
            "would be read back. Annotate the function with the class it returns (several: a union of tagged Structs)"
        )


_shapes: WeakKeyDictionary[object, Shape] = WeakKeyDictionary()


def _is_record_class(kind: object) -> bool:
    return isinstance(kind, type) and (
        is_model(kind)
        or dataclasses.is_dataclass(cast("object", kind))
        or hasattr(cast("object", kind), "__attrs_attrs__")
        or issubclass(kind, msgspec.Struct)
    )


_OPEN: Final[frozenset[object]] = frozenset({Any, object, dict, list})
_PLAIN: Final[frozenset[object]] = frozenset({bool, int, float, str, types.NoneType})


def _is_loose(kind: object) -> bool:
    """Whether the kind is made of JSON types and leaves parts open (`dict[str, Any]`): then equality must decide."""
    leaves = set(_leaves(kind))
    return bool(leaves & _OPEN) and leaves <= _OPEN | _PLAIN


def _leaves(kind: object) -> list[object]:
    origin = typing.get_origin(kind)
    if origin in (list, dict, typing.Union, types.UnionType):
        return [leaf for part in typing.get_args(kind) for leaf in _leaves(part)]
    return [kind if origin is None else origin]
