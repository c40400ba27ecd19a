"""The proofs of the demo of misbehaving runs fail when they should, and the demo itself holds."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from examples.misbehave import agent
from examples.misbehave.proof import RUNGS, Witnessed, proofs
from examples.stage.executions import Execution
from examples.stage.shell import ROOT

PARKED_AT = 100.0
SCANNED = [
    Execution("scan", str(page), 1 if page < 70 else 2, PARKED_AT - 70 + page + (1 if page >= 70 else 0))
    for page in range(agent.PAGES)
]
SOUND = Witnessed(
    rungs=RUNGS,
    held_for={"hoarder": "parked", "spender": "budget", "repeater": "loop"},
    ended={"hoarder": "succeeded", "spinner": "succeeded", "spender": "succeeded", "repeater": "cancelled"},
    scanned=SCANNED,
    parked_at=PARKED_AT,
    cores=agent.CORES,
    measured_s=10.0,
    chapters_before=2,
    chapters=[Execution("write_chapter", str(chapter), 3, 0.0) for chapter in range(agent.CHAPTERS)],
    used_usd=agent.CHAPTERS * agent.PRICE_USD,
    nudged_after=[3],
    searches=[Execution("search", None, 3, 0.0)] * 6,
    left=[],
)
GOES_ON = "resumed, it went on with an empty memory, and did nothing twice"
PAID = "with a greater budget it went on, and nothing was paid twice"


def failing(seen: Witnessed) -> list[str]:
    return [proof.claim for proof in proofs(seen) if not proof.holds]


def test_sound_runs_are_proved() -> None:
    assert failing(SOUND) == []


@pytest.mark.parametrize(
    ("broken", "claim"),
    [
        ({"rungs": RUNGS[:3]}, "the hoarder was throttled rung by rung, and parked"),
        ({"scanned": [*SCANNED, SCANNED[-1]]}, GOES_ON),
        ({"scanned": [replace(one, pid=1) for one in SCANNED]}, GOES_ON),
        ({"cores": agent.CORES * 1.11}, "the spinner got the CPU of its limit, and no more"),
        ({"cores": 0.0}, "the spinner got the CPU of its limit, and no more"),
        ({"chapters_before": 3}, "the spender stopped before its budget was exceeded"),
        ({"chapters": [*SOUND.chapters, SOUND.chapters[0]]}, PAID),
        ({"used_usd": 2.4}, PAID),
        ({"nudged_after": [3, 4]}, "the repeater was told, then stopped"),
        ({"searches": SOUND.searches[:5]}, "the repeater was told, then stopped"),
        ({"left": [1]}, "nothing that they started outlived them"),
    ],
)
def test_what_did_not_hold_is_found(broken: dict[str, Any], claim: str) -> None:
    assert failing(replace(SOUND, **broken)) == [claim]


@pytest.mark.timeout(420)
def test_runs_that_misbehave_are_throttled_parked_and_resumed() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "examples.misbehave.demo", "--json"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=400,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert len(json.loads(ran.stdout)["proofs"]) == 7
