"""Draws docs/states.md from the state table: `python -m tools.draw_states` rewrites it, `--check` only compares."""

from __future__ import annotations

import sys
from pathlib import Path

from holdfast.model import FINAL_STATES, RunState
from holdfast.rules.states import EVENTS, TABLE
from holdfast.rules.transitions import MAX_CRASHES, MAX_CRASHES_ALONE

PAGE = Path(__file__).parent.parent / "docs" / "states.md"

HEADING = """# The states of a run

Drawn from the table in `src/holdfast/rules/states.py` by `tools/draw_states.py`; a test compares the two.

A run is in one of six states. Everything finer is a *reason* beside the state, so that you always see why nothing
moves: `holdfast show ID` prints both. What an arrow stands for is listed below the picture.
"""

POISON = f"{MAX_CRASHES_ALONE} times alone, or {MAX_CRASHES} times in all"

REASONS = f"""## Reasons

| state | reason | what it waits for | the way on |
|---|---|---|---|
| queued | (none) | its time, and a free place on a worker | by itself |
| queued | `backoff` | the next try after a failure | by itself; now: `holdfast retry ID` |
| queued | `drained`, `stuck` | its worker shut down, or had to be replaced | by itself |
| queued | `killed` | a worker: a person had its attempt killed | by itself, at once |
| queued | `importing` | the rest of it, from [another store](move.md) | `holdfast import FILE`, `holdfast delete ID` |
| queued | `limit` | its turn: the runs of its concurrency key are at their limit | by itself, in the order of claims |
| waiting | `sleep` | a time | by itself |
| waiting | `rate` | its turn under a shared rate | by itself |
| waiting | `budget` | a budget that its next step fits in | `holdfast budget raise SCOPE --usd 5`; a window's end |
| waiting | `loop` | you: it did the same again and again | `holdfast resume ID` |
| waiting | `signal` | a signal, or its time-out | `holdfast signal ID NAME` |
| waiting | `approval` | a person's answer, or its end | `holdfast approve ID` |
| waiting | `child` | the end of a child | look at the child: `holdfast show ID` names it |
| waiting | `paused` | you | `holdfast resume ID` |
| waiting | `parked` | you: its `holdfast run` was interrupted | `holdfast run --id ID …`, `holdfast resume ID` |
| waiting | `needs_code` | a worker that has its version of the agent | start one; by itself then |
| waiting | `mismatch` | you: code and journal disagree | `holdfast retry ID`, with one of its answers |
| waiting | `disk` | you: its [workspace](guide/workspaces.md) is over its limit | make room, `holdfast retry ID` |
| waiting | `checkpoint_lost` | you: no good checkpoint is left | `holdfast retry ID` |
| waiting | `effect_unknown` | you: an effect may or may not have happened | `holdfast approve ID ENTRY` |
| waiting | `poison` | you: it went down with its worker {POISON}, recording nothing | `holdfast retry ID` |
| queued | `crashed` | a short rest: its own process died | by itself; `holdfast retry ID` for at once |
| running | `crashed` | nothing: in the feed, it says that the worker before went down | by itself |
| running | `throttled` | the machine, which is under pressure, or you | by itself; `holdfast throttle ID --off` |
| running | `stuck` | a sync step that outlived its time-out | by itself: the worker replaces itself |

A wait that is over is claimed directly; it does not pass through `queued`. `retry` sets every counter to zero. Final
states are left by `retry` only, and `succeeded` never.
"""


def draw() -> str:
    """The page, as text."""
    return "\n".join((HEADING, _picture(), _events(), REASONS))


def _picture() -> str:
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> queued: created"]
    for source in RunState:
        for target in RunState:
            events = [
                event for (state, event), targets in TABLE.items() if state is source and target in targets
            ]
            if events and source is not target:
                lines.append(f"    {source} --> {target}: {', '.join(events)}")
    lines += [f"    {state} --> [*]" for state in RunState if state in FINAL_STATES]
    return "\n".join((*lines, "```", ""))


def _events() -> str:
    lines = ["## Events", "", "| event | what it means | from → to |", "|---|---|---|"]
    for event, meaning in EVENTS.items():
        moves = [
            f"{source} → {target}" if source is not target else f"{source}: stays"
            for (source, name), targets in TABLE.items()
            if name == event
            for target in sorted(targets)
        ]
        lines.append(f"| {event} | {meaning} | {'<br>'.join(moves)} |")
    return "\n".join((*lines, ""))


def main() -> int:
    if "--check" in sys.argv[1:]:
        current = PAGE.exists() and PAGE.read_text(encoding="utf-8") == draw()
        print(f"{PAGE}: {'as the table says' if current else 'stale: run python -m tools.draw_states'}")
        return 0 if current else 1
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(draw(), encoding="utf-8")
    print(f"wrote {PAGE}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
