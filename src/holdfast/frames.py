"""The user's own frames of an error: what a traceback says with ours cut out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from traceback import StackSummary, TracebackException
from typing import Final

from holdfast.errors import StepFailed

_OURS: Final = str(Path(__file__).parent)
MAX_CHARS: Final = 16_384
"""Longer tracebacks are cut in the middle: both ends say more than the recursion between them."""
_MAX_LINKS: Final = 50


def user_frames(error: BaseException) -> str:
    """The traceback of `error` and its causes as text, without frames of holdfast; "" when none is left."""
    trace = TracebackException.from_exception(error, compact=True)
    kept = sum(_cut(link) for link in _chain(trace))
    if not kept:
        return ""
    text = "".join(trace.format())
    if len(text) <= MAX_CHARS:
        return text
    half = MAX_CHARS // 2
    return f"{text[:half]}\n… {len(text) - MAX_CHARS} characters left out …\n{text[-half:]}"


def step_failures(error: BaseException) -> tuple[StepFailed, ...]:
    """The StepFailed errors in `error`: itself, its causes, contexts and groups."""
    found: dict[int, StepFailed] = {}
    seen: set[int] = set()
    todo: list[BaseException] = [error]
    while todo and len(seen) < _MAX_LINKS:
        link = todo.pop()
        if id(link) in seen:
            continue
        seen.add(id(link))
        if isinstance(link, StepFailed):
            found.setdefault(link.entry, link)
        if isinstance(link, BaseExceptionGroup):
            todo.extend(link.exceptions)
        todo.extend(near for near in (link.__cause__, link.__context__) if near is not None)
    return tuple(found.values())


def _chain(trace: TracebackException) -> Iterator[TracebackException]:
    todo = [trace]
    for _ in range(_MAX_LINKS):
        if not todo:
            return
        link = todo.pop()
        yield link
        todo.extend(near for near in (link.__cause__, link.__context__) if near is not None)
        todo.extend(link.exceptions or ())


def _cut(link: TracebackException) -> int:
    theirs = [frame for frame in link.stack if not frame.filename.startswith(_OURS)]
    link.stack = StackSummary.from_list(theirs)
    return len(theirs)
