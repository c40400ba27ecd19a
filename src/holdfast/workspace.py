"""The folders of runs: where each is, made when it is used, removed when its run is gone.

Laws:
1. A folder's name follows from its run alone (`rules.ids.folder_name`): the same for every attempt, no other run's.
2. What is removed has such a name and stands in the folder of workspaces. No link is followed, neither there nor below.
3. A run that is in the store keeps its folder: names are read before the store is asked.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from contextlib import suppress
from itertools import count
from pathlib import Path
from secrets import token_hex
from typing import Final

from holdfast.errors import TransientError, UsageError
from holdfast.model import Run
from holdfast.rules.ids import folder_name, key_of_folder
from holdfast.store.protocol import Store

log = logging.getLogger(__name__)

VARIABLE: Final = "HOLDFAST_WORKSPACE"
"""Where a program finds the folder of its run."""
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
BATCH: Final = 500
"""Folders that one question to the store is about."""


def place_of(folder: Path | None, run: Run) -> Path | None:
    """Where the workspace of a run is, there or not, in the folder of all; None where there is none."""
    return None if folder is None else folder / folder_name(run.key, run.id, run.created_at_us)


def made(place: Path | None) -> Path:
    """The workspace, made if it was not there, for its owner alone (0700).

    Raises UsageError when the store has no place for it, or something else stands there; TransientError when the
    system refuses.
    """
    if place is None:
        raise UsageError(
            "this run has no workspace: its store keeps no files on this machine; use ctx.artifact, or a folder of your"
            " own"
        )
    try:
        place.parent.mkdir(mode=0o700, exist_ok=True)
        with suppress(FileExistsError):
            place.mkdir(mode=0o700)
        found = place.lstat()
    except OSError as error:
        raise TransientError(f"the workspace {place} cannot be made: {error.strerror}") from error
    if not stat.S_ISDIR(found.st_mode):
        raise UsageError(f"the workspace {place} is no folder any more: move what is there out of the way")
    return place


def there(place: Path | None) -> Path | None:
    """The workspace, if it is there on this machine."""
    with suppress(OSError):
        if place is not None and stat.S_ISDIR(place.lstat().st_mode):
            return place
    return None


def remove(place: Path) -> bool:
    """Remove a workspace and what is in it; false, with a word in the log, when something is left. Blocks.

    A link is removed, never followed. Folders that nobody may read are made readable first.
    """
    try:
        folder = _opened(place.parent)
    except (OSError, UsageError) as error:
        log.warning("the workspace %s is not removed: %s", place, error)
        return False
    if folder is None:
        return True
    try:
        return _remove(folder, place)
    finally:
        os.close(folder)


def _opened(folder: Path) -> int | None:
    """The folder of workspaces, opened; None when there is none. Raises UsageError for a link: what is behind it may be
    others'."""
    try:
        return os.open(folder, _FOLDER)
    except FileNotFoundError:
        return None
    except OSError:
        if not folder.is_symlink():
            raise
    raise UsageError(
        f"{folder} is a link, and nothing is removed through one: mount what it leads to there (mount --bind), or make"
        " it a folder again; what no run needs any more is removed then"
    )


def _remove(folder: int, place: Path) -> bool:
    """Remove this workspace from the opened folder."""
    name = place.name
    with suppress(OSError):
        if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            os.chmod(name, 0o700, dir_fd=folder)
            _empty(folder, name)
            os.rmdir(name, dir_fd=folder)
        else:
            os.unlink(name, dir_fd=folder)
    with suppress(FileNotFoundError):
        os.stat(name, dir_fd=folder, follow_symlinks=False)
        log.warning("the workspace %s could not be removed; the next `holdfast gc` tries again", place)
        return False
    return True


def _empty(folder: int, name: str) -> None:
    """Remove what can be removed. However deep it is: each folder is lifted to the top before it is emptied, so that
    neither paths nor open files nor calls add up."""
    top = os.open(name, _FOLDER, dir_fd=folder)
    lifted = (f".lifted-{token_hex(8)}-{n}" for n in count())  # no name that is there already
    try:
        more = True
        while more:
            more = False
            for name in _cleared(top):
                with suppress(OSError):
                    below = os.open(name, _FOLDER, dir_fd=top)
                    try:
                        for inner in _cleared(below):
                            with suppress(OSError):
                                os.rename(inner, next(lifted), src_dir_fd=below, dst_dir_fd=top)
                                more = True
                    finally:
                        os.close(below)
                    os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)


def _cleared(folder: int) -> list[str]:
    """Remove all from this folder but folders; these, made readable."""
    folders: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
                    os.chmod(entry.name, 0o700, dir_fd=folder)
                else:
                    os.unlink(entry.name, dir_fd=folder)
    return folders


async def sweep(store: Store) -> int:
    """Remove the workspaces of this machine whose runs are not in the store any more; returns how many are gone. Raises
    UsageError when a link stands in place of the folder of all: nothing is removed through it."""
    folder = store.workspace_folder
    names = [] if folder is None else _names(folder)
    gone = 0
    for at in range(0, len(names), BATCH):
        asked = names[at : at + BATCH]
        keys = [key for key in map(key_of_folder, asked) if key is not None]
        runs = (await store.get_runs(keys)).values()
        kept = {folder_name(run.key, run.id, run.created_at_us) for run in runs}
        assert folder is not None
        for name in asked:
            if name not in kept:
                gone += await asyncio.to_thread(remove, folder / name)
    return gone


def _names(folder: Path) -> list[str]:
    """What is in the folder of workspaces and is called like one. Raises UsageError for a link."""
    try:
        opened = _opened(folder)
        if opened is None:
            return []
        try:
            return sorted(name for name in os.listdir(opened) if key_of_folder(name) is not None)
        finally:
            os.close(opened)
    except OSError:
        return []
