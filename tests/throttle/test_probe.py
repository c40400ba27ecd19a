"""What works is found by doing it: as root, as somebody else, in folders of one's own, where nothing can be written."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from holdfast.model import Strength
from holdfast.rules.ladder import Rung
from holdfast.rules.limits import Limits
from holdfast.throttle import Ground, Groups, launching, probe
from holdfast.throttle.abilities import abilities
from holdfast.throttle.ground import Tree, find, trees
from tests.throttle.trees import (
    escape_artists,
    folders_of,
    ground_of,
    python,
    settled,
    started,
    with_word,
    word,
)

ROOT = Path(__file__).parents[2]
NOBODY = 65534
PATHS = os.pathsep.join([str(ROOT / "src"), str(ROOT), sysconfig.get_paths()["purelib"]])
AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", "--clear-groups", "/bin/sh", "-c", 'exec "$@"', "sh"]
ENVIRON = {**os.environ, "PYTHONPATH": PATHS, "PYTHONDONTWRITEBYTECODE": "1"}

as_root = pytest.mark.skipif(os.getuid() != 0, reason="NOT TRIED: only root can become somebody else")


PROGRAM = ["-m", "tests.throttle.ordinary"]


def everybodys_python() -> str:
    """An interpreter of this version that an ordinary user may execute: root's own may be in root's own home."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for found in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        trial = [*AS_NOBODY, found, "-c", "import holdfast.throttle"]
        if not subprocess.run(trial, env=ENVIRON, cwd=ROOT, capture_output=True, check=False).returncode:
            return found
    pytest.skip(f"NOT TRIED: no {version} that user {NOBODY} may execute, with what holdfast needs")


def tell(command: list[str], token: str) -> Any:
    environ = {**ENVIRON, "TOKEN": token}
    done = subprocess.run(
        command, env=environ, cwd=ROOT, capture_output=True, text=True, timeout=55, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_probe_leaves_nothing_behind_and_says_the_same_twice():
    before = {base: set(os.listdir(base)) for base in folders_of(find())}
    assert probe() == probe()
    for base, names in before.items():
        left = {name for name in set(os.listdir(base)) - names if "-probe" in name}
        assert not [name for name in left if f"-{os.getpid()}-" in name]


def test_this_machine_says_for_each_limit_and_each_rung_what_acts():
    here = probe()
    assert set(here.limits) == {"cpu", "memory", "disk", "processes", "open_files"}
    assert {name.upper() for name in here.rungs} == {rung.name for rung in Rung}
    assert all(one.by for one in [*here.limits.values(), *here.rungs.values(), *here.measures.values()])
    for one in here.limits.values():
        assert one.why or one.strength is not Strength.WATCHED, "what is only watched says why"


@as_root
def test_an_ordinary_user_without_groups_of_his_own_is_told_so_and_held_all_the_same():
    token = word()
    told = tell([*AS_NOBODY, everybodys_python(), *PROGRAM], token)
    assert told["uid"] == NOBODY
    assert told["kind"] == "no control groups"
    assert told["troubles"] and all("Permission denied" in one for one in told["troubles"])
    assert told["before"] >= 9 and told["left"] == [] and with_word(token) == []
    assert told["cores"] <= 0.22
    assert told["memory"] == 1, "RLIMIT_DATA ends it with a MemoryError"
    assert told["oom"] == Strength.WATCHED


@contextmanager
def delegated(kind: str, *, whole: bool = True) -> Iterator[Ground]:
    """Folders in each tree that belong to an ordinary user; who is to use them must be put inside. Not `whole`: he may
    make folders in them, and move nobody."""
    ground = ground_of(kind, f"holdfast-test-{secrets.token_hex(4)}")
    try:
        for folder in folders_of(ground):
            os.chown(folder, NOBODY, NOBODY)
            for name in () if not whole else ("cgroup.procs", "cgroup.threads", "cgroup.subtree_control"):
                if (folder / name).exists():
                    os.chown(folder / name, NOBODY, NOBODY)
        yield ground
    finally:
        for folder in folders_of(ground):
            for inner in [one for one in folder.iterdir() if one.is_dir()]:
                with suppress(OSError):
                    inner.rmdir()
            folder.rmdir()


@as_root
def test_an_ordinary_user_with_delegated_groups_has_what_the_kernel_can():
    with delegated("here") as ground:
        token = word()
        folders = [str(folder) for folder in folders_of(ground)]
        who = [*AS_NOBODY, everybodys_python()]
        told = tell(["/bin/sh", "-c", GO_IN, "sh", *folders, "--", *who, *PROGRAM], token)
        assert told["uid"] == NOBODY
        assert told["kind"] == Groups(ground=ground).abilities.kind
        assert told["troubles"] == []
        assert told["before"] >= 9 and told["left"] == [] and with_word(token) == []
        assert told["cores"] <= 0.22
        if "memory" in ground.v1:
            assert (told["memory"], told["oom"]) == (-9, Strength.KERNEL)


PROBE = (
    "import json; from holdfast.throttle import probe; p = probe(); print(json.dumps([p.kind, p.troubles]))"
)
GO_IN = 'for g in "$@"; do [ "$g" = -- ] && break; echo 0 > $g/cgroup.procs; shift; done; shift; exec "$@"'


@as_root
def test_groups_that_can_be_made_but_not_entered_do_not_count():
    """v2 asks for a right on the folder above, too: a made folder proves nothing."""
    with delegated("v2", whole=False) as ground:
        folders = [str(folder) for folder in folders_of(ground)]
        command = ["/bin/sh", "-c", GO_IN, "sh", *folders, "--", *AS_NOBODY, everybodys_python(), "-c", PROBE]
        kind, troubles = tell(command, "")
        assert "v2" not in kind
        assert any("no process can go in" in one for one in troubles), troubles


@as_root
def test_read_only_control_groups_are_seen_as_such_and_done_without():
    if not find().grouped:
        pytest.skip("NOT TRIED: no control groups here")
    token = word()
    script = (
        "for m in $(awk '$3 ~ /^cgroup/ {print $2}' /proc/mounts); do mount -o remount,bind,ro $m || exit 77; done; "
        'exec "$@"'
    )
    command = ["unshare", "--mount", "/bin/sh", "-c", script, "sh", sys.executable, *PROGRAM]
    trial = subprocess.run([*command[:5], "sh", "true"], capture_output=True, check=False)
    if shutil.which("unshare") is None or trial.returncode != 0:
        pytest.skip(f"NOT TRIED: no mounts of our own here ({trial.stderr.decode().strip()})")
    told = tell(command, token)
    assert told["kind"] == "no control groups"
    assert told["troubles"] and all("Read-only file system" in one for one in told["troubles"])
    assert told["before"] >= 9 and told["left"] == [] and with_word(token) == []
    assert told["cores"] <= 0.22


MOVES = """
import os, subprocess, sys
from pathlib import Path
from holdfast.throttle import Ground, Groups
from holdfast.throttle.ground import trees
own = Path(sys.argv[1])
(own / "cgroup.procs").write_text(str(os.getpid()))
groups = Groups(ground=Ground(v2=own, v2_controllers=frozenset({"hugetlb"})))
assert (own / "cgroup.subtree_control").read_text().split() == ["hugetlb"], groups.abilities.troubles
assert (own / "cgroup.procs").read_text() == ""
(seen,) = [tree.own for tree in trees(Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text())
           if tree.version == 2]
assert seen == own, seen
group = groups.create("child")
root = subprocess.Popen(group.launch(["sleep", "9"]))
group.attach(root.pid)
(folder,) = [one for one in own.iterdir() if one.name.endswith("-child")]
assert list(folder.glob("hugetlb.*")), "no controller in the group"
assert group.pids() == (root.pid,)
group.freeze(spare=[])
assert group.kill() == ()
root.wait()
group.remove()
print("moved")
"""


@as_root
def test_a_worker_in_a_v2_group_moves_into_a_leaf_so_that_its_children_get_controllers():
    """With the one controller that this machine's v2 tree may have: the dance is the same for all of them."""
    found = find()
    if found.v2 is None or "hugetlb" not in (found.v2 / "cgroup.controllers").read_text().split():
        pytest.skip("NOT TRIED: no controller to try it with here")
    own = found.v2 / f"holdfast-test-{secrets.token_hex(4)}"
    switch = found.v2 / "cgroup.subtree_control"
    was_on = "hugetlb" in switch.read_text().split()
    own.mkdir()
    try:
        switch.write_text("+hugetlb")
        done = subprocess.run(
            [sys.executable, "-c", MOVES, str(own)],
            env=ENVIRON, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False,
        )  # fmt: skip
        assert done.stdout == "moved\n", done.stderr
    finally:
        for folder in [*(one for one in own.iterdir() if one.is_dir()), own]:
            folder.rmdir()
        if not was_on:
            with suppress(OSError):  # somebody else tries the same
                switch.write_text("-hugetlb")


# --- what the system tells of its trees ---------------------------------------------------------------------

V2_MOUNT = "30 20 0:26 {root} /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
V1_MOUNTS = (
    "31 20 0:27 {root} /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
    "32 20 0:28 {root} /sys/fs/cgroup/with\\040space rw - cgroup cgroup rw,memory\n"
    "33 20 0:29 / / rw - ext4 /dev/root rw\n"
)


def test_a_service_of_systemd_is_found_in_its_own_group():
    found = list(trees("0::/system.slice/holdfast.service\n", V2_MOUNT.format(root="/")))
    assert found == [Tree(2, frozenset(), Path("/sys/fs/cgroup/system.slice/holdfast.service"))]


def test_a_container_with_its_own_view_is_at_the_root_of_it():
    assert [tree.own for tree in trees("0::/\n", V2_MOUNT.format(root="/"))] == [Path("/sys/fs/cgroup")]
    shown = V2_MOUNT.format(root="/docker/abc")
    assert [tree.own for tree in trees("0::/docker/abc/worker\n", shown)] == [Path("/sys/fs/cgroup/worker")]
    assert [tree.own for tree in trees("0::/../other\n", V2_MOUNT.format(root="/"))] == [
        Path("/sys/fs/cgroup")
    ]


def test_mounts_of_v1_are_found_by_their_controllers():
    found = list(trees("4:cpu,cpuacct:/a\n3:memory:/b\n2:pids:/\n", V1_MOUNTS.format(root="/")))
    assert found == [
        Tree(1, frozenset({"cpu", "cpuacct"}), Path("/sys/fs/cgroup/cpu,cpuacct/a")),
        Tree(1, frozenset({"memory"}), Path("/sys/fs/cgroup/with space/b")),
    ]


# --- what follows from it -----------------------------------------------------------------------------------

PLACE = Path("/sys/fs/cgroup/here")
FULL_V2 = Ground(v2=PLACE, v2_controllers=frozenset({"cpu", "memory", "pids", "io"}))


def test_v2_with_controllers_holds_everything_by_the_kernel():
    able = abilities(FULL_V2)
    assert {name for name, one in able.limits.items() if one.strength is Strength.KERNEL} == {
        "cpu", "memory", "processes",
    }  # fmt: skip
    assert "memory.high" in able.rungs["quota"].by
    assert able.can == frozenset(Rung)
    assert able.watched == {"disk"}


def test_a_hybrid_machine_takes_quotas_from_v1_and_the_rest_from_v2():
    able = abilities(Ground(v2=PLACE, v1=dict.fromkeys(("cpu", "memory", "pids"), PLACE)))
    assert [able.limits[name].by.split()[1] for name in ("cpu", "memory", "processes")] == ["v1"] * 3
    assert [able.rungs[name].by.split()[1] for name in ("freeze", "kill")] == ["v2"] * 2
    assert able.kind.startswith("hybrid")


def test_without_anything_every_limit_says_that_it_is_only_watched():
    able = abilities(Ground())
    assert able.watched == {"cpu", "memory", "disk", "processes"}
    assert able.limits["open_files"].strength is Strength.EACH
    assert able.can == frozenset(Rung)


def test_macos_says_what_it_cannot_do():
    able = abilities(Ground(), platform="darwin")
    assert "RLIMIT_DATA" not in able.limits["memory"].by
    assert "lost sight of" in able.rungs["kill"].why
    assert able.measures["bytes"].strength is Strength.REFUSED


def test_without_a_shell_nothing_is_promised_that_needs_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """No process can be placed in a control group; a warden needs none, and what it promises holds."""
    monkeypatch.setattr(launching, "SHELL", "/nowhere/sh")
    groups = Groups(tmp_path)
    assert groups.abilities.kind == "no control groups"
    assert any("/nowhere/sh" in one for one in groups.abilities.troubles) or not find().grouped
    assert groups.abilities.limits["memory"].strength is Strength.WATCHED
    token = word()
    group = groups.create("shell-less", Limits(open_files=40, disk="1MB"))
    said = "import resource as r; print(r.getrlimit(r.RLIMIT_NOFILE), r.getrlimit(r.RLIMIT_FSIZE))"
    with started(group, python(said), stdout=subprocess.PIPE) as root:
        assert root.communicate(timeout=20)[0] == "(40, 40) (999936, 999936)\n"
    group = groups.create("escapes")
    with started(group, escape_artists(token, root_stays=True)):
        settled(token)
        assert group.kill() == ()
        assert with_word(token) == []
