"""Loops: an agent that does the same again and again, and learns nothing from it.

Laws of this file:
1. Only what came back counts: a call whose result differs from the one before, by one byte, is no repetition.
2. A turn is what was called side by side: identical calls in it count once, in whatever order they ended.
3. A call that is declared a poll stands outside: it neither counts nor interrupts. A model that says the same between
   polls is no monologue.

The thresholds follow what others found by trial (OpenHands' stuck detector; its users' false positives by polling).
"""

from __future__ import annotations

from enum import StrEnum
from hashlib import blake2b
from typing import Final, NamedTuple, assert_never

from msgspec import Struct, json

REPEATED: Final = (3, 6)
FAILED: Final = (3, 5)
ALTERNATED: Final = (6, 10)
SAID: Final = (4, 8)
"""After so many turns of one pattern the agent is told, and after so many (and as many more) the run is parked."""


class Rule(StrEnum):
    """What kind of loop it is."""

    REPEATED = "repeated"  # the same call with the same result
    FAILED = "failed"  # the same call with the same error
    ALTERNATED = "alternated"  # two calls in turn, each with the result it had before
    SAID = "said"  # the model said the same, and called no tool


class Act(NamedTuple):
    """What was done, and what came of it. `args` and `result` are hashes; `failed`: the result is an error.
    `model`: it is what a model said, whatever it was asked."""

    name: str
    args: bytes
    result: bytes
    failed: bool = False
    model: bool = False


class Loop(NamedTuple):
    """A loop: by which rule, how many turns long, and what is repeated. `begins`: it is time to tell
    the agent, `parks`: to ask a person."""

    rule: Rule
    turns: int
    acts: tuple[Act, ...]
    parks: bool
    begins: bool

    @property
    def names(self) -> str:
        """What is repeated, in words."""
        return " and ".join(dict.fromkeys(act.name for act in self.acts))


_LIMITS: Final = {
    Rule.REPEATED: REPEATED,
    Rule.FAILED: FAILED,
    Rule.ALTERNATED: ALTERNATED,
    Rule.SAID: SAID,
}


_MARKS: Final = 1 << 56
"""So many marks there are: a whole number of any JSON."""

Turn = tuple[Act, ...]
"""What was called side by side: of all that differ the first `SHOWN` in their order."""

SHOWN: Final = 64
"""Acts of a turn that are kept as they are: those beyond are in its mark, so a map of ten thousand stays small."""


class _Story(Struct):
    """What is known of the turns so far: enough to go on with, however long ago they began."""

    current: Turn = ()
    mark: int = 0  # the sum of what all the acts of the current turn are
    last_mark: int = 0
    before_mark: int = 0
    group: str | None = None
    last: Turn = ()  # the turn before, and the one before that
    before: Turn = ()
    same: int = 0  # how long the run of equal turns is that ends with `last`
    turn_about: int = 0  # how long the alternation is that ends with `last`
    said: Act | None = None
    said_in: str | None = None
    said_times: int = 0


class Turns:
    """Watches the turns of one run."""

    __slots__ = ("_met", "_story")

    def __init__(self) -> None:
        self._story = _Story()
        self._met: set[Act] = set()  # all acts of the current turn: it is over before there is a checkpoint

    def tell(self) -> bytes:
        """All that is known, for a checkpoint: a few hundred bytes. b"" when nothing was observed."""
        story = self._story
        return json.encode(story) if story.current or story.said else b""

    def go_on(self, told: bytes) -> None:
        """Go on from a checkpoint: what was observed since is forgotten."""
        self._story = json.decode(told, type=_Story) if told else _Story()
        self._met = set(self._story.current)

    def poll(self) -> None:
        """A call that is declared a poll is over."""
        self._story.said, self._story.said_times = None, 0

    @property
    def loop(self) -> Loop | None:
        """The loop that the newest turn goes on with."""
        story = self._story
        said = None if story.said is None else _loop(Rule.SAID, story.said_times, (story.said,))
        return said or (self._looping() if story.current else None)

    def observe(self, act: Act, group: str | None = None) -> Loop | None:
        """Add what was done; the loop that it goes on with, if it does. `group` names what is called side by side."""
        story = self._story
        if act.model:
            return self._say(act, group)
        story.said, story.said_times = None, 0
        if group is not None and group == story.group:
            if act in self._met:
                return None
            story.current = tuple(sorted((*story.current, act)))[:SHOWN]
        else:
            same, turn_about = self._lengths()
            story.last, story.before = story.current, story.last
            story.last_mark, story.before_mark = story.mark, story.last_mark
            story.same, story.turn_about = same, turn_about
            story.current, story.mark, story.group = (act,), 0, group
            self._met.clear()
        self._met.add(act)
        story.mark = (story.mark + _mark(act)) % _MARKS
        return self._looping()

    def _say(self, act: Act, group: str | None) -> Loop | None:
        story = self._story
        if act != story.said:
            story.said_times = 1
        elif group is None or group != story.said_in:
            story.said_times += 1
        else:
            return None
        story.said, story.said_in = act, group
        return _loop(Rule.SAID, story.said_times, (act,))

    def _lengths(self) -> tuple[int, int]:
        """How long the run of equal turns and the alternation are that end with the current turn."""
        story = self._story
        if not story.current:
            return 0, 0
        current = story.current, story.mark
        if current == (story.last, story.last_mark):
            return story.same + 1, 0
        if story.last and current == (story.before, story.before_mark):
            return 1, story.turn_about + 1
        return 1, 2 if story.last else 0

    def _looping(self) -> Loop | None:
        story = self._story
        same, turn_about = self._lengths()
        rule = Rule.FAILED if all(act.failed for act in story.current) else Rule.REPEATED
        both = tuple(sorted({*story.current, *story.last}))
        return _loop(rule, same, story.current) or _loop(Rule.ALTERNATED, turn_about, both)


def _mark(act: Act) -> int:
    """A number for what the act is, the same in every process."""
    words = b"\0".join(
        (act.name.encode("utf-8", "replace"), act.args, act.result, b"!" if act.failed else b"")
    )
    return int.from_bytes(blake2b(words, digest_size=7).digest(), "big")


def _loop(rule: Rule, turns: int, acts: Turn) -> Loop | None:
    nudge, park = _LIMITS[rule]
    return Loop(rule, turns, acts, turns % park == 0, turns == nudge) if turns >= nudge else None


def advice(loop: Loop) -> str:
    """What the agent is told."""
    match loop.rule:
        case Rule.REPEATED:
            said = f"{loop.names} was called {loop.turns} times with the same arguments and returned the same"
        case Rule.FAILED:
            said = (
                f"{loop.names} was called {loop.turns} times with the same arguments and failed the same way"
            )
        case Rule.ALTERNATED:
            said = f"{loop.names} were called in turn, {loop.turns} calls long, and each returned what it had before"
        case Rule.SAID:
            said = f"{loop.names} said the same {loop.turns} times, and no tool was called"
        case _:
            assert_never(loop.rule)
    return f"{said}: doing it again will not help. Try something else, or say what is missing."
