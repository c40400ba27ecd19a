"""What the figures were taken on: a ratio without its machine, versions and commit says nothing."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

import apsw


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine, the versions and the commit of one run of the benchmarks."""

    cpu: str
    cores: int
    memory_gib: float
    kernel: str
    python: str
    file_system: str
    sqlite: str
    apsw: str
    commit: str
    dirty: bool
    load_before: float
    server: str | None = None

    def lines(self) -> list[str]:
        """For people."""
        load = f"{self.load_before:.1f}"
        state = "dirty" if self.dirty else "clean"
        return [
            f"machine   {self.cpu}, {self.cores} cores, {self.memory_gib:.0f} GiB, load {load}",
            f"system    {self.kernel}, python {self.python}, file system {self.file_system}",
            f"versions  {self.server or f'sqlite {self.sqlite} (apsw {self.apsw})'}, commit {self.commit} ({state})",
        ]


def describe(folder: Path, server: str | None = None) -> Machine:
    """Describe this machine and the checkout; `folder` is where the benchmarks write, `server` who else does."""
    return Machine(
        cpu=_cpu(),
        cores=os.cpu_count() or 1,
        memory_gib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        kernel=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        file_system=_file_system(folder),
        sqlite=apsw.sqlite_lib_version(),
        apsw=apsw.apsw_version(),
        commit=_git("rev-parse", "--short=12", "HEAD") or "none",
        dirty=bool(_git("status", "--porcelain", "--", "src", "bench")),
        load_before=os.getloadavg()[0],
        server=server,
    )


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _file_system(folder: Path) -> str:
    """The type of the mount that holds the folder: the deepest mount point above it."""
    best, kind = "", "unknown"
    try:
        mounts = Path("/proc/mounts").read_text().splitlines()
    except OSError:
        return kind
    for line in mounts:
        _, point, this, *_ = line.split(" ")
        inside = folder.resolve().is_relative_to(point)
        if inside and len(point) > len(best):
            best, kind = point, this
    return kind


def _git(*arguments: str) -> str:
    here = Path(__file__).parent
    done = subprocess.run(["git", *arguments], cwd=here.parent, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
