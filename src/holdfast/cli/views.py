"""The JSON that `--json` prints: keys and times as documented, and pinned by a golden file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, cast

import msgspec

from holdfast.cli.saying import say_json
from holdfast.cli.words import rfc3339
from holdfast.client import Json, RunView, UsageView
from holdfast.client.view import at, event_payload
from holdfast.model import Event

_RENAMED: Final = {"error_class": "class"}  # a keyword of Python cannot be a field


def jsonable(value: object) -> Json:
    """A view, or a list of views, as JSON values."""
    if isinstance(value, datetime):
        return rfc3339(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _object(value, [one.name for one in dataclasses.fields(value)])
    if isinstance(value, msgspec.Struct):
        return _object(value, value.__struct_fields__)
    if isinstance(value, Mapping):
        pairs = cast("Mapping[object, object]", value)
        return {str(key): jsonable(one) for key, one in pairs.items()}
    if isinstance(value, str):
        return str(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Iterable):
        return [jsonable(one) for one in cast("Iterable[object]", value)]
    raise TypeError(f"{type(value).__name__} has no JSON form here")


def _object(value: object, names: Iterable[str]) -> Json:
    return {_RENAMED.get(name, name): jsonable(getattr(value, name)) for name in names}


def in_trees(tops: Sequence[RunView], below: Sequence[RunView], *, of: str | None = None) -> list[RunView]:
    """Each run followed by what it started, and so on down; or what the run `of` started."""
    children: dict[str | None, list[RunView]] = {}
    for view in below:
        children.setdefault(view.parent, []).append(view)
    ordered: list[RunView] = []
    left = list(reversed(tops or children.get(of, [])))
    while left:
        view = left.pop()
        ordered.append(view)
        left += reversed(children.get(view.id, []))
    return ordered


def event_json(event: Event) -> dict[str, Json]:
    """An event as `watch --json` and `logs --json` print it."""
    return {
        "run": event.run,
        "n": event.n,
        "at": rfc3339(at(event.at_us)),
        "type": event.type,
        "data": {key.removesuffix("_us"): _told(key, value) for key, value in event_payload(event).items()},
    }


def _told(key: str, value: Json) -> Json:
    """Instants are whole microseconds in the store (`…_at_us`), and RFC 3339 in the shell."""
    return rfc3339(at(value)) if key.endswith("at_us") and isinstance(value, int) else value


def shown_whole(view: RunView, history: Sequence[UsageView]) -> dict[str, Json]:
    """What `show --json` prints: a view of a run, and what it used over its life."""
    shown = jsonable(view)
    assert isinstance(shown, dict), "a view is an object"
    return {**shown, "history": jsonable(history)}


def print_document(value: object) -> None:
    """One JSON document on stdout."""
    say_json(jsonable(value), indent=2)


def print_line(value: object) -> None:
    """One JSON document on one line of stdout, at once."""
    say_json(jsonable(value))
