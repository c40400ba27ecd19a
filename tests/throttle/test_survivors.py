"""No survivors: whatever a run forked, disowned, stopped or stripped, nothing of it is left when it is killed."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from holdfast.throttle import Ground, Groups
from holdfast.throttle.naming import Owner, owner_of
from holdfast.throttle.processes import boot, look_at
from holdfast.throttle.session import kept
from tests.throttle.trees import (
    ESCAPED,
    escape_artists,
    folders_of,
    ground_of,
    python,
    settled,
    started,
    state_of,
    until,
    with_word,
    word,
)


@pytest.mark.parametrize("root_stays", [True, False], ids=["root alive", "root exited"])
def test_no_trick_escapes_a_kill(groups: Groups, root_stays: bool):
    token = word()
    group = groups.create(f"escapes {token}")
    with started(group, escape_artists(token, root_stays=root_stays)) as root:
        seen = settled(token) if root_stays else []
        if not root_stays:
            until(lambda: len(seen.extend(with_word(token)) or set(seen)) >= ESCAPED)
        if not root_stays:
            assert root.wait(10) == 0
        assert group.kill() == ()
        assert with_word(token) == []
        assert group.pids() == ()
        assert seen, "there was nobody to kill: the test proves nothing"


def test_a_control_group_knows_whom_it_holds(groups: Groups):
    token = word()
    group = groups.create("members")
    with started(group, escape_artists(token, root_stays=True)) as root:
        settled(token)
        # The root may be an init of ours, with the command in its command line.
        until(lambda: set(with_word(token)) - {root.pid} == set(group.pids()) - {root.pid})


def test_killpg_alone_would_leave_some():
    """Why there is more than that: this is what the tricks are good for."""
    token = word()
    root = subprocess.Popen(escape_artists(token, root_stays=True), start_new_session=True)
    try:
        settled(token)
        os.killpg(root.pid, signal.SIGKILL)
        root.wait(10)
        time.sleep(0.05)
        assert len(with_word(token)) >= 4
    finally:
        for pid in with_word(token):
            os.kill(pid, signal.SIGKILL)


def test_ignored_sigterm_is_no_way_out(groups: Groups):
    token = word()
    group = groups.create("deaf")
    deaf = (
        "import signal, time\nsignal.signal(15, signal.SIG_IGN)\nprint('deaf', flush=True)\ntime.sleep(300)"
    )
    with started(group, python(deaf, token), stdout=subprocess.PIPE) as root:
        assert root.stdout is not None
        assert root.stdout.readline() == "deaf\n"
        root.terminate()
        time.sleep(0.2)
        assert root.poll() is None
        assert group.kill() == ()
        assert root.wait(10) != 0
        assert with_word(token) == []


def test_a_stopped_process_is_no_way_out(groups: Groups):
    token = word()
    group = groups.create("stopped")
    with started(group, ["sleep", token]):
        until(lambda: len(group.pids()) == 1)
        (pid,) = group.pids()
        os.kill(pid, signal.SIGSTOP)
        until(lambda: state_of(pid) == "T")
        assert group.kill() == ()
        assert with_word(token) == []


def test_a_frozen_group_is_killed_all_the_same(groups: Groups):
    """A kill does not reach who is frozen by v1 until he is thawed."""
    token = word()
    group = groups.create("frozen")
    with started(group, escape_artists(token, root_stays=True)):
        settled(token)
        group.freeze()
        began_s = time.monotonic()
        assert group.kill() == ()
        assert with_word(token) == []
        assert time.monotonic() - began_s < 4


def test_a_kill_at_any_moment_of_the_start_leaves_nobody(groups: Groups):
    for number in range(10):
        token = word()
        group = groups.create(f"early {number}")
        with started(group, ["/bin/sh", "-c", "sleep $1 & setsid sleep $1 & exec sleep $1", "sh", token]):
            time.sleep(number * 0.007)
            assert group.kill() == ()
            assert with_word(token) == []


def test_kill_of_one_group_leaves_the_others(groups: Groups):
    mine, other = word(), word()
    one, two = groups.create("one"), groups.create("two")
    with started(one, ["sleep", mine]), started(two, ["sleep", other]):
        until(lambda: with_word(mine) and with_word(other))
        one.kill()
        assert with_word(mine) == []
        assert with_word(other) != []


def test_a_launch_is_the_command_itself(groups: Groups):
    group = groups.create("itself")
    said = python("import sys; print(sys.stdin.read().upper(), end=''); sys.exit(7)")
    with started(group, said, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as root:
        assert root.communicate("hello", timeout=20)[0] == "HELLO"
        assert root.returncode == 7


def test_a_launch_ends_by_the_signal_that_ends_its_command(groups: Groups):
    group = groups.create("signalled")
    with started(group, python("import os; os.kill(os.getpid(), 15)")) as root:
        assert root.wait(20) == -signal.SIGTERM


def test_sigterm_reaches_the_command(groups: Groups):
    group = groups.create("asked")
    waits = "import sys, time, signal\nsignal.signal(15, lambda *_: sys.exit(3))\nprint(1, flush=True)\ntime.sleep(9)"
    with started(group, python(waits), stdout=subprocess.PIPE) as root:
        assert root.stdout is not None
        root.stdout.readline()
        root.terminate()
        assert root.wait(20) == 3


def test_a_process_started_without_launch_is_taken_in(groups: Groups):
    token = word()
    group = groups.create("adopted")
    root = subprocess.Popen(
        ["/bin/sh", "-c", "sleep $1 & exec sleep $1", "sh", token], start_new_session=True
    )
    try:
        until(lambda: len(with_word(token)) == 2)
        group.attach(root.pid)
        assert set(group.pids()) == set(with_word(token))
        assert group.kill() == ()
        assert with_word(token) == []
    finally:
        root.kill()
        root.wait(10)
        group.remove()


OWNER = """
import subprocess, sys
from pathlib import Path
from holdfast.throttle import Groups
from tests.throttle.trees import escape_artists, ground_of, settled
groups = Groups(Path(sys.argv[2]), ground=ground_of(sys.argv[1], sys.argv[5]))
group = groups.create("orphaned")
root = subprocess.Popen(group.launch(escape_artists(sys.argv[3], root_stays=True)), start_new_session=True)
group.attach(root.pid)
settled(sys.argv[3])
if sys.argv[4] == "frozen":
    group.freeze()
print("ready", root.pid, flush=True)
sys.stdin.read()
"""


def die(kind: str, folder: Path, token: str, how: str = "plain", within: str = "") -> int:
    """An owner of a group that is killed, and leaves it behind; who headed the group."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, kind, str(folder), token, how, within],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["src", ".", *filter(None, [os.environ.get("PYTHONPATH")])])},
    )  # fmt: skip
    assert owner.stdout is not None and owner.stdin is not None
    line = owner.stdout.readline().split()
    assert line[:1] == ["ready"]
    if kind == "none":
        os.kill(int(line[1]), signal.SIGSTOP)  # or its init would see to it before we can look
    owner.kill()
    owner.wait(10)
    owner.stdin.close()
    owner.stdout.close()
    return int(line[1])


@pytest.mark.parametrize("how", ["plain", "frozen"])
@pytest.mark.parametrize("kind", ["here", "v2", "v1", "none"])
def test_what_a_dead_worker_left_is_ended_at_the_next_start(
    kind: str, how: str, tmp_path: Path, request: pytest.FixtureRequest
):
    within = f"holdfast-test-{secrets.token_hex(4)}"
    ground = ground_of(kind, within)
    request.addfinalizer(lambda: [folder.rmdir() for folder in folders_of(ground)])
    groups = Groups(tmp_path, ground=ground)
    living = groups.create("living")
    token, mine = word(), word()
    with started(living, ["sleep", mine]):
        die(kind, tmp_path, token, how, within)
        assert len(with_word(token)) >= ESCAPED
        cleared = groups.clear_leftovers()
        assert [one.survived for one in cleared if "orphaned" in one.name] == [()]
        assert sum(one.ended for one in cleared) >= ESCAPED
        assert with_word(token) == []
        assert with_word(mine), "a living owner's group was cleared"
        assert groups.clear_leftovers() == ()


def test_without_control_groups_a_dead_workers_processes_end_by_themselves(tmp_path: Path):
    token = word()
    head = die("none", tmp_path, token)
    os.kill(head, signal.SIGCONT)
    until(lambda: with_word(token) == [], 5)


IN_A_LEAF = """
import os, subprocess, sys
from pathlib import Path
from holdfast.throttle import groups
Path(sys.argv[1], "cgroup.procs").write_text(str(os.getpid()))
subprocess.Popen([sys.executable, "-I", "-S", groups._GUARD, str(os.getpid()), "2", *sys.argv[1:]])
print(flush=True)
sys.stdin.read()
"""


def test_a_guard_ends_the_others_also_where_its_worker_went_into_a_leaf_and_took_it_along(
    request: pytest.FixtureRequest,
):
    ground = ground_of("v2", f"holdfast-test-{secrets.token_hex(4)}")
    assert ground.v2 is not None
    leaf, group = ground.v2 / "leaf", ground.v2 / "run"
    for folder in (ground.v2, leaf):
        request.addfinalizer(folder.rmdir)
    leaf.mkdir()
    group.mkdir()
    token = word()
    left = subprocess.Popen(["sleep", token])
    (group / "cgroup.procs").write_text(str(left.pid))
    with subprocess.Popen(
        python(IN_A_LEAF, str(leaf), str(group)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as owner:
        assert owner.stdout is not None and owner.stdout.readline() == b"\n"
        owner.kill()
    try:
        until(lambda: with_word(token) == [], 5)
    finally:
        left.kill()
        left.wait(10)
    until(lambda: not group.exists() and not (leaf / "cgroup.procs").read_text(), 5)


CLEARS = """
import os, sys
from pathlib import Path
from holdfast.throttle import Groups
from tests.throttle.trees import ground_of
ground = ground_of("v2", sys.argv[1])
(ground.v2 / sys.argv[2] / "cgroup.procs").write_text(str(os.getpid()))
print(Groups(ground=ground).clear_leftovers())
"""


def test_whoever_was_started_in_the_leaf_of_a_dead_worker_does_not_end_itself(request: pytest.FixtureRequest):
    within = f"holdfast-test-{secrets.token_hex(4)}"
    ground = ground_of("v2", within)
    assert ground.v2 is not None
    here = Owner.here()
    leaf = ground.v2 / Owner(here.boot, here.namespace, here.pid, here.started + 1).name("ctl")
    for folder in (ground.v2, leaf):
        request.addfinalizer(folder.rmdir)
    leaf.mkdir()
    ended = subprocess.run(
        python(CLEARS, within, leaf.name),
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (ended.returncode, ended.stdout) == (0, "()\n"), ended.stderr


def test_a_recycled_number_is_nobody_of_ours(tmp_path: Path):
    """A record names a process by number, start and boot: one that only has the number lives."""
    bystander = subprocess.Popen(["sleep", word()])
    try:
        now = look_at(bystander.pid)
        assert now is not None
        groups = Groups(tmp_path, ground=Ground())
        dead = Owner(boot(), Owner.here().namespace, 2**22 + 1, 7)
        record = tmp_path / (dead.name("left") + ".group")
        for told in (
            {"boot": boot(), "pid": now.pid, "started": now.started - 1},
            {"boot": "another0", "pid": now.pid, "started": now.started},
        ):
            record.write_text(json.dumps(told))
            assert kept(record) is None
            assert groups.clear_leftovers() == ()
            assert not record.exists()
            assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_groups_of_the_living_and_of_other_namespaces_are_left_alone():
    here = Owner.here()
    assert not here.known_dead
    assert owner_of(here.name("run 1")) == here
    assert Owner(here.boot, here.namespace, here.pid, here.started + 1).known_dead
    assert Owner("00000000", here.namespace, here.pid, here.started).known_dead
    assert not Owner(here.boot, here.namespace + 1, here.pid, here.started + 1).known_dead
    assert owner_of("hf-not-ours") is None
