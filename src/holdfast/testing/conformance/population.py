"""Runs in every state there is, with some of everything, and all that a store says of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from msgspec import structs

from holdfast.model import (
    Beside,
    Committed,
    EntryKind,
    EntryStatus,
    Failed,
    Hold,
    Lane,
    NewArtifact,
    NewBudget,
    NewCursor,
    NewRun,
    NewSample,
    Note,
    Park,
    Progress,
    Reason,
    Release,
    Resolution,
    ResolutionKind,
    Retry,
    Sampled,
    Settle,
    Succeeded,
    TreeSample,
    Unit,
    Wish,
)
from holdfast.rules.transitions import cancel, retry
from holdfast.rules.waits import of_child
from holdfast.store.protocol import Store
from holdfast.testing.conformance.approvals import YES, ask, wait
from holdfast.testing.conformance.artifacts import CHUNKS, bring
from holdfast.testing.conformance.budgets import OUT, asks
from holdfast.testing.conformance.children import LEAVE, bear, end, taken
from holdfast.testing.conformance.place import (
    FAILURE,
    SECOND_US,
    SERVES,
    Attempt,
    Place,
    commit_one,
    new_run,
    register,
    save,
    start,
    step,
    steps,
    take,
)

DONE = Succeeded(result=b'{"ok": true}')
LARGE = b'"' + b"kelp " * 4_000 + b'"'
SAMPLE = TreeSample(at_us=0, span_us=SECOND_US, cpu_percent=5.0, memory_bytes=1 << 20, processes=2)


async def beside(attempt: Attempt, *things: Beside) -> None:
    """Commit an entry with these beside it."""
    change = structs.replace(attempt.change(step(occurrence=attempt.position)), beside=things)
    answer = await commit_one(attempt.store, change)
    assert isinstance(answer, Committed), answer
    attempt.position = answer.position


async def full(store: Store, worker: int, run_id: str, *, shared: str) -> Attempt:
    """A run that has some of everything, and is executed."""
    new = NewRun(
        id=run_id,
        agent=SERVES[0].agent,
        version=SERVES[0].version,
        input=b'{"repo": "caf\xc3\xa9"}',
        priority=-3,
        tags=(("customer", "7"), ("urgent", "")),
        lane=Lane(key=f"key of {run_id}", at_most=2),
        budget=NewBudget(limits={OUT: 100}, soft_percent=20),
        deadline_us=10**15,
        needs=("eu", "gpu"),
    )
    attempt = await start(store, worker, run_id, new=new)
    await attempt.commit(step("plan", segment=-1, payload=LARGE), notes=(Note("log", b'{"text":"a\\nb"}'),))
    await attempt.commit(*steps(3), progress=Progress(current=1, total=3, description="a third", phase="one"))
    await attempt.commit(step("pay", kind=EntryKind.ONCE, key="k", status=EntryStatus.OK))
    for n in (1, 2, 3):
        named = "first" if n == 1 else None
        new_checkpoint = save(n, state=b'{"n":%d}' % n, keep=2, name=named)
        await attempt.commit(checkpoint=structs.replace(new_checkpoint, turns=b"[1]"))
    await beside(attempt, NewArtifact(name="a.txt", id=shared, media_type="text/plain"))
    await beside(attempt, NewCursor(identity=step("long").identity, args_hash=b"\x00h", cursor=b"[7]"))
    await store.reserve([asks(attempt)])
    await beside(attempt, Settle(call="c", spent={OUT: 30, Unit.REQUESTS: 1}))
    await store.reserve([asks(attempt, "in flight")])
    await ask(attempt, expires_at_us=10**17, escalate_at_us=5 * 10**15)
    answered = await ask(attempt, question_hash=b"other", question="And now?")
    await store.answer_approval(run_id, answered, structs.replace(YES, question_hash=b"other"))
    await store.add_signal(run_id, "kept", LARGE, dedup="d")
    await store.add_signal(run_id, "taken", b"null")
    _, inbox = await store.read_inbox(attempt.run.key)
    await attempt.commit(step("wait", kind=EntryKind.SIGNAL, signal=inbox[-1].n))
    seen = Sampled(sample=SAMPLE, history=(SAMPLE, SAMPLE))
    await store.save_samples([NewSample(run=attempt.run.key, token=attempt.run.token, sampled=seen)])
    await store.wish(run_id, Wish.THROTTLE)
    return attempt


HELD = (Reason.MISMATCH, Reason.POISON, Reason.CHECKPOINT_LOST, Reason.EFFECT_UNKNOWN, Reason.DISK)


async def populate(store: Store, place: Place) -> list[str]:
    """Runs in every state there is; their ids, parents before their children."""
    worker = await register(store, capacity=100)
    shared = await bring(store, *CHUNKS)
    ids = ["done", "failed", "again"]
    await (await full(store, worker, "done", shared=shared)).settle(DONE)
    await (await full(store, worker, "failed", shared=shared)).settle(Failed(failure=FAILURE))
    await _retried(await full(store, worker, "again", shared=shared))
    for reason in HELD:
        attempt = await full(store, worker, reason, shared=shared)
        await attempt.settle(Hold(reason=reason, failure=FAILURE))
        ids.append(reason)
    parks: dict[str, Callable[[Attempt], object]] = {
        "sleep": lambda at: Park(reason=Reason.SLEEP, until_us=place.clock.wall_us() + SECOND_US),
        "signal": lambda at: Park(reason=Reason.SIGNAL, wait_name="go", inbox_seen=9),
        "rate": lambda at: Park(reason=Reason.RATE, until_us=place.clock.wall_us() + SECOND_US),
        "budget": lambda at: Park(reason=Reason.BUDGET),
        "window": lambda at: Park(reason=Reason.BUDGET, until_us=place.clock.wall_us() + SECOND_US),
        "loop": lambda at: Park(reason=Reason.LOOP),
        "paused": lambda at: Park(reason=Reason.PAUSED),
        "parked": lambda at: Park(reason=Reason.PARKED),
        "drained": lambda at: Release(),
        "backoff": lambda at: Retry(failure=FAILURE, delay_us=SECOND_US),
    }
    for run_id, outcome_of in parks.items():
        attempt = await full(store, worker, run_id, shared=shared)
        await attempt.commit(outcome=outcome_of(attempt))  # type: ignore[arg-type]  # an outcome each
        ids.append(run_id)
    attempt = await full(store, worker, "approval", shared=shared)
    await attempt.settle(wait(await ask(attempt, question_hash=b"third")))
    await store.create_run(replace(new_run("queued"), delay_us=SECOND_US, claimable=False))
    await store.create_run(new_run("cancelled"))
    await store.update_run("cancelled", cancel)
    return [*ids, "approval", "queued", "cancelled", *await _line(store, worker), *await kin(store, worker)]


async def _retried(attempt: Attempt) -> None:
    """It failed, was retried with an entry superseded, an answer of an operator, and ended."""
    await attempt.settle(Failed(failure=FAILURE))
    answer = Resolution(kind=ResolutionKind.DROP, position=2)
    await attempt.store.update_run(
        "again", lambda run, now: retry(run, now, supersede=(2, 9), resolution=answer)
    )
    await (await take(attempt.store, attempt.claim.run.worker or 0, "again")).settle(DONE)


async def _line(store: Store, worker: int) -> list[str]:
    """Two runs of one concurrency key: one ended, one stood in line behind it."""
    lane = Lane(key="one", at_most=1)
    for run_id in ("front", "line"):
        await store.create_run(replace(new_run(run_id), lane=lane))
    front = await take(store, worker, "front")
    await store.claim(worker, SERVES, 1, only="line")
    assert (await store.get_run("line")).reason is Reason.LIMIT
    await front.settle(Park(reason=Reason.PAUSED))
    return ["front", "line"]


async def kin(store: Store, worker: int) -> list[str]:
    """A parent that waits for one child of four, and a grandchild; one that ended and left a child to itself."""
    parent = await start(store, worker, "parent")
    await bear(parent, "told", "taken", "waits", "open")
    for run_id in ("told", "taken"):
        await end(store, worker, run_id)
    _, inbox = await store.read_inbox(parent.run.key)
    await parent.commit(taken(inbox[-1].n))
    middle = await take(store, worker, "waits")
    await bear(middle, "below")
    await middle.settle(Park(reason=Reason.CHILD, wait_name=of_child("below"), inbox_seen=0))
    await parent.settle(Park(reason=Reason.CHILD, wait_name=of_child("waits"), inbox_seen=9))
    left = await start(store, worker, "ended")
    await bear(left, "left", policy=LEAVE)
    await bear(left, "swept")
    await left.settle(DONE)
    return ["parent", "told", "taken", "waits", "open", "below", "ended", "left", "swept"]


async def standing(store: Store, parent: int, child: str) -> tuple[object, ...]:
    """How a child stands, as its parent sees it."""
    found = await store.read_child(parent, child)
    assert found is not None
    return found.ended, found.signal, found.inbox_no, found.run.state


async def everything(store: Store, run_id: str) -> dict[str, object]:
    """All that a store says of a run, apart from what it is numbered by there."""
    run = await store.get_run(run_id)
    children = await store.list_children([run_id], 100)
    checkpoints = await store.list_checkpoints(run_id)
    artifacts = await store.list_artifacts(run_id)
    return {
        "run": structs.replace(run, key=0),
        "input": await store.get_input(run_id),
        "events": await store.read_events(run_id, 0, 10_000),
        "entries": await store.read_entries(run_id, payloads=True),
        "journal": await store.load_journal(run_id),
        "whole journal": await store.load_journal(run_id, whole=True),
        "once": (await store.get_once(run.key, "k"), await store.count_once(run.key)),
        "checkpoints": checkpoints,
        "states": [await store.load_checkpoint(run_id, one.n) for one in checkpoints if one.good],
        "inbox": await store.read_inbox(run.key),
        "approvals": await store.list_approvals(run_id),
        "asked": [one for one in await store.list_open_approvals(100) if one.run == run_id],
        "progress": await store.get_progress(run.key),
        "tags": (await store.get_tags([run.key])).get(run.key),
        "cursors": await store.read_cursors(run_id),
        "output": await store.read_output(run_id, 0),
        "artifacts": artifacts,
        "history": await store.read_history(run_id),
        "children": [(one.run.id, one.on_parent_end) for one in children],
        "standings": [await standing(store, run.key, one.run.id) for one in children],
        "parents": list((await store.parents_of([run.key])).values()),
        "budgets": [one for one in await store.budgets_of(run_id) if one.scope == f"run:{run_id}"],
    }
