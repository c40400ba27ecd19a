"""Sizes as people write them: bytes, or text such as "200MB", "1GiB"."""

from __future__ import annotations

import re
from typing import Final, TypeAlias

from holdfast.errors import UsageError

Size: TypeAlias = int | str

MAX_BYTES: Final = 1 << 60
"""An exbibyte: what is larger was meant as "no limit", and overflows the counters of some kernels."""

_UNITS: Final[dict[str, int]] = {"": 1, "b": 1} | {
    prefix + ending: int(base**power)
    for power, prefix in enumerate("kmgtp", start=1)
    for ending, base in (("b", 1000), ("ib", 1024))
}
_TEXT = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")


def size_bytes(size: Size) -> int:
    """Return `size` in whole bytes, a fraction of one cut off. MB is 1,000,000 bytes, MiB 1,048,576; capitals do not
    matter. Raises UsageError when it is negative, over MAX_BYTES, or not understood."""
    if isinstance(size, bool):
        raise UsageError("a size is a number of bytes or text like '200MB', not a bool")
    value = size if isinstance(size, int) else _parsed(size)
    if not 0 <= value <= MAX_BYTES:
        raise UsageError(f"a size must not be negative, nor larger than an exbibyte, which {size!r} is")
    return value


def _parsed(text: str) -> int:
    found = _TEXT.fullmatch(text.strip().lower())
    if found is None or found[2] not in _UNITS:
        raise UsageError(
            f"{text!r} is not a size: write bytes, or text like '200MB' (1,000,000 each) or '1GiB' (1,073,741,824)"
        )
    whole, _, fraction = found[1].partition(".")
    return int(whole + fraction) * _UNITS[found[2]] // int(10 ** len(fraction))
