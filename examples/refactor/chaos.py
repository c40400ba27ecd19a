"""Where the kills of this demo fall: a seeded plan."""

from __future__ import annotations

import random

from examples.stage.chaos import Kill

APPLY_S = 0.05  # an apply takes about as long: most of it is waiting for the disk


def choose_kills(changes: int, count: int, *, tests_s: float, seed: int) -> list[Kill]:
    """Spread the kills over the changes, at random within each stretch; in tests and in applies by turns.

    `tests_s` is how long the whole suite takes. With few changes every kill is in tests: they can be cut short twice.
    """
    chance = random.Random(seed)
    kills = []
    for number in range(count):
        in_apply = number % 2 == 1 and changes >= 2 * count
        place = int(changes * (number + chance.uniform(0.2, 0.8)) / count)
        delay_s = chance.uniform(0.0, APPLY_S) if in_apply else chance.uniform(0.05, 0.5) * tests_s
        kills.append(Kill(max(1, place), "apply" if in_apply else "verify", delay_s))
    return kills
