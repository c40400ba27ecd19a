"""The replay cursor under thousands of seeded schedules: kills at commits, lost checkpoints, and edits of the code.

JOURNAL_SCHEDULES=100 runs a hundred times as many. A failing schedule names its seed: `schedule(name, seed, edit)`
plays it again.
"""

from __future__ import annotations

import copy
import os
import random
from dataclasses import replace

import pytest

from holdfast.errors import Refused
from holdfast.model import SETUP, ResolutionKind
from tests.rules.toy import NEVER, UNCANCELLED, Memory
from tests.rules.toy_agents import Course, Node, Program, apply, finish

TIMES = float(os.environ.get("JOURNAL_SCHEDULES", "1"))

WAYS = [
    ResolutionKind.ACCEPT,
    ResolutionKind.INSERT,
    ResolutionKind.DROP,
    ResolutionKind.RERUN,
    ResolutionKind.FROM_CHECKPOINT,
]


def step(name: str, *key: str) -> Node:
    return ("step", name, *key)


def three(*nodes: Node) -> dict[str, tuple[Node, ...]]:
    return dict.fromkeys(("x", "y", "z"), nodes)


PROGRAMS = {
    "loop": Program(
        setup=(step("index"), step("base")),
        body=(step("a"), ("handled", "v"), ("checkpoint", "m"), step("b", "k"), ("poll",), ("twice", "pq")),
        after=(step("w"),),
        times=4,
    ),
    "nested": Program(
        setup=(step("index"), ("map", "S", three(step("s")))),
        body=(
            ("map", "M", three(step("x"), ("map", "N", {"1": (step("y"), step("z")), "2": ()}), step("u"))),
            ("map", "empty", {}),
            step("c"),
        ),
        after=(step("w"),),
        times=2,
    ),
    "race": Program(
        body=(
            step("a"),
            ("race", "R", {"1": (step("p"), step("q")), "2": (step("r"), step("s"), step("t"))}),
            ("timeout", "slow", NEVER),
            ("chance",),
            step("d"),
        ),
        after=(step("w"),),
    ),
    "child": Program(
        setup=(step("index"),),
        body=(
            ("start",), ("checkpoint", "h"), step("a"), ("sleep",), ("signal",), ("child",), ("signal",), step("b"),
        ),
        after=(step("w"),),
    ),
    "retry": Program(
        setup=(step("index"), ("flaky", "early", ())),
        body=(step("a"), ("tries", "t"), ("flaky", "f", ()), step("b")),
        after=(step("w"),),
    ),
    "cleanup": Program(
        body=(
            step("a"),
            ("flaky", "f", (("step", "poll_undo"), ("map", "U", three(("step", "poll_u"))))),
            step("b"),
        ),
        times=2,
    ),
    "mapfail": Program(
        body=(step("a"), ("map", "M", three(step("x"), ("flaky", "g", ()), step("y"))), step("b")),
        after=(step("w"),),
        times=2,
    ),
    "mapmix": Program(
        body=(
            step("a"),
            (
                "map", "M",
                three(
                    ("handled", "v"),
                    ("map", "N", {"1": (("handled", "n"),), "2": (step("o"),)}),
                    ("timeout", "sl", NEVER),
                    ("flaky", "g", (("poll",),)),
                    ("tries", "t"),
                ),
            ),
            step("b"),
        ),
        after=(step("w"),),
        times=2,
    ),
    "marginal": Program(body=(step("a"), ("timeout", "mg", 9), step("d")), after=(step("w"),)),
}  # fmt: skip
UNEQUAL = {"marginal"}
"""Whether the timeout strikes is chance here: outcomes may differ, nothing else."""

OUTCOMES = {
    name: finish(program, Memory(), random.Random(0), corrupt=0).outcome for name, program in PROGRAMS.items()
}
COMMITS = {
    name: finish(program, Memory(), random.Random(0), corrupt=0).memory.commits
    for name, program in PROGRAMS.items()
}


# --- edits --------------------------------------------------------------------------------------------------


def edited(program: Program, chance: random.Random) -> tuple[Program, str]:
    """The program after one random edit of its code, and what was done."""
    name = chance.choice(sorted(EDITS))
    part = chance.choice(["setup", "body", "body", "after"])
    nodes = list(getattr(program, part))
    return EDITS[name](program, part, nodes, chance), name


def _rename(program: Program, part: str, nodes: list[Node], chance: random.Random) -> Program:
    places = [n for n, node in enumerate(nodes) if node[0] == "step"]
    if places:
        place = chance.choice(places)
        nodes[place] = ("step", nodes[place][1] + "2", *nodes[place][2:])
    return replace(program, **{part: tuple(nodes)})


def _insert(program: Program, part: str, nodes: list[Node], chance: random.Random) -> Program:
    nodes.insert(chance.randrange(len(nodes) + 1), chance.choice([step("new"), ("poll",), ("chance",)]))
    return replace(program, **{part: tuple(nodes)})


def _remove(program: Program, part: str, nodes: list[Node], chance: random.Random) -> Program:
    if nodes:
        nodes.pop(chance.randrange(len(nodes)))
    return replace(program, **{part: tuple(nodes)})


def _reorder(program: Program, part: str, nodes: list[Node], chance: random.Random) -> Program:
    if len(nodes) > 1:
        one, other = chance.sample(range(len(nodes)), 2)
        nodes[one], nodes[other] = nodes[other], nodes[one]
    return replace(program, **{part: tuple(nodes)})


def _swap_equal_calls(program: Program, _: str, __: list[Node], ___: random.Random) -> Program:
    return replace(
        program,
        body=tuple((*node[:1], node[1][::-1]) if node[0] == "twice" else node for node in program.body),
    )


def _insert_checkpoint(program: Program, _: str, __: list[Node], chance: random.Random) -> Program:
    body = list(program.body)
    body.insert(chance.randrange(len(body) + 1), ("checkpoint", "new"))
    return replace(program, body=tuple(body))


def _remove_checkpoint(program: Program, _: str, __: list[Node], ___: random.Random) -> Program:
    return replace(program, body=tuple(node for node in program.body if node[0] != "checkpoint"))


def _remove_last_checkpoint(program: Program, _: str, __: list[Node], ___: random.Random) -> Program:
    return replace(program, last_checkpoint=False)


def _other_times(program: Program, _: str, __: list[Node], chance: random.Random) -> Program:
    return replace(program, times=max(1, program.times + chance.choice([-1, 1])))


def _to_setup(program: Program, _: str, __: list[Node], chance: random.Random) -> Program:
    body = list(program.body)
    moved = body.pop(chance.choice([n for n, node in enumerate(body) if node[0] != "checkpoint"]))
    return replace(program, setup=(*program.setup, moved), body=tuple(body))


def _from_setup(program: Program, _: str, __: list[Node], ___: random.Random) -> Program:
    return replace(program, setup=program.setup[:-1], body=(*program.setup[-1:], *program.body))


def _inside(program: Program, change: str, chance: random.Random) -> Program:
    """Edit a map or race of the body."""
    body = list(program.body)
    groups = [n for n, node in enumerate(body) if node[0] in ("map", "race") and node[2]]
    if groups:
        place = chance.choice(groups)
        kind, name, branches = body[place]
        branches = dict(branches)
        key = chance.choice(sorted(branches))
        if change == "key":
            branches[key + "'"] = branches.pop(key)
        elif change == "insert":
            nodes = list(branches[key])
            nodes.insert(chance.randrange(len(nodes) + 1), step("new"))
            branches[key] = tuple(nodes)
        else:
            branches[key] = branches[key][:-1]
        body[place] = (kind, name, branches)
    return replace(program, body=tuple(body))


EDITS = {
    "rename": _rename,
    "insert": _insert,
    "remove": _remove,
    "reorder": _reorder,
    "swap equal calls": _swap_equal_calls,
    "insert a checkpoint": _insert_checkpoint,
    "remove a checkpoint": _remove_checkpoint,
    "remove the last checkpoint": _remove_last_checkpoint,
    "other loop count": _other_times,
    "body to setup": _to_setup,
    "setup to body": _from_setup,
    "other map key": lambda program, _, __, chance: _inside(program, "key", chance),
    "insert in a branch": lambda program, _, __, chance: _inside(program, "insert", chance),
    "remove in a branch": lambda program, _, __, chance: _inside(program, "remove", chance),
}


# --- schedules ----------------------------------------------------------------------------------------------


def schedule(name: str, seed: int, edit: bool) -> Course:
    """One run of one program under the kills, lost checkpoints and edits of this seed."""
    chance = random.Random(f"{name}/{seed}")
    kills = frozenset(
        (chance.randrange(1, COMMITS[name] + 20), chance.choice(["before", "after"]))
        for _ in range(chance.choice([1, 1, 2, 3]))
    )
    memory = Memory(kills=kills)
    return finish(PROGRAMS[name], memory, chance, edit=edited if edit else None)


def seeds(count: int) -> range:
    return range(max(1, round(count * TIMES)))


@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_without_an_edit_a_run_ends_as_if_undisturbed(name: str) -> None:
    for seed in seeds(120):
        course = schedule(name, seed, edit=False)
        assert course.memory.broken == [], (name, seed)
        assert course.end == "done", (name, seed, course.memory.mismatch)
        assert name in UNEQUAL or course.outcome == OUTCOMES[name], (name, seed)


@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_after_an_edit_a_run_goes_on_rightly_or_is_held(name: str) -> None:
    ends = set()
    for seed in seeds(120):
        course = schedule(name, seed, edit=True)
        assert course.memory.broken == [], (name, seed, course.edits)
        assert course.end in ("done", "held", "lost its label"), (name, seed, course.edits)
        ends.add(course.end)
    assert {"done", "held"} <= ends


@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_after_a_hold_every_way_out_that_applies_leads_on(name: str) -> None:
    for seed in seeds(60):
        course = schedule(name, seed, edit=True)
        if course.end == "held":
            for kind in WAYS:
                _leads_on(
                    course, kind, random.Random(f"{name}/{seed}/{kind}"), (name, seed, course.edits, kind)
                )


def _leads_on(held: Course, kind: ResolutionKind, chance: random.Random, what: object) -> None:
    """The way out leads past this mismatch, and further ones to the end."""
    course = replace(held, memory=copy.deepcopy(held.memory))
    for _ in range(200):
        before = course.memory.mismatch
        assert before is not None
        if not _take(course.memory, kind):
            return
        course = finish(course.program, course.memory, chance, corrupt=0)
        assert not any("silence" in law for law in course.memory.broken), (what, course.memory.broken)
        if course.end in ("done", "lost its label"):
            return
        assert course.end == "held", (what, course.end)
        after = course.memory.mismatch
        assert after is not None
        assert after != before, (what, before)
        kind = chance.choice(WAYS)
        while not _applies(course.memory, kind):
            kind = chance.choice(WAYS)
    raise AssertionError((what, "held again and again", course.memory.mismatch))


def _applies(memory: Memory, kind: ResolutionKind) -> bool:
    return _take(copy.deepcopy(memory), kind)


def _take(memory: Memory, kind: ResolutionKind) -> bool:
    """Take the way out; False when it does not apply to this mismatch."""
    mismatch = memory.mismatch
    assert mismatch is not None
    entry = next(e for e in memory.entries if e.position == mismatch.entry)
    if kind is ResolutionKind.FROM_CHECKPOINT and entry.identity.segment == SETUP:
        return False
    if kind is ResolutionKind.ACCEPT and mismatch.message == UNCANCELLED:
        return False  # it does answer the call already
    try:
        apply(memory, kind, mismatch.entry)
    except Refused:
        return False
    return True
