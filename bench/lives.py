"""Two lives of a process with a few tasks, one after the other: in the first it is killed in the middle of a task, in
the second it should finish them all. Standard library only: peers import it too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

TASKS = 5
DEADLY = 2  # the task in which the first life ends; those before it are finished by then


@dataclass(frozen=True, slots=True)
class Life:
    """One life on a folder. A task asks whether it is `deadly`, then hangs, or says that it is `finished`."""

    folder: Path
    first: bool

    def deadly(self, number: int) -> bool:
        """Whether the process is to be killed in this task; says so to who kills it."""
        if not self.first or number != DEADLY:
            return False
        print('"there"', flush=True)
        return True

    def finish(self, number: int) -> None:
        """A task has come to its end. What is written outlives the process, not the machine: enough for a kill."""
        with self._diary.open("a") as diary:
            diary.write(f"{number}\n")

    def finished(self) -> set[int]:
        """The tasks that came to their end in either life."""
        return {int(line) for line in self._diary.read_text().split()} if self._diary.exists() else set()

    @property
    def _diary(self) -> Path:
        return self.folder / "finished"
