"""Throttle: measures, holds back and ends the processes of one run, by whatever this machine can do.

It stands alone: nothing in here knows runs, workers or the store. Its parts are loaded when they are asked for: whoever
wants to know how the machine is doing needs no groups.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from holdfast.throttle.abilities import Abilities, probe
    from holdfast.throttle.ground import Ground
    from holdfast.throttle.group import LAUNCH_FAILED, Group
    from holdfast.throttle.groups import Groups, Leftover

__all__ = ["LAUNCH_FAILED", "Abilities", "Ground", "Group", "Groups", "Leftover", "probe"]

_HOME: Final = {
    "LAUNCH_FAILED": "group",
    "Abilities": "abilities",
    "Ground": "ground",
    "Group": "group",
    "Groups": "groups",
    "Leftover": "groups",
    "probe": "abilities",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'holdfast.throttle' has no attribute {name!r}")
    return getattr(import_module(f"holdfast.throttle.{_HOME[name]}"), name)
