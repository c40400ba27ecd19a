"""What a run asks of the worker that executes it, and what a worker has: words such as `gpu`."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Final, cast

from holdfast.errors import UsageError

MAX_LABELS: Final = 16
"""Labels of one run or worker: each is a kind of machine, and there are few of those."""
_LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:=/-]{0,62}")

Labels = tuple[str, ...]
"""Sorted, each once."""


def checked(labels: object, whose: str) -> Labels:
    """The labels in order, each once. Raises UsageError for what cannot be one."""
    if isinstance(labels, str) or not isinstance(labels, Collection):
        raise UsageError(f"{whose}: labels are a collection of text, as in ('gpu',), not {labels!r}")
    words = cast("Collection[object]", labels)
    for label in words:
        if not isinstance(label, str) or not _LABEL.fullmatch(label):
            raise UsageError(
                f"{whose}: {label!r} is no label: 1 to 63 letters, digits and any of '_.:=/-', beginning with a "
                "letter or digit"
            )
    found = tuple(sorted({str(label) for label in words}))
    if len(found) > MAX_LABELS:
        raise UsageError(f"{whose}: {len(found)} labels, and {MAX_LABELS} are the most")
    return found


def fit(needs: Collection[str], has: Collection[str]) -> bool:
    """Whether a worker that has these labels may execute a run that asks for those."""
    return all(label in has for label in needs)


def lacking(needs: Labels, workers: Iterable[Collection[str]]) -> Labels:
    """What a run asks for and the worker that has most of it does not have; nothing when there is no worker."""
    left = (tuple(label for label in needs if label not in has) for has in workers)
    return min(left, key=len, default=())


def told(labels: Labels) -> str:
    """As they are stored, and shown: `eu,gpu`."""
    return ",".join(labels)


def of(text: str) -> Labels:
    """What `told` made of them."""
    return tuple(text.split(",")) if text else ()
