"""Little agents as lists of nodes, so that code edits can be random, and their runs over the toy."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from holdfast.model import SETUP, EntryStatus, Resolution, ResolutionKind
from holdfast.rules.journal import resolve, superseded_by, superseded_by_retry
from tests.rules.toy import Cancel, Crash, Held, Memory, Parked, Task, Toy, ToyFailed

Node = tuple[Any, ...]


@dataclass(frozen=True)
class Program:
    """An agent: setup, then `times` rounds of `body`, each ended by a checkpoint, then `after`."""

    setup: tuple[Node, ...] = ()
    body: tuple[Node, ...] = ()
    after: tuple[Node, ...] = ()
    times: int = 3
    last_checkpoint: bool = True


# --- agents -------------------------------------------------------------------------------------------------


def play(toy: Toy, program: Program) -> Task:
    setup: list[Any] = []
    yield from run(toy, "", program.setup, {"child": None}, setup, "setup")
    state = toy.restore()
    while state["round"] < program.times:
        for node in rest(program.body, state["at"]):
            if node[0] == "checkpoint":
                state["at"] = node[1]
                toy.checkpoint(state)
            else:
                yield from run(toy, "", (node,), state, state["out"], state["round"])
        state["round"] += 1
        state["at"] = None
        if program.last_checkpoint:
            toy.checkpoint(state)
    yield from run(toy, "", program.after, state, state["out"], "after")
    toy.finish()
    return [setup, state["out"]]


def rest(body: tuple[Node, ...], label: str | None) -> tuple[Node, ...]:
    """The body after the checkpoint of that label: a KeyError when the code lost it."""
    if label is None:
        return body
    labels = {node[1]: n for n, node in enumerate(body) if node[0] == "checkpoint"}
    return body[labels[label] + 1 :]


def run(
    toy: Toy, scope: str, nodes: tuple[Node, ...], state: dict[str, Any], out: list[Any], round_: Any
) -> Task:
    args = [round_, *(part for n, part in enumerate(scope.split("/")) if n % 2)]
    for node in nodes:
        kind, name = node[0], node[1] if len(node) > 1 else ""
        if kind == "step":
            out.append((yield from toy.step(scope, name, args, key=node[2] if len(node) > 2 else None)))
        elif kind == "poll":
            out.append((yield from toy.step(scope, "poll", [])))
        elif kind == "twice":  # equal names, other arguments
            for which in name:
                out.append((yield from toy.step(scope, "same", [*args, which])))
        elif kind == "tries":
            out.append((yield from toy.step(scope, name, args, tries=2)))
        elif kind == "chance":
            out.append(toy.cursor.moment(scope)[2])
        elif kind == "handled":
            try:
                yield from toy.step(scope, name, args, lambda: EntryStatus.FAILED)
            except ToyFailed:
                out.append((yield from toy.step(scope, f"{name}_undo", args)))
        elif kind == "flaky":
            yield from flaky(toy, scope, node, args, state)
        elif kind == "timeout":
            yield from timeout(toy, scope, node, args, out)
        elif kind in ("map", "race"):
            out.append((yield from group(toy, scope, node, state, round_)))
        elif kind == "sleep":
            yield from toy.sleep(scope)
        elif kind == "signal":
            out.append((yield from toy.signal(scope)))
        elif kind == "start":
            state["child"] = yield from toy.step(scope, "start", args)
        elif kind == "child":
            out.append((yield from toy.step(scope, "child", [state["child"]])))


def flaky(toy: Toy, scope: str, node: Node, args: list[Any], state: dict[str, Any]) -> Task:
    """Fails the first time it happens, and the run with it; `node[2]` is the cleanup on the way out."""

    def body() -> EntryStatus:
        effect = f"{node[1]}{args}"
        toy.memory.failed_once[effect] += 1
        return EntryStatus.FAILED if toy.memory.failed_once[effect] == 1 else EntryStatus.OK

    try:
        yield from toy.step(scope, node[1], args, body)
    except ToyFailed:
        yield from run(toy, scope, node[2], state, [], args[0])
        raise


def timeout(toy: Toy, scope: str, node: Node, args: list[Any], out: list[Any]) -> Task:
    """The agent's own wait_for round a step of `node[2]` ticks at most."""
    task = toy.step(scope, node[1], args, ticks=node[2])
    then = "fallback"
    try:
        for _ in range(toy.chance.randrange(5, 9)):
            next(task)
            yield
    except StopIteration:
        then = "use"
    except Cancel:
        throw_cancel(task)
        raise
    else:
        throw_cancel(task)
    out.append((yield from toy.step(scope, f"{node[1]}_{then}", args)))


def throw_cancel(task: Task) -> None:
    try:
        task.throw(Cancel())
    except (Cancel, StopIteration):
        pass


def group(toy: Toy, scope: str, node: Node, state: dict[str, Any], round_: Any) -> Task:
    kind, name, branches = node[0], node[1], node[2]

    def body(nodes: tuple[Node, ...]) -> Callable[[str], Task]:
        def inside(path: str) -> Task:
            out: list[Any] = []
            yield from run(toy, path, nodes, state, out, round_)
            return out

        return inside

    bodies = {key: body(nodes) for key, nodes in branches.items()}
    result = yield from toy.group(scope, name, bodies, race=kind == "race")
    return result


# --- runs ---------------------------------------------------------------------------------------------------


@dataclass
class Course:
    """How a run went."""

    end: str
    outcome: Any
    memory: Memory
    program: Program
    edits: list[str]


def finish(
    program: Program,
    memory: Memory,
    chance: random.Random,
    *,
    corrupt: float = 0.3,
    edit: Callable[[Program, random.Random], tuple[Program, str]] | None = None,
) -> Course:
    """Attempt after attempt until the run ends or is held. `edit` changes the code once, at some crash."""
    edits: list[str] = []
    for _ in range(300):
        memory.dead = False
        if chance.random() < corrupt:
            memory.corrupt_newest()
        toy = Toy(memory, chance, chance.choice([0, 0.2, 1]))
        task = play(toy, program)
        try:
            while True:
                next(task)
        except StopIteration as done:
            if toy.ending is not None:
                memory.broken.append("an ended attempt returned")
            return Course("done", done.value, memory, program, edits)
        except Crash:
            if edit is not None and not edits and chance.random() < 0.7:
                program, name = edit(program, chance)
                edits.append(name)
        except Parked:
            pass
        except Held:
            save_last(toy)
            return Course("held", None, memory, program, edits)
        except ToyFailed as failed:
            save_last(toy)
            memory.supersede(superseded_by_retry(memory.entries, [failed.entry.position]))
        except KeyError:
            return Course("lost its label", None, memory, program, edits)
    return Course("stuck", None, memory, program, edits)


def save_last(toy: Toy) -> None:
    """The last state is saved when an attempt ends by a failure or a hold."""
    if toy.last_state is not None:
        toy.memory.save(*toy.last_state)


def apply(memory: Memory, kind: ResolutionKind, position: int | None) -> None:
    """An operator's way out. Raises Refused."""
    assert memory.mismatch is not None
    entry = next((e for e in memory.entries if e.position == position), None)
    if kind is ResolutionKind.FROM_CHECKPOINT:
        tail = [e.position for e in memory.live() if e.identity.segment != SETUP]
        memory.supersede(tuple(tail))
        memory.resolutions.append(Resolution(kind=kind, after=memory.position))
    else:
        resolution = resolve(kind, memory.mismatch, entry, memory.position)
        memory.supersede(superseded_by(resolution, memory.entries))
        memory.resolutions.append(resolution)
        if kind is ResolutionKind.ACCEPT and position is not None:
            memory.accepted.add(position)
    memory.mismatch = None
