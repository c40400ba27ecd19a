"""How the whole machine is doing, as the kernel tells it."""

from __future__ import annotations

from pathlib import Path

from holdfast.model import HostStall
from holdfast.throttle.files import Kept


class Host:
    """The pressure of the whole machine; files kept open, one look for any number of groups."""

    def __init__(self, folder: Path = Path("/proc/pressure")) -> None:
        self._files = {name: Kept(folder / name) for name in ("cpu", "memory", "io")}

    def stall(self) -> HostStall | None:
        """Percent of the last 10 s; None where the kernel does not tell."""
        cpu = self._ten("cpu", b"some")
        memory, disk = self._ten("memory", b"full"), self._ten("io", b"full")
        return None if cpu is None or memory is None or disk is None else HostStall(cpu, memory, disk)

    def _ten(self, name: str, line: bytes) -> float | None:
        text = self._files[name].read()
        at = text.find(line + b" avg10=")
        return float(text[at + len(line) + 7 :].split(b" ", 1)[0]) if at >= 0 else None

    def close(self) -> None:
        """Let go of the files."""
        for kept in self._files.values():
            kept.close()
