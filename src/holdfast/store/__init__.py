"""Stores: durable memory behind one protocol. `open_store` is the door."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.errors import StoreError, StoreRefused, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.clock import Clock
    from holdfast.store.migrate import Standing
    from holdfast.store.protocol import Store

_POSTGRES = ("postgresql", "postgres")
_PASSWORD = re.compile(r"(://[^/@:]*):[^/@]*@")

ENTRY_POINTS = "holdfast.stores"
"""Where another package registers `scheme = "module:opener"`; `opener(url, *, clock)` returns a Store."""


def open_store(url: str | Path, *, clock: Clock | None = None) -> Store:
    """The store at `url`, not yet opened: `async with open_store(...) as store`, or `await store.open()`.

    `sqlite:///name.db` is relative to the working directory, `sqlite:////var/lib/name.db` absolute, a plain path
    either. `postgresql://user@host/database` is a database (`pip install 'holdfast[postgres]'`), in it the schema
    `holdfast`, or that of `?schema=NAME`. Other schemes come from installed packages. `clock` is for tests. Raises
    UsageError, naming what is known, and StoreRefused when the driver is not installed.
    """
    text = str(url)
    if isinstance(url, Path) or "://" not in text:
        return _sqlite(text, clock)
    scheme = text.partition("://")[0]
    if scheme == "sqlite":
        return _sqlite(_path_of(text), clock)
    if scheme in _POSTGRES:
        return _postgres(text, clock)
    return _registered(scheme, text, clock)


def standing(url: str) -> Standing:
    """How far the schema of the store at `url` is, which is not changed, nor made. Blocks. Raises as `open` does."""
    if url.partition("://")[0] in _POSTGRES:
        _postgres(url, None)  # or why not
        from holdfast.store.postgres import schema as postgres

        return postgres.standing(url)
    if "://" in url and not url.startswith("sqlite://"):
        raise UsageError(f"{shown(url)}: what its schema is, the package that opens it knows")
    from holdfast.store.sqlite import schema as sqlite
    from holdfast.store.sqlite.errors import translated

    path = Path(_sqlite_path(_path_of(url) if "://" in url else url)).expanduser()
    with translated(path):
        return sqlite.standing(path)


def shown(url: str) -> str:
    """The URL as people may see it: without its password."""
    return _PASSWORD.sub(r"\1:***@", url)


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


def _postgres(url: str, clock: Clock | None) -> Store:
    try:
        from holdfast.store.postgres import PostgresStore
    except ImportError as error:
        raise StoreRefused(
            f"a PostgreSQL store needs its driver, which cannot be loaded ({error}): pip install 'holdfast[postgres]'"
        ) from error
    return PostgresStore(url, clock=clock)


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
    known = ", ".join(sorted({"sqlite", "postgresql", *found}))
    raise UsageError(f"no store is known for {scheme}://; known are: {known}")
