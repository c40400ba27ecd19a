"""Makes groups for runs by what this machine can do, and clears away what workers that died have left."""

from __future__ import annotations

import glob
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from holdfast.errors import Refused, UsageError
from holdfast.model import Strength
from holdfast.rules.limits import Limits
from holdfast.throttle import scratch
from holdfast.throttle.abilities import Abilities, abilities
from holdfast.throttle.control import ControlGroup
from holdfast.throttle.files import read_text, write_text
from holdfast.throttle.ground import LEAF, Ground, alone_in, find, must_move
from holdfast.throttle.group import Group
from holdfast.throttle.naming import Owner, owner_of
from holdfast.throttle.nodes import kill_v2, members, pids_in, remove
from holdfast.throttle.processes import below_for_sure
from holdfast.throttle.session import SessionGroup, end_below, kept
from holdfast.throttle.signals import end_all

RECORD: Final = ".group"
_GUARD: Final = Path(__file__).with_name("guard.py")
_CLEAR_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Leftover:
    """A group that a dead process has left, and what became of it: how many processes were ended, how many were not."""

    name: str
    ended: int
    survived: tuple[int, ...] = ()


class Groups:
    """Makes a `Group` for each run.

    `folder` is where groups are written down that no control group holds together (none: not written down, and found by
    nobody when this process is killed; their processes notice that by themselves within a second). `ground` is for
    tests: what is stood on instead of what is found. Making it takes some tens of milliseconds; in a v2 tree with
    controllers it moves this process into a leaf of its own group, as the kernel demands.
    """

    def __init__(self, folder: Path | None = None, *, ground: Ground | None = None) -> None:
        self._folder = folder
        self._owner = Owner.here()
        self._ground = _enabled(find() if ground is None else ground, self._owner)
        self.abilities: Abilities = abilities(self._ground)

    def create(self, name: str, limits: Limits | None = None, *, exact: Iterable[str] = ()) -> Group:
        """A group called `name` (of a run; no two at once in one process), under these limits.

        `exact` names limits that must be held by the kernel, and not only watched. Raises Refused when one of them is
        not, when nothing here acts on a limit at all, or when the system does not let us; UsageError when `exact` names
        one that is not set.
        """
        limits, exact = limits or Limits(), frozenset(exact)
        if not exact <= set(limits.asked):
            raise UsageError(
                f"group {name}: exact={sorted(exact)} names what is not limited; "
                f"{', '.join(limits.asked) or 'nothing'} is"
            )
        for one in limits.asked:
            mechanism = self.abilities.limits[one]
            if mechanism.strength is Strength.REFUSED or (
                one in exact and mechanism.strength is Strength.WATCHED
            ):
                why = f" ({mechanism.why})" if mechanism.why else ""
                raise Refused(
                    f"group {name}: Limits({one}={getattr(limits, one)!r}) is {mechanism.strength} here: "
                    f"{mechanism.by}{why}; `holdfast doctor` tells what acts on this machine"
                )
        folder = self._owner.name(name)
        if self._ground.grouped:
            return ControlGroup(name, folder, limits, self._ground)
        record = None if self._folder is None else self._folder / (folder + RECORD)
        return SessionGroup(name, limits, record)

    def guard(self) -> subprocess.Popen[bytes]:
        """Start a small process that ends our groups as soon as this process has died, by whatever, and removes its
        temporary folders (`scratch`). Costs an interpreter of 7 MB; kill it when there is nothing left to guard."""
        own = glob.escape(self._owner.prefix) + "*"
        groups = [os.path.join(glob.escape(str(base)), own) for base in _bases(self._ground)]
        folders = [os.path.join(glob.escape(place), own) for place in scratch.places()]
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(_GUARD), str(os.getpid()), str(len(groups)), *groups, *folders],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )

    def clear_leftovers(self) -> tuple[Leftover, ...]:
        """End the processes of groups whose makers are dead, and remove the groups, and their temporary folders. Those
        of other namespaces, and of the living, are left alone. Call it at the start: nobody else does."""
        scratch.clear_dead()
        found = [*_left_in_trees(self._ground)]
        if self._folder is not None:
            found += _left_on_record(self._folder)
        return tuple(found)


def _bases(ground: Ground) -> set[Path]:
    return {*([] if ground.v2 is None else [ground.v2]), *ground.v1.values()}


def _left_in_trees(ground: Ground) -> Iterator[Leftover]:
    names: dict[str, list[Path]] = {}
    for base in _bases(ground):
        for folder in _folders(base):
            owner = owner_of(folder.name)
            if owner is None or not owner.known_dead or os.getpid() in pids_in(folder):
                continue  # we are in the leaf of a dead one that has started us
            names.setdefault(folder.name, []).append(folder)
    for name, folders in sorted(names.items()):
        before = len([one for one in members(folders) if not one.ended])
        for folder in folders:
            _thaw(folder)
            with suppress(OSError):
                kill_v2(folder)
        survived = end_all(partial(members, folders), _CLEAR_TIMEOUT_S)
        for folder in folders:
            remove(folder)
        yield Leftover(name, before - len(survived), survived)


def _folders(base: Path) -> list[Path]:
    try:
        return [one for one in base.iterdir() if one.is_dir()]
    except OSError:
        return []


def _thaw(folder: Path) -> None:
    """A kill does not reach what the v1 freezer holds."""
    for state in sorted(folder.rglob("freezer.state"), reverse=True):
        with suppress(OSError):
            write_text(state, "THAWED")


def _left_on_record(folder: Path) -> list[Leftover]:
    found: list[Leftover] = []
    for record in sorted(folder.glob("*" + RECORD)):
        owner = owner_of(record.name.removesuffix(RECORD))
        if owner is None or not owner.known_dead:
            continue
        root = kept(record)
        if root is not None:
            before = len(below_for_sure(root.pid))
            survived = end_below(root, partial(below_for_sure, root.pid), _CLEAR_TIMEOUT_S)
            found.append(Leftover(record.stem, before - len(survived), survived))
        record.unlink(missing_ok=True)
    return found


def _enabled(ground: Ground, owner: Owner) -> Ground:
    """Give the children of our v2 group their controllers. Where the kernel refuses they are done without."""
    if ground.v2 is None or not ground.v2_controllers:
        return ground
    missing = ground.v2_controllers - set(read_text(ground.v2 / "cgroup.subtree_control").split())
    if not missing:
        return ground
    try:
        if must_move(ground.v2) and alone_in(ground.v2):
            leaf = ground.v2 / owner.name(LEAF)
            leaf.mkdir(exist_ok=True)
            write_text(leaf / "cgroup.procs", str(os.getpid()))
        write_text(ground.v2 / "cgroup.subtree_control", " ".join(f"+{name}" for name in sorted(missing)))
    except OSError as error:
        told = f"{error.filename or ground.v2 / 'cgroup.subtree_control'}: {error.strerror}"
        return replace(
            ground, v2_controllers=ground.v2_controllers - missing, troubles=(*ground.troubles, told)
        )
    return ground
