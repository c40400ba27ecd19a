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
import shutil
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from holdfast.errors import TransientError, UsageError
from holdfast.model import Run
from holdfast.rules.ids import folder_name, key_of_folder
from holdfast.store.protocol import Store

log = logging.getLogger(__name__)

VARIABLE: Final = "HOLDFAST_WORKSPACE"
"""Where a program finds the folder of its run."""
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
    with suppress(OSError):
        if stat.S_ISDIR(place.lstat().st_mode):
            shutil.rmtree(place, ignore_errors=True)
            if place.exists():
                _make_readable(place)
                shutil.rmtree(place, ignore_errors=True)
        else:
            place.unlink()
    left = os.path.lexists(place)
    if left:
        log.warning("the workspace %s could not be removed; the next `holdfast gc` tries again", place)
    return not left


def _make_readable(folder: Path) -> None:
    with suppress(OSError):
        folder.chmod(0o700)
    for root, below, _ in os.walk(folder):  # from the top, so that what is made readable is read next
        for name in below:
            path = Path(root, name)
            with suppress(OSError):
                if not path.is_symlink():
                    path.chmod(0o700)


async def sweep(store: Store) -> int:
    """Remove the workspaces of this machine whose runs are not in the store any more; returns how many are gone."""
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
    """What is in the folder of workspaces and is called like one."""
    try:
        return sorted(name for name in os.listdir(folder) if key_of_folder(name) is not None)
    except OSError:
        return []
