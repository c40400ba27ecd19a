"""Limits that runs share: concurrency keys and rates."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """The concurrency key of a run, and how many runs with this key it allows to run at once, itself included."""

    key: str
    at_most: int
