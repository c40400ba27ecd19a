"""Effects: what is known of a step with `effect="once"`, told from its intent and what followed.

Laws:
1. An intent is durable before the body begins. Until an outcome follows, or a failed try that says that nothing was
   done, the effect may have happened: it is unknown.
2. An outcome that is superseded leaves its intent: what was done stays done, so the effect is unknown again.
3. Only a person's word about this very effect (a verdict, `--drop`, `--rerun`) forgets an intent.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from msgspec.structs import replace

from holdfast.errors import Refused
from holdfast.model import Entry, EntryKind, EntryStatus, Identity, Resolution, ResolutionKind, StepCursor


class EffectState(StrEnum):
    """What is known of an effect."""

    IN_FLIGHT = "in_flight"  # its body runs now
    UNKNOWN = "unknown"  # it may have happened: verify or a person decides when the code comes by
    DONE = "done"
    FAILED = "failed"  # the body raised; the code was told
    ABANDONED = "abandoned"  # the code cancelled it in the middle
    NOT_DONE = "not_done"  # a try failed and said that nothing was done


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """One effect: the newest intent, what is known, and the newest outcome, which may be superseded."""

    intent: Entry
    state: EffectState
    outcome: Entry | None


_STATES = {
    EntryStatus.INTENDED: EffectState.UNKNOWN,
    EntryStatus.OK: EffectState.DONE,
    EntryStatus.FAILED: EffectState.FAILED,
    EntryStatus.ABANDONED: EffectState.ABANDONED,
    EntryStatus.UNSEEN: EffectState.ABANDONED,
    EntryStatus.RETRIED: EffectState.NOT_DONE,
}
_OUTCOMES = frozenset({EntryStatus.OK, EntryStatus.FAILED, EntryStatus.ABANDONED})


def effects_of(entries: Iterable[Entry], running: int | None) -> list[Effect]:
    """The effects among the entries, oldest first. `running` is the token of the attempt that runs now, if one does."""
    found: dict[Identity, Effect] = {}
    for entry in entries:
        known = found.get(entry.identity)
        if entry.status is EntryStatus.INTENDED:
            if not entry.superseded:
                state = EffectState.IN_FLIGHT if entry.token == running else EffectState.UNKNOWN
                found[entry.identity] = Effect(
                    intent=entry, state=state, outcome=known.outcome if known else None
                )
        elif known is not None:
            state = known.state if entry.superseded else _STATES[entry.status]
            outcome = entry if entry.status in _OUTCOMES else known.outcome
            found[entry.identity] = Effect(intent=known.intent, state=state, outcome=outcome)
    return list(found.values())


def reopened(entries: Iterable[Entry], gone: Collection[int]) -> tuple[int, ...]:
    """The intents that stay when the entries `gone` are superseded, and whose effects are unknown from then on."""
    intents: dict[Identity, int] = {}
    touched: set[int] = set()
    for entry in entries:
        if entry.superseded or entry.kind is EntryKind.ONCE:
            continue
        if entry.status is EntryStatus.INTENDED:
            intents[entry.identity] = entry.position
        elif entry.status is EntryStatus.RETRIED:
            intents.pop(entry.identity, None)
        if entry.position in gone and entry.identity in intents:
            touched.add(intents[entry.identity])
    return tuple(sorted(touched & set(intents.values())))


def superseding(
    resolution: Resolution | None, entries: Sequence[Entry], gone: Collection[int], after: int
) -> tuple[tuple[int, ...], Resolution | None]:
    """What a retry supersedes and says, so that no effect is repeated blindly: open intents stay, and are named."""
    left = reopened(entries, gone)
    superseded = tuple(sorted(set(gone) - set(left)))
    if not left:
        return superseded, resolution
    resolution = resolution or Resolution(kind=ResolutionKind.REOPEN, after=after)
    return superseded, replace(resolution, reopened=left)


def settle(
    kind: ResolutionKind, position: int, payload: bytes, entries: Iterable[Entry], after: int
) -> Resolution:
    """A person's word about the effect whose intent is at `position`. Raises Refused when it is not unknown."""
    known = effects_of(entries, None)
    effect = next((one for one in known if one.intent.position == position), None)
    if effect is None or effect.state is not EffectState.UNKNOWN:
        unknown = [str(one.intent.position) for one in known if one.state is EffectState.UNKNOWN]
        state = "no effect" if effect is None else f"an effect that is {effect.state}"
        raise Refused(
            f"entry {position} is {state}, so there is nothing to decide; unknown are: {', '.join(unknown) or 'none'}"
        )
    return Resolution(kind=kind, position=position, payload=payload, after=after)


# --- the places of long steps ---------------------------------------------------------------------------------


_RENUMBERING = frozenset(
    {ResolutionKind.ACCEPT, ResolutionKind.INSERT, ResolutionKind.DROP, ResolutionKind.RERUN}
)


def usable(cursors: Iterable[StepCursor], resolutions: Sequence[Resolution]) -> dict[Identity, StepCursor]:
    """The places that calls may go on from. One recorded before a way out that renumbered its siblings, or that
    superseded the tail, may belong to another call: nobody goes on from it."""
    return {
        one.identity: one
        for one in cursors
        if not any(given.after >= one.position and _displaces(given, one.identity) for given in resolutions)
    }


def _displaces(given: Resolution, identity: Identity) -> bool:
    if given.kind is ResolutionKind.FROM_CHECKPOINT:
        return identity.segment >= 0
    if given.kind not in _RENUMBERING:
        return False
    named = [given.recorded, given.call.identity if given.call else None]
    return any(one is not None and one[:3] == identity[:3] for one in named)
