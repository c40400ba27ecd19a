"""The default engine: ruff's rule families (`UP`, `SIM`, `C4` …), unsafe fixes included, as the tests are the judge."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from examples.refactor.engines import Refused, Unavailable
from examples.refactor.model import Change, Finding, Job

FIXED_BY_RUFF = ("safe", "unsafe")  # "display" fixes are only shown to a reader
TIME_LIMIT_S = 120
FILES_AT_ONCE = 500  # keeps the command line short


@cache
def target_version(python: str) -> str:
    """The version of the Python that runs the tests, as ruff writes it: `py311`."""
    ask = "import sys; print('py%d%d' % sys.version_info[:2])"
    return subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()


def family_of(code: str, rules: Sequence[str]) -> str | None:
    """The rule, of those asked for, that a diagnostic belongs to: the longest that its code begins with.

    `C4` covers `C401`, `F` covers `F401` but not `FURB105`: a family is letters, then only digits follow.
    """
    fitting = [rule for rule in rules if re.fullmatch(re.escape(rule) + r"\d*", code)]
    return max(fitting, key=len, default=None)


class Ruff:
    """ruff as a filter: a file in, the rewritten file out."""

    def command(self, job: Job, rules: Sequence[str]) -> list[str]:
        return [
            *(job.tools, "-m", "ruff", "check", "--isolated", "--no-cache", "--exit-zero"),
            *("--preview", "--unsafe-fixes", "--target-version", target_version(job.python)),
            *("--select", ",".join(rules)),
        ]

    def find(self, job: Job, rules: Sequence[str], paths: Sequence[str]) -> list[Finding]:
        places: Counter[tuple[str, str]] = Counter()
        for start in range(0, len(paths) if rules else 0, FILES_AT_ONCE):
            asked = paths[start : start + FILES_AT_ONCE]
            ran = self.run([*self.command(job, rules), "--output-format", "json", *asked], job, None)
            if (
                ran.returncode or b"Unknown rule" in ran.stderr
            ):  # with others, ruff passes an unknown one over
                raise Unavailable(why_not(job, rules, ran.stderr))
            for found in json.loads(ran.stdout):
                rule = family_of(found["code"] or "", rules)
                if rule and found["fix"] and found["fix"]["applicability"] in FIXED_BY_RUFF:
                    path = Path(found["filename"]).resolve().relative_to(Path(job.tree).resolve())
                    places[rule, path.as_posix()] += 1
        return [Finding(rule, path, count) for (rule, path), count in places.items()]

    def rewrite(self, job: Job, change: Change, source: bytes) -> bytes:
        flags = ["--fix", "--quiet", "--stdin-filename", change.path, "-"]
        ran = self.run([*self.command(job, [change.rule]), *flags], job, source)
        if ran.returncode:
            raise Refused(f"ruff refused: {words(ran.stderr)}")
        return ran.stdout

    def run(self, command: list[str], job: Job, source: bytes | None) -> subprocess.CompletedProcess[bytes]:
        try:
            return subprocess.run(
                command, cwd=job.tree, input=source, capture_output=True, check=False, timeout=TIME_LIMIT_S
            )
        except subprocess.TimeoutExpired as late:
            raise Refused(f"ruff did not answer within {TIME_LIMIT_S} s") from late


def why_not(job: Job, rules: Sequence[str], stderr: bytes) -> str:
    """Ruff could not plan: it is missing, or a rule is unknown to it."""
    if b"No module named" in stderr:
        return (
            f"the engine needs ruff: `{job.tools} -m pip install ruff`, or give tools= a Python that has it"
        )
    return f"ruff does not take the rules {', '.join(rules)}: {words(stderr)}"


def words(stderr: bytes) -> str:
    return stderr.decode(errors="replace").strip()[-300:] or "no message"
