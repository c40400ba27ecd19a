"""Values to bytes and back, and the words for what is refused."""

from __future__ import annotations

import dataclasses
from typing import Any, Final, NoReturn, cast

import msgspec

from holdfast.codec.kinds import REFUSALS, encode_json, holds_nan, kind_name, reader, type_name
from holdfast.errors import NotSerializable, PayloadTooLarge

LIMIT_BYTES: Final = 64 * 1024 * 1024
"""One payload's hard limit: a row beyond it would stall every run that shares the transaction."""


def encode(value: object, *, what: str) -> bytes:
    """Return `value` as JSON. `what` names it in errors, as in "the state of run r1".

    Raises NotSerializable for a value without JSON form (NaN and infinity too), PayloadTooLarge over LIMIT_BYTES.
    """
    try:
        data = encode_json(value)
    except REFUSALS as error:
        refuse_encoding(value, what, error)
    if len(data) > LIMIT_BYTES:
        raise PayloadTooLarge(
            f"{what} is {len(data) / 2**20:.1f} MiB of JSON, over the limit of {LIMIT_BYTES // 2**20} MiB: "
            "write it to a file and record the path"
        )
    if b"null" in data:
        refuse_nan(value, what)
    return data


def decode(data: bytes, kind: object, *, what: str) -> object:
    """Read JSON into `kind`; no kind (`inspect.Signature.empty`, `Any`, `None`) means JSON types.

    Raises NotSerializable when the bytes do not fit, UsageError when nothing can be read into such a kind.
    """
    try:
        return reader(kind).decode(data)
    except REFUSALS as error:
        raise NotSerializable(
            f"{what} does not fit {kind_name(kind)}: {error}. Make the type read what is recorded (defaults for new "
            "fields, a union for changed ones)"
        ) from error


def refuse_encoding(value: object, what: str, error: Exception) -> NoReturn:
    """Say why a value cannot be encoded, where in it, and what to do."""
    if isinstance(error, RecursionError):
        reason, fix = "it is nested too deeply, or contains itself", "Record a flat form of it"
    elif isinstance(error, UnicodeEncodeError):
        reason = "its text holds half a character (a lone surrogate), which UTF-8 cannot carry"
        fix = "Clean the text first: text.encode('utf-8', 'replace').decode()"
    else:
        reason = str(error)
        fix = (
            "Use plain JSON types, a dataclass, a msgspec Struct, a pydantic or attrs class, and keep open files, "
            "clients, callables and locks out"
        )
    where = path_to_refused(value)
    raise NotSerializable(
        f"{what} (a {type_name(value)}) cannot be recorded: {reason}{where}. {fix}"
    ) from error


def refuse_nan(value: object, what: str) -> None:
    """Raise NotSerializable when a NaN or an infinity stands in the value."""
    if holds_nan(value):
        raise NotSerializable(
            f"{what} (a {type_name(value)}) cannot be recorded: it holds NaN or an infinity, which JSON lacks. "
            "Replace it by None, or by a string of your own"
        )


def parts_of(value: object) -> list[tuple[str, object]]:
    """What a value holds, each part with the step that leads to it, as in ".name" or "[0]"."""
    if isinstance(value, dict):
        return [(f"[{key!r}]", part) for key, part in cast("dict[object, object]", value).items()]
    if isinstance(value, list | tuple):
        return [(f"[{n}]", part) for n, part in enumerate(cast("list[object]", value))]
    if isinstance(value, type):
        return []
    if isinstance(value, msgspec.Struct):
        return [(f".{name}", getattr(value, name, None)) for name in value.__struct_fields__]
    if dataclasses.is_dataclass(value):
        return [(f".{field.name}", getattr(value, field.name, None)) for field in dataclasses.fields(value)]
    attributes: tuple[Any, ...] = getattr(value, "__attrs_attrs__", ())
    return [(f".{attribute.name}", getattr(value, attribute.name, None)) for attribute in attributes]


def _keys(value: object) -> list[object]:
    return list(cast("dict[object, object]", value)) if isinstance(value, dict) else []


def path_to_refused(value: object) -> str:
    """Where in `value` the part stands that cannot be encoded, as " (at [3].client)"; empty for the whole."""
    path = ""
    for _ in range(50):  # deeper paths are no help to anybody
        for key in _keys(value):
            if _refused({key: None}):
                return f" (the key {repr(key)[:80]}{f' of {path[:200]}' if path else ''})"
        step, part = next(((step, part) for step, part in parts_of(value) if _refused(part)), ("", None))
        if not step:
            break
        path, value = path + step, part
    return f" (at {path[:200]})" if path else ""


def _refused(part: object) -> bool:
    try:
        encode_json(part)
    except REFUSALS:
        return True
    return False


def difference(value: object, decoded: object) -> str:
    """The first place where what was read differs from what was written, in words."""
    path = ""
    while type(value) is type(decoded):
        ours, theirs = parts_of(value), dict(parts_of(decoded))
        step, part = next(((s, p) for s, p in ours if s not in theirs or theirs[s] != p), ("", None))
        if not step:
            return f"{repr(value)[:80]} comes back as {repr(decoded)[:80]}{f' (at {path[:200]})' if path else ''}"
        if step not in theirs:
            return f"the key {step} comes back as text{f' (at {path[:200]})' if path else ''}"
        path, value, decoded = path + step, part, theirs[step]
    where = f" (at {path[:200]})" if path else ""
    return f"a {type_name(value)} comes back as a {type_name(decoded)}{where}"
