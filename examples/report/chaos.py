"""Where the kills of this demo fall: anywhere in the work, by chance, as an undisturbed run has measured it. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence

from examples.stage.chaos import Kill
from examples.stage.executions import Execution


def choose_kills(undisturbed: Sequence[Execution], end: float, count: int, seed: int) -> list[Kill]:
    """So many executions of the undisturbed run, each to be cut short at a random moment of the time that it took.

    `end` is when the last one ended. No execution is chosen twice: between two kills the run gets on.
    """
    chance = random.Random(seed)
    ends = [*(one.at for one in undisturbed[1:]), end]
    places = sorted(chance.sample(range(1, len(undisturbed)), min(count, len(undisturbed) - 1)))
    return [
        Kill(place + 1, None, chance.uniform(0.0, max(0.0, ends[place] - undisturbed[place].at)))
        for place in places
    ]
