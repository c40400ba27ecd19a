"""Stores: durable memory behind one protocol. `open_store` is the door."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.errors import StoreError, StoreRefused, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.clock import Clock
    from holdfast.store.protocol import Store

ENTRY_POINTS = "holdfast.stores"
"""Where another package registers `scheme = "module:opener"`; `opener(url, *, clock)` returns a Store."""


def open_store(url: str | Path, *, clock: Clock | None = None) -> Store:
    """The store at `url`, not yet opened: `async with open_store(...) as store`, or `await store.open()`.

    `sqlite:///name.db` is relative to the working directory, `sqlite:////var/lib/name.db` absolute, a plain path
    either. Other schemes come from installed packages. Raises UsageError, naming what is known.
    """
    text = str(url)
    if isinstance(url, Path) or "://" not in text:
        return _sqlite(text, clock)
    scheme = text.partition("://")[0]
    if scheme == "sqlite":
        return _sqlite(_path_of(text), clock)
    return _registered(scheme, text, clock)


def _path_of(url: str) -> str:
    rest = url.removeprefix("sqlite://")
    if not rest.startswith("/"):
        if rest in ("", ":memory:"):
            _sqlite_path(rest or ":memory:")
        raise UsageError(
            f"{url!r}: write sqlite:///{rest} for a file here, or sqlite:////… for an absolute path"
        )
    return rest[1:]


def _sqlite_path(text: str) -> str:
    if text in ("", ":memory:"):
        raise UsageError(
            "a store in memory would forget everything: name a file, such as sqlite:///holdfast.db"
        )
    if "\0" in text:
        raise UsageError("the path of a store cannot contain a null character")
    return text


def _sqlite(path: str, clock: Clock | None) -> Store:
    path = _sqlite_path(path)
    from holdfast.clock import SystemClock
    from holdfast.store.sqlite import SQLiteStore

    return SQLiteStore(Path(path).expanduser(), clock=clock or SystemClock())


def _registered(scheme: str, url: str, clock: Clock | None) -> Store:
    from importlib import metadata  # here: to load it takes long, and hardly anybody needs it

    found = {point.name: point for point in metadata.entry_points(group=ENTRY_POINTS)}
    if scheme in found:
        try:
            opener: Callable[..., Store] = found[scheme].load()
        except (ImportError, AttributeError) as error:
            raise StoreError(
                f"the store {scheme!r} is registered by {found[scheme].value!r}, which fails: {error}"
            ) from error
        return opener(url, clock=clock)
    if scheme in ("postgres", "postgresql"):
        raise StoreRefused(
            "PostgreSQL stores are not in this version of holdfast; use a file: sqlite:///holdfast.db"
        )
    known = ", ".join(sorted({"sqlite", *found}))
    raise UsageError(f"no store is known for {scheme}://; known are: {known}")
