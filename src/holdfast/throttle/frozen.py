"""Freezing by the kernel: all of a group, or what of it is not spared."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from holdfast.throttle.files import read_text, write_text
from holdfast.throttle.nodes import TOOLS, enter, pids_in, wait_for

FREEZE_TIMEOUT_S: Final = 1.0
"""Fifty processes take a millisecond; one that waits for a disk is frozen when the disk answers, and need not be waited
for."""


class Freezer(Protocol):
    """What stops a group and lets it go on."""

    def freeze(self, spare: Collection[int]) -> None:
        """Stop all but these."""
        ...

    def thaw(self) -> None:
        """Let all go on."""
        ...


class _Folders:
    """A folder of one tree, with one for tools in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tools = folder / TOOLS

    def freeze(self, spare: Collection[int]) -> None:
        """Stop all but these; those that are not spared are moved into a folder of their own first."""
        if not spare:
            self._set(self._folder, frozen=True)
            return
        self._tools.mkdir(exist_ok=True)
        for _ in range(_ROUNDS):  # they start others while they are moved
            outside = _direct(self._folder) - frozenset(spare)
            if not outside:
                break
            for pid in outside:
                enter([self._tools], pid)
        self._set(self._tools, frozen=True)

    def thaw(self) -> None:
        """Let all go on."""
        for folder in (self._tools, self._folder):
            with suppress(FileNotFoundError):
                self._set(folder, frozen=False)

    def _set(self, folder: Path, *, frozen: bool) -> None:
        raise NotImplementedError


_ROUNDS: Final = 100


def _direct(folder: Path) -> set[int]:
    return {int(pid) for pid in read_text(folder / "cgroup.procs").split()}


class V2Freezer(_Folders):
    """`cgroup.freeze`: the frozen can be killed at once."""

    def _set(self, folder: Path, *, frozen: bool) -> None:
        write_text(folder / "cgroup.freeze", "1" if frozen else "0")
        if frozen:
            wait_for(_told(folder / "cgroup.events", lambda text: "frozen 1" in text), FREEZE_TIMEOUT_S)


class V1Freezer(_Folders):
    """`freezer.state`: a kill reaches the frozen when they are thawed, and not before."""

    def _set(self, folder: Path, *, frozen: bool) -> None:
        word = "FROZEN" if frozen else "THAWED"
        write_text(folder / "freezer.state", word)
        if frozen:
            wait_for(_told(folder / "freezer.state", lambda text: text.strip() == word), FREEZE_TIMEOUT_S)

    def pids(self) -> set[int]:
        """Who is in it."""
        return pids_in(self._folder)


def _told(path: Path, so: Callable[[str], bool]) -> Iterator[bool]:
    while True:
        yield so(read_text(path))
