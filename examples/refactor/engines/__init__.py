"""Engines: what knows how to rewrite a file by a rule. Two kinds ship; a new one is a class with two methods.

An engine never writes to the tree. It is given bytes and returns bytes, so that `apply` alone decides when and how
they reach the disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from examples.refactor.model import Change, Finding, Job
from holdfast import FatalError


class Refused(Exception):
    """The engine will not rewrite this file; the change is recorded as refused and the tree is as it was."""


class Unavailable(FatalError):
    """The engine's program is not there; the message says how to get it."""


class Engine(Protocol):
    """Finds the places a rule would change, and rewrites a file by it."""

    def find(self, job: Job, rules: Sequence[str], paths: Sequence[str]) -> list[Finding]:
        """What these rules would change in these files of the tree. Raises Unavailable."""
        ...

    def rewrite(self, job: Job, change: Change, source: bytes) -> bytes:
        """The file's content after the change; the same bytes when there is nothing to do. Raises Refused."""
        ...
