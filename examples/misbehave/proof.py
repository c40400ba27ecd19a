"""The proofs at the end of the demo. Pure: each takes what was witnessed and says whether its claim holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from examples.misbehave import agent
from examples.stage.executions import Execution
from examples.stage.proof import Proof, many

RUNGS = ("event", "hint", "weight", "quota", "freeze", "park")
CPU_TOLERANCE = 1.10  # of the limit: as far as the kernel (or SIGSTOP by turns) keeps it


@dataclass(frozen=True, slots=True)
class Witnessed:
    """Everything that the proofs rest on."""

    rungs: Sequence[str]  # that were taken against the hoarder, in order, as its events tell
    held_for: Mapping[str, str]  # why each run stood still: run → reason
    ended: Mapping[str, str]  # run → state
    scanned: Sequence[Execution]
    parked_at: float  # when the hoarder stood still, seconds since the epoch
    cores: float  # that the spinner's tools used, as counted outside, over `measured_s`
    measured_s: float
    chapters_before: int  # that the spender had paid when it stood still
    chapters: Sequence[Execution]
    used_usd: float
    nudged_after: Sequence[int]  # turns
    searches: Sequence[Execution]
    left: Sequence[int]  # processes of the runs that are still alive


def proofs(seen: Witnessed) -> list[Proof]:
    """Every claim of the demo."""
    return [
        hoarder_is_throttled(seen),
        hoarder_goes_on(seen),
        spinner_is_held(seen),
        spender_stops(seen),
        spender_goes_on(seen),
        repeater_is_stopped(seen),
        nobody_is_left(seen),
    ]


def hoarder_is_throttled(seen: Witnessed) -> Proof:
    holds = tuple(seen.rungs) == RUNGS and seen.held_for.get("hoarder") == "parked"
    return Proof(
        "the hoarder was throttled rung by rung, and parked", holds, " → ".join(seen.rungs) or "no rung"
    )


def hoarder_goes_on(seen: Witnessed) -> Proof:
    """In another process, with the page after the last one that is recorded, and no page twice."""
    pages = [one.key for one in seen.scanned]
    before = {one.pid for one in seen.scanned if one.at <= seen.parked_at}
    after = {one.pid for one in seen.scanned if one.at > seen.parked_at}
    holds = (
        seen.ended.get("hoarder") == "succeeded"
        and pages == [str(page) for page in range(agent.PAGES)]
        and len(before) == 1
        and len(after) == 1
        and before.isdisjoint(after)
    )
    evidence = f"{len(pages)} of {agent.PAGES} pages, {len(set(pages))} different, in {len(before | after)} processes"
    return Proof("resumed, it went on with an empty memory, and did nothing twice", holds, evidence)


def spinner_is_held(seen: Witnessed) -> Proof:
    holds = 0 < seen.cores <= agent.CORES * CPU_TOLERANCE and seen.ended.get("spinner") == "succeeded"
    evidence = (
        f"{agent.SPINNERS} tools that never rest used {seen.cores:.3f} cores of {agent.CORES}, "
        f"counted from outside for {seen.measured_s:.1f} s"
    )
    return Proof("the spinner got the CPU of its limit, and no more", holds, evidence)


def spender_stops(seen: Witnessed) -> Proof:
    paid = seen.chapters_before * agent.PRICE_USD
    holds = 0 < paid <= agent.BUDGET_USD and seen.held_for.get("spender") == "budget"
    evidence = f"${paid:.2f} of ${agent.BUDGET_USD:.2f}: the next would have cost ${agent.PRICE_USD:.2f}"
    return Proof("the spender stopped before its budget was exceeded", holds, evidence)


def spender_goes_on(seen: Witnessed) -> Proof:
    written = [one.key for one in seen.chapters]
    total = agent.CHAPTERS * agent.PRICE_USD
    holds = (
        seen.ended.get("spender") == "succeeded"
        and written == [str(chapter) for chapter in range(agent.CHAPTERS)]
        and abs(seen.used_usd - total) < 1e-9
    )
    evidence = (
        f"{many(len(written), 'chapter')} paid, {len(set(written))} different, ${seen.used_usd:.2f} in all"
    )
    return Proof("with a greater budget it went on, and nothing was paid twice", holds, evidence)


def repeater_is_stopped(seen: Witnessed) -> Proof:
    holds = (
        list(seen.nudged_after) == [3]
        and len(seen.searches) == 6
        and seen.held_for.get("repeater") == "loop"
        and seen.ended.get("repeater") == "cancelled"
    )
    nudges = ", ".join(map(str, seen.nudged_after)) or "none"
    evidence = f"told after {nudges} of {len(seen.searches)} equal calls, then held, then cancelled by you"
    return Proof("the repeater was told, then stopped", holds, evidence)


def nobody_is_left(seen: Witnessed) -> Proof:
    evidence = (
        f"alive: {', '.join(map(str, seen.left))}" if seen.left else "not one process of theirs is alive"
    )
    return Proof("nothing that they started outlived them", not seen.left, evidence)
