"""The codec: values ↔ journal bytes, JSON into declared types, with limits.

Laws:
1. Data never names code: bytes are read only into the type that the code at hand declares.
2. What is handed out is always what was recorded, decoded: the first time as on every replay.
3. What would not survive is refused when it is recorded, never when it is read.

JSON has no NaN and no infinity, and msgspec writes `null` for them; they are searched for only where a `null` stands.
"""

from __future__ import annotations

from holdfast.codec.canonical import fingerprint
from holdfast.codec.inputs import decode_input, input_json, normalise_input
from holdfast.codec.shape import Shape
from holdfast.codec.values import LIMIT_BYTES, decode, encode

__all__ = [
    "LIMIT_BYTES",
    "Shape",
    "decode",
    "decode_input",
    "encode",
    "fingerprint",
    "input_json",
    "normalise_input",
]
