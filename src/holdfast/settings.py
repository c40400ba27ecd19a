"""Where the store is: `--store`, `HOLDFAST_STORE`, pyproject.toml, the nearest `.holdfast/`, or one made here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from holdfast.errors import NotFound, StoreUnavailable, UsageError

VARIABLE = "HOLDFAST_STORE"
FOLDER = ".holdfast"
FILE = "store.db"
SQLITE = "sqlite:///"


@dataclass(frozen=True, slots=True)
class StorePlace:
    """A store's URL, and what named it (shown by `holdfast doctor` and in errors)."""

    url: str
    named_by: str

    @property
    def path(self) -> Path | None:
        """The file of a SQLite store; None for any other."""
        return Path(self.url.removeprefix(SQLITE)) if self.url.startswith(SQLITE) else None


def find_store(
    given: str | None = None,
    *,
    make: bool = True,
    here: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> StorePlace:
    """The store to use, the first that is named in the order of this file's first line.

    With `make`, nothing named means `.holdfast/` in this folder, made with a `.gitignore` of `*`. Without it, nothing
    named raises NotFound, and a SQLite file that is named but missing raises StoreUnavailable: reading makes no store.
    """
    here = (here or Path.cwd()).resolve()
    named = _named(given, here, os.environ if environ is None else environ)
    if named is None and not make:
        raise NotFound(
            f"no store here: neither --store nor {VARIABLE} is set, and no {FOLDER}/ folder is in {here} or above it"
            " (`holdfast start` or `run` makes one)"
        )
    place = named or _made(here)
    path = place.path
    if not make and path is not None and not path.exists():
        raise StoreUnavailable(
            f"the store {path} (from {place.named_by}) does not exist, and reading makes none"
        )
    return place


def _named(given: str | None, here: Path, environ: Mapping[str, str]) -> StorePlace | None:
    if given:
        return StorePlace(_url(given, here), "--store")
    if variable := environ.get(VARIABLE):
        return StorePlace(_url(variable, here), VARIABLE)
    for folder in _upward(here):
        if place := _from_pyproject(folder / "pyproject.toml"):
            return place
    for folder in _upward(here):
        if (folder / FOLDER).is_dir():
            return StorePlace(_url(str(folder / FOLDER / FILE), here), str(folder / FOLDER))
    return None


def _upward(here: Path) -> Iterator[Path]:
    yield here
    yield from here.parents


def _from_pyproject(path: Path) -> StorePlace | None:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        return None
    if "holdfast" not in text:
        return None
    import tomllib

    try:
        table = tomllib.loads(text).get("tool", {}).get("holdfast", {})
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not TOML: {error}") from error
    store = table.get("store")
    if store is None:
        return None
    if not isinstance(store, str) or not store:
        raise UsageError(
            f"[tool.holdfast] store in {path} must be the URL or the path of a store, not {store!r}"
        )
    return StorePlace(_url(store, path.parent), f"{path} [tool.holdfast]")


def _url(text: str, base: Path) -> str:
    """An absolute URL of `text`: a URL, or the path of a SQLite file; relative paths count from `base`."""
    if "://" in text and not text.startswith(SQLITE):
        return text
    path = text.removeprefix(SQLITE)
    if not path:
        raise UsageError(f"{text!r} names no file: write sqlite:///PATH")
    return SQLITE + str((base / Path(path).expanduser()).resolve())


def _made(here: Path) -> StorePlace:
    folder = here / FOLDER
    try:
        folder.mkdir(exist_ok=True)
        ignore = folder / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n", encoding="utf-8")
    except OSError as error:
        raise StoreUnavailable(
            f"cannot make {folder}: {error.strerror}; name another place with --store"
        ) from error
    return StorePlace(SQLITE + str(folder / FILE), f"{folder} (made)")
