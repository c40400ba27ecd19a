"""Fingerprints of arguments: equal for equal ones, in every process."""

from __future__ import annotations

import hashlib
from typing import Final, cast

import msgspec

from holdfast.codec.kinds import REFUSALS, enc_hook, type_name


def _print_hook(value: object) -> object:
    try:
        return enc_hook(value)
    except REFUSALS:
        return {"type": type_name(value)}


_encode_print: Final = msgspec.json.Encoder(enc_hook=_print_hook, order="deterministic").encode


def fingerprint(args: tuple[object, ...], version: str | None) -> bytes:
    """16 bytes that are equal for equal arguments, in every process. Never raises.

    What has no canonical form (clients, callables, open files, locks) counts by the name of its type.
    """
    try:
        data = _encode_print((version, args))
    except REFUSALS:
        data = _encode_print((version, [_canonical(arg) for arg in args]))
    return hashlib.blake2b(data, digest_size=16).digest()


def _canonical(value: object) -> object:
    try:
        return _canonical_part(value)
    except (*REFUSALS, RuntimeError):  # too deep; or changed by a thread meanwhile
        return {"type": type_name(value)}


def _canonical_part(value: object) -> object:
    if isinstance(value, dict):
        mapping = cast("dict[object, object]", value)
        pairs = [
            (_encode_print(_canonical_part(key)), _canonical_part(part)) for key, part in mapping.items()
        ]
        return {"dict": [(key.decode(), part) for key, part in sorted(pairs, key=lambda pair: pair[0])]}
    if isinstance(value, set | frozenset):
        members = cast("frozenset[object]", value)
        return sorted(_encode_print(_canonical_part(part)).decode() for part in members)
    if isinstance(value, list | tuple):
        return [_canonical_part(part) for part in cast("list[object]", value)]
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass").decode("latin-1")
    try:
        return msgspec.Raw(_encode_print(value))
    except REFUSALS:
        return {"type": type_name(value)}
