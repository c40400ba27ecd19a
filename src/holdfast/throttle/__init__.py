"""Throttle: measures, holds back and ends the processes of one run, by whatever this machine can do.

It stands alone: nothing in here knows runs, workers or the store.
"""

from __future__ import annotations

from holdfast.throttle.abilities import Abilities, abilities, probe
from holdfast.throttle.ground import Ground
from holdfast.throttle.group import LAUNCH_FAILED, Group
from holdfast.throttle.groups import Groups, Leftover

__all__ = ["LAUNCH_FAILED", "Abilities", "Ground", "Group", "Groups", "Leftover", "abilities", "probe"]
