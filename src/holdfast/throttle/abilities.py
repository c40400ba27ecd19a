"""What acts here for each limit and each rung: told before anybody relies on it."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from holdfast.model import Mechanism, Strength
from holdfast.rules.ladder import Rung
from holdfast.throttle.ground import Ground, find

KERNEL, EACH, WATCHED, REFUSED = Strength.KERNEL, Strength.EACH, Strength.WATCHED, Strength.REFUSED


@dataclass(frozen=True, slots=True, kw_only=True)
class Abilities:
    """What this machine can do for a run, as this user, in this place. `kind` in words; `limits` by the fields of
    `Limits`; `rungs` by the names of the ladder's rungs; `troubles` are what was tried in vain, and why."""

    kind: str
    limits: dict[str, Mechanism]
    rungs: dict[str, Mechanism]
    measures: dict[str, Mechanism]
    troubles: tuple[str, ...] = ()

    @property
    def watched(self) -> frozenset[str]:
        """The limits that hold only because somebody looks."""
        return frozenset(name for name, one in self.limits.items() if one.strength is WATCHED)

    @property
    def can(self) -> frozenset[Rung]:
        """The rungs that something acts on."""
        return frozenset(
            Rung[name.upper()] for name, one in self.rungs.items() if one.strength is not REFUSED
        )


def probe() -> Abilities:
    """Try what works here. Takes some tens of milliseconds, leaves nothing behind."""
    return abilities(find())


def abilities(ground: Ground, platform: str = sys.platform) -> Abilities:
    """What follows from the ground that was found."""
    v2, v1 = ground.v2_controllers, ground.v1
    return Abilities(
        kind=ground.kind,
        limits={
            "cpu": _cpu(ground),
            "memory": _memory(ground, platform),
            "disk": Mechanism(
                WATCHED, "its workspace is measured each second or so; RLIMIT_FSIZE for each file, exactly",
                "quotas belong to file systems, and to those who mount them",
            ),
            "processes": (
                Mechanism(KERNEL, "cgroup v2 pids.max") if "pids" in v2
                else Mechanism(KERNEL, "cgroup v1 pids.max") if "pids" in v1
                else Mechanism(WATCHED, "counted", "no pids controller: what forks quickly is ended a moment late")
            ),
            "open_files": Mechanism(EACH, "RLIMIT_NOFILE"),
        },
        rungs=_rungs(ground, platform),
        measures=_measures(ground, platform),
        troubles=ground.troubles,
    )  # fmt: skip


def _cpu(ground: Ground) -> Mechanism:
    if "cpu" in ground.v2_controllers:
        return Mechanism(KERNEL, "cgroup v2 cpu.max")
    if "cpu" in ground.v1:
        return Mechanism(KERNEL, "cgroup v1 cpu.cfs_quota_us")
    return Mechanism(
        WATCHED, "SIGSTOP and SIGCONT by turns", "no cpu controller: timers and sockets feel the stops"
    )


def _memory(ground: Ground, platform: str) -> Mechanism:
    if "memory" in ground.v2_controllers:
        return Mechanism(KERNEL, "cgroup v2 memory.max")
    if "memory" in ground.v1:
        return Mechanism(KERNEL, "cgroup v1 memory.limit_in_bytes")
    wall = ", RLIMIT_DATA at twice the limit for each process" if platform == "linux" else ""
    return Mechanism(WATCHED, "measured, and ended when above it" + wall, "no memory controller")


def _rungs(ground: Ground, platform: str) -> dict[str, Mechanism]:
    v2 = ground.v2 is not None
    told = Mechanism(EACH, "the agent is told, and acts at its safe points")
    if ground.v2_controllers & {"cpu"}:
        weight = Mechanism(KERNEL, "cgroup v2 cpu.weight")
    elif "cpu" in ground.v1:
        weight = Mechanism(KERNEL, "cgroup v1 cpu.shares")
    else:
        weight = Mechanism(EACH, "niceness", "without privileges it is not taken back")
    if v2:
        freeze = Mechanism(KERNEL, "cgroup v2 cgroup.freeze")
        kill = Mechanism(KERNEL, "cgroup v2 cgroup.kill")
    elif ground.v1:
        freezer = "freezer" in ground.v1
        freeze = (
            Mechanism(KERNEL, "cgroup v1 freezer.state")
            if freezer
            else Mechanism(EACH, "SIGSTOP to all of it")
        )
        kill = Mechanism(
            KERNEL, "SIGKILL to all in the cgroup v1 folders" + (", frozen meanwhile" if freezer else "")
        )
    elif platform == "linux":
        freeze = Mechanism(EACH, "SIGSTOP to all of it")
        kill = Mechanism(
            EACH,
            "SIGKILL below a warden of its own (PR_SET_CHILD_SUBREAPER)",
            "its own user may kill the warden",
        )
    else:
        freeze = Mechanism(EACH, "SIGSTOP to all of it")
        kill = Mechanism(
            WATCHED,
            "SIGKILL to its tree and its session",
            "no subreaper here: who leaves both is lost sight of",
        )
    return {
        "event": Mechanism(EACH, "an event of the run"),
        "hint": told,
        "weight": weight,
        "quota": _quota(ground),
        "freeze": freeze,
        "park": told,
        "kill": kill,
    }


def _quota(ground: Ground) -> Mechanism:
    cpu = _cpu(ground)
    if "memory" in ground.v2_controllers:
        return Mechanism(cpu.strength, f"{cpu.by}; memory.high", cpu.why)
    if "memory" in ground.v1:
        brake = "memory is reclaimed early (memory.soft_limit_in_bytes) only when the machine is short of it"
        return Mechanism(cpu.strength, cpu.by, f"{cpu.why}; {brake}" if cpu.why else brake)
    return Mechanism(cpu.strength, cpu.by, f"{cpu.why}; nothing holds memory back".removeprefix("; "))


def _measures(ground: Ground, platform: str) -> dict[str, Mechanism]:
    """CPU time, memory and bytes, as they are counted."""
    walk = "each process is asked" + (
        ", children that ended by who waited for them" if platform == "linux" else ""
    )
    cpu = Mechanism(WATCHED, walk)
    if ground.v2 is not None:
        cpu = Mechanism(KERNEL, "cgroup v2 cpu.stat")
    elif "cpuacct" in ground.v1:
        cpu = Mechanism(KERNEL, "cgroup v1 cpuacct.usage")
    memory = Mechanism(
        WATCHED, "resident growth since the last PSS, every 20 s" if platform == "linux" else "resident"
    )
    for version, there in ((2, "memory" in ground.v2_controllers), (1, "memory" in ground.v1)):
        if there and memory.strength is not KERNEL:
            memory = Mechanism(KERNEL, f"cgroup v{version} usage without inactive files")
    disk = (
        Mechanism(KERNEL, "cgroup v2 io.stat") if "io" in ground.v2_controllers else Mechanism(WATCHED, walk)
    )
    if platform != "linux" and disk.strength is WATCHED:
        disk = Mechanism(REFUSED, "nothing counts it here")
    return {"cpu": cpu, "memory": memory, "bytes": disk}
