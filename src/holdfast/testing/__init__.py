"""For users: the tools with which one's own agents, and one's own store, are proved.

`simulate` runs an agent in virtual time, `assert_survives_crashes` crashes it at every commit, `replay` tries new code
on stored runs. Each brings its module along when it is first used. `holdfast.testing.conformance` is the suite for a
store of one's own; it needs pytest and pytest-asyncio.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdfast.testing.rehearsal import Replay, replay
    from holdfast.testing.stage import NotOver, Trial
    from holdfast.testing.survive import assert_survives_crashes, simulate

_HOME = {
    "NotOver": "stage",
    "Replay": "rehearsal",
    "Trial": "stage",
    "assert_survives_crashes": "survive",
    "replay": "rehearsal",
    "simulate": "survive",
}

__all__ = ["NotOver", "Replay", "Trial", "assert_survives_crashes", "replay", "simulate"]


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'holdfast.testing' has no attribute {name!r}")
    value: object = getattr(import_module(f"holdfast.testing.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
