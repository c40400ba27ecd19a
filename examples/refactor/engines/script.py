"""Custom rules: one script a rule, run in an environment of its own, so a rule may need libraries that we do not.

The contract is two commands, `python RULE.py find FILE …` (a JSON line `{"path", "places"}` for each file that it would
change) and `python RULE.py rewrite FILE` (content on stdin, new content on stdout). To add a rule: write such a script,
and name it in `CUSTOM_RULES` in `rules.py`.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from examples.refactor.engines import Refused, Unavailable
from examples.refactor.model import Change, Finding, Job

TIME_LIMIT_S = 300  # libcst takes about 0.1 s for a thousand lines


@dataclass(frozen=True, slots=True)
class Script:
    """One custom rule."""

    script: Path
    needs: str  # the library to install when it does not start

    def find(self, job: Job, rules: Sequence[str], paths: Sequence[str]) -> list[Finding]:
        if not paths:
            return []
        ran = self.run(job, ["find", *paths], None)
        if ran.returncode:
            raise Unavailable(
                f"the rule {rules[0]} does not start: `{job.tools} -m pip install {self.needs}`?\n{tail(ran.stderr)}"
            )
        found = (json.loads(line) for line in ran.stdout.splitlines())
        return [Finding(rules[0], line["path"], line["places"]) for line in found]

    def rewrite(self, job: Job, change: Change, source: bytes) -> bytes:
        ran = self.run(job, ["rewrite", change.path], source)
        if ran.returncode:
            raise Refused(f"{change.rule} refused: {tail(ran.stderr)}")
        return ran.stdout

    def run(self, job: Job, arguments: list[str], source: bytes | None) -> subprocess.CompletedProcess[bytes]:
        command = [job.tools, "-B", str(self.script), *arguments]
        try:
            return subprocess.run(
                command, cwd=job.tree, input=source, capture_output=True, check=False, timeout=TIME_LIMIT_S
            )
        except subprocess.TimeoutExpired as late:
            raise Refused(f"{self.script.name} did not answer within {TIME_LIMIT_S} s") from late


def tail(stderr: bytes) -> str:
    lines = stderr.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no message"
