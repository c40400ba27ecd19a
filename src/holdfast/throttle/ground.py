"""Where groups can be made here: the trees of control groups, ours in each, and what may be done in them.

Found by doing: a folder is made, each file that would be written is written, and the folder is removed again. What a
version, a user's number or a list of controllers promises does not count.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Final

from holdfast.throttle import launching
from holdfast.throttle.files import read_text, write_text
from holdfast.throttle.naming import Owner, owner_of

V1_TRIALS: Final = {
    "cpu": (("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "-1"), ("cpu.shares", "1024")),
    "memory": (("memory.limit_in_bytes", "-1"),),
    "pids": (("pids.max", "max"),),
    "freezer": (("freezer.state", "THAWED"),),
    "cpuacct": (),
}
"""What is written of each v1 controller that we use; all of it means "as it was"."""

V2_TRIALS: Final = (("cgroup.freeze", "0"), ("cgroup.kill", "1"))
V2_CONTROLLERS: Final = ("cpu", "memory", "pids", "io")
LEAF: Final = "ctl"
"""Our own place, when children of our group get controllers: then a group holds processes, or groups with limits."""

_PLACE_TIMEOUT_S: Final = 5.0
_TRIALS = count()  # two threads may look at once


@dataclass(frozen=True, slots=True)
class Tree:
    """A mounted hierarchy of control groups, and the folder in it that this process belongs to."""

    version: int
    controllers: frozenset[str]
    own: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What can be stood on. `v2` is the folder under which groups are made, `v2_controllers` those that work in such a
    group; `v1` the folder by controller. `troubles` says, in words, what was tried in vain."""

    v2: Path | None = None
    v2_controllers: frozenset[str] = frozenset()
    v1: dict[str, Path] = field(default_factory=dict[str, Path])
    troubles: tuple[str, ...] = ()

    @property
    def grouped(self) -> bool:
        """Whether the kernel can keep the processes of a run together at all."""
        return self.v2 is not None or bool(self.v1)

    @property
    def kind(self) -> str:
        """In words: what sort of machine this is."""
        legacy = f"v1 ({', '.join(sorted(self.v1))})"
        if self.v2 is None:
            return f"cgroup {legacy}" if self.v1 else "no control groups"
        if self.v2_controllers:
            return f"cgroup v2 ({', '.join(sorted(self.v2_controllers))})" + (
                f" beside {legacy}" if self.v1 else ""
            )
        return (
            f"hybrid: cgroup v2 without controllers, {legacy}" if self.v1 else "cgroup v2 without controllers"
        )


def trees(membership: str, mounts: str) -> Iterator[Tree]:
    """The trees told by /proc/self/cgroup and /proc/self/mountinfo, as far as our own group can be seen in them."""
    own: dict[frozenset[str], str] = {}
    for line in membership.splitlines():
        _, named, place = line.split(":", 2)
        own[frozenset(named.split(",")) if named else frozenset()] = place
    for line in mounts.splitlines():
        front, _, back = line.partition(" - ")
        root, point = (_unescaped(word) for word in front.split()[3:5])
        kind, _, options = back.split(" ", 2)
        if kind == "cgroup2" and frozenset() in own:
            yield Tree(2, frozenset(), _seen(own[frozenset()], root, Path(point)))
        elif kind == "cgroup":
            mounted = set(options.split(","))
            for controllers, place in own.items():
                if controllers and controllers <= mounted:
                    yield Tree(1, controllers, _seen(place, root, Path(point)))


def _seen(place: str, root: str, point: Path) -> Path:
    """Our group under the mount. A mount may show a part of the tree only, ours at its root."""
    inner = PurePosixPath(place)
    if root != "/" and inner.is_relative_to(root):
        inner = inner.relative_to(root)
    elif root != "/" or ".." in inner.parts:
        inner = PurePosixPath()
    folder = point / str(inner).lstrip("/")
    found = owner_of(folder.name)
    # A leaf that we once moved ourselves into: groups stand beside it.
    return folder.parent if found is not None and folder.name.endswith(f"-{LEAF}") else folder


def _unescaped(word: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), word)


def find() -> Ground:
    """Look at this machine and try everything once. Takes some milliseconds, leaves nothing behind."""
    membership, mounts = read_text(Path("/proc/self/cgroup")), read_text(Path("/proc/self/mountinfo"))
    ground = Ground()
    for tree in trees(membership, mounts):
        try:
            ground = _try_v2(ground, tree) if tree.version == 2 else _try_v1(ground, tree)
        except OSError as error:
            ground = replace(ground, troubles=(*ground.troubles, _told(error, tree.own)))
    return ground


def _told(error: OSError, folder: Path) -> str:
    return f"{error.filename or folder}: {error.strerror}"


def _try_v1(ground: Ground, tree: Tree) -> Ground:
    wanted = [name for name in tree.controllers if name in V1_TRIALS and name not in ground.v1]
    if not wanted:
        return ground
    with _Trial(tree.own) as trial:
        works = dict(ground.v1)
        troubles = list(ground.troubles)
        for name in wanted:
            try:
                trial.write(V1_TRIALS[name])
                works[name] = tree.own
            except OSError as error:
                troubles.append(_told(error, trial.folder))
        trial.enter()
    return replace(ground, v1=works, troubles=tuple(troubles))


def _try_v2(ground: Ground, tree: Tree) -> Ground:
    if ground.v2 is not None:
        return ground
    with _Trial(tree.own) as trial:
        trial.write(V2_TRIALS)
        enabled, troubles = _controllers(tree.own, trial.folder)
        trial.enter()
    return replace(ground, v2=tree.own, v2_controllers=enabled, troubles=(*ground.troubles, *troubles))


def _controllers(own: Path, trial: Path) -> tuple[frozenset[str], list[str]]:
    """Those that groups under `own` have, or could have: what has to be enabled for it is taken back again."""
    there = set(read_text(trial / "cgroup.controllers").split())
    could = [
        name
        for name in V2_CONTROLLERS
        if name not in there and name in read_text(own / "cgroup.controllers").split()
    ]
    troubles: list[str] = []
    if could and must_move(own):
        if not alone_in(own):
            troubles.append(
                f"{own}: other processes are in our group, so that its children get no controllers"
            )
        else:
            there.update(could)  # it takes a move of this process, which is made when groups are
    else:
        for name in could:
            try:
                write_text(own / "cgroup.subtree_control", f"+{name}")
                there.add(name)
                write_text(own / "cgroup.subtree_control", f"-{name}")
            except OSError as error:
                troubles.append(_told(error, own / "cgroup.subtree_control"))
    return frozenset(there & set(V2_CONTROLLERS)), troubles


def must_move(own: Path) -> bool:
    """Whether a group must be empty of processes before its children get controllers: all but the root of the tree."""
    return (own / "cgroup.type").exists() and bool(read_text(own / "cgroup.procs").split())


def alone_in(own: Path) -> bool:
    """Whether nobody but this process is in the group."""
    return read_text(own / "cgroup.procs").split() == [str(os.getpid())]


class _Trial:
    """A folder that is made to see whether it can be, and what can be done in it."""

    def __init__(self, own: Path) -> None:
        self.folder = own / Owner.here().name(f"probe{next(_TRIALS)}")

    def __enter__(self) -> _Trial:
        self.folder.mkdir()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self.folder.rmdir()

    def write(self, pairs: Iterable[tuple[str, str]]) -> None:
        for name, text in pairs:
            write_text(self.folder / name, text)

    def enter(self) -> None:
        """A process must be able to go in. Raises OSError when it is not."""
        script = 'echo 0 > "$1"'
        try:
            done = subprocess.run(
                [launching.SHELL, "-c", script, "holdfast-probe", str(self.folder / "cgroup.procs")],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_PLACE_TIMEOUT_S,
                check=False,
            )
        except subprocess.SubprocessError as error:
            raise OSError(0, f"a process that was to go in did not come back ({error})") from error
        if done.returncode != 0:
            # A shell does not tell which error a write met.
            raise OSError(0, "no process can go in", str(self.folder / "cgroup.procs"))
