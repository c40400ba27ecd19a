"""What befalls a run in a trial: crashes, a seed, how checkpoints are saved. Pure; each plan has a short text."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Literal

from holdfast.errors import UsageError

Saving = Literal["always", "never"]

_CRASH: Final = re.compile(r"([1-9]\d*)([+-])")
_SHUFFLES: Final = 8
_SAVINGS: Final = 4
_CORRUPTIONS: Final = 8
_PAIRS: Final = 40


@dataclass(frozen=True, slots=True, order=True)
class Crash:
    """The worker's process dies at its commit number `at`: before it is durable, or right after."""

    at: int
    after: bool

    def __str__(self) -> str:
        return f"{self.at}{'+' if self.after else '-'}"

    def told(self) -> str:
        """In words."""
        return f"a crash {'after' if self.after else 'before'} commit {self.at} is durable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One way through a run. Each crash befalls the process that follows the one before; commits count from 1 in each.

    With a `seed`, tasks and delays are shuffled by it. `save` replaces when checkpoints are due. `corrupt` damages the
    newest checkpoint at the first crash.
    """

    crashes: tuple[Crash, ...] = ()
    seed: int | None = None
    save: Saving | None = None
    corrupt: bool = False

    def __str__(self) -> str:
        words = [",".join(map(str, self.crashes))] if self.crashes else []
        words += [f"seed={self.seed}"] if self.seed is not None else []
        words += [f"save={self.save}"] if self.save is not None else []
        words += ["corrupt"] if self.corrupt else []
        return " ".join(words)

    def told(self) -> str:
        """In words."""
        words = [", then ".join(crash.told() for crash in self.crashes) or "no crash"]
        words += ["the newest checkpoint corrupt"] if self.corrupt else []
        words += [f"checkpoints {self.save} saved"] if self.save is not None else []
        words += [f"order by seed {self.seed}"] if self.seed is not None else []
        return "; ".join(words)


def parse(text: str) -> Plan:
    """The plan that a text such as `"3-,1+ seed=7 save=never corrupt"` stands for. Raises UsageError."""
    plan = Plan()
    for word in text.split():
        name, _, value = word.partition("=")
        if name == "seed" and value.isdigit():
            plan = replace(plan, seed=int(value))
        elif word == "save=always":
            plan = replace(plan, save="always")
        elif word == "save=never":
            plan = replace(plan, save="never")
        elif word == "corrupt":
            plan = replace(plan, corrupt=True)
        else:
            plan = replace(plan, crashes=tuple(map(_crash, word.split(","))))
    return plan


def _crash(word: str) -> Crash:
    found = _CRASH.fullmatch(word)
    if found is None:
        raise UsageError(
            f"{word!r} is no part of a plan: write crashes as 3- (before the third commit is durable) or 3+ (after"
            " it), several as 3-,1+, and beside them seed=7, save=always or save=never, corrupt"
        )
    return Crash(int(found[1]), found[2] == "+")


def plans(commits: int, most: int, *, checkpoints: bool, spare: bool) -> list[Plan]:
    """What a run of so many commits is put through, at most `most` plans: every crash, and by fixed seeds what else
    there is. `checkpoints`: some are saved; `spare`: more than one is kept.
    """
    points = [Crash(at, after) for at in range(1, commits + 1) for after in (False, True)]
    chance = random.Random(f"{commits} commits")
    others = _others(points, chance, checkpoints=checkpoints, spare=spare)
    if len(points) + len(others) > most:
        others = chance.sample(others, min(len(others), most // 2))
        points = sorted(chance.sample(points, min(len(points), most - len(others))))
    return [Plan(crashes=(point,)) for point in points] + others


def _others(points: list[Crash], chance: random.Random, *, checkpoints: bool, spare: bool) -> list[Plan]:
    found = [Plan(seed=seed) for seed in range(1, _SHUFFLES + 1)]
    found += [Plan(crashes=(chance.choice(points),), seed=seed) for seed in range(1, _SHUFFLES + 1)]
    if checkpoints:
        savings: Iterable[Saving] = ("always", "never")
        for saving in savings:
            crashes = [(), *((chance.choice(points),) for _ in range(_SAVINGS))]
            found += [Plan(crashes=each, save=saving) for each in crashes]
        if spare:
            hit = chance.sample(points, min(_CORRUPTIONS, len(points)))
            found += [Plan(crashes=(point,), save="always", corrupt=True) for point in sorted(hit)]
    for one in chance.choices(points, k=_PAIRS):
        second = [two for two in points if one.at + two.at <= points[-1].at + 1]
        found.append(Plan(crashes=(one, chance.choice(second))))
    return list(dict.fromkeys(found))
