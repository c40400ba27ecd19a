"""The proofs of the demo fail when they should, and the demo itself holds with real kills."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from examples.report import demo, generate
from examples.report.chaos import choose_kills
from examples.report.proof import CHECKPOINTS, Witnessed, proofs
from examples.stage.executions import Execution
from examples.stage.proof import Outcome, Proof

NAMES = ("prepare", "collect 0@0", "collect 0@9", "clean 0@0", "write")
SOUND = Witnessed(
    kills=2,
    wanted_kills=2,
    recorded=len(NAMES),
    outcomes=[Outcome(name, name, "ok") for name in NAMES],
    executions=[
        Execution(name.split()[0], name, 1, float(at)) for at, name in enumerate((*NAMES, "write", "write"))
    ],
    checkpoints=CHECKPOINTS,
    pages=("a", "a"),
    reports=("b", "b"),
    dropped=("c", "c"),
    checked=[Proof("counted", True, "")],
)


def failing(seen: Witnessed) -> list[str]:
    return [proof.claim for proof in proofs(seen) if not proof.holds]


def test_a_sound_run_is_proved() -> None:
    assert failing(SOUND) == []


@pytest.mark.parametrize("name", ["pages", "reports", "dropped"])
def test_other_bytes_are_found(name: str) -> None:
    assert failing(replace(SOUND, **{name: ("a", "z")})) == [
        "the kills left no trace: the same bytes as undisturbed"
    ]


def test_it_is_said_that_a_model_s_words_are_not_compared() -> None:
    told = {one.claim: one.evidence for one in proofs(replace(SOUND, model="kelp-1"))}
    same = "the kills left no trace: the same bytes as undisturbed"
    assert told[same].endswith("with the same words of kelp-1 in both")
    assert "words" not in {one.claim: one.evidence for one in proofs(SOUND)}[same]


def test_a_phase_without_its_checkpoint_is_found() -> None:
    assert failing(replace(SOUND, checkpoints=CHECKPOINTS[:3])) == ["each phase left its checkpoint"]
    assert failing(replace(SOUND, checkpoints=(*CHECKPOINTS, "data_cleaned"))) == [
        "each phase left its checkpoint"
    ]


def test_repeats_without_kills_and_outcomes_recorded_twice_are_found() -> None:
    assert failing(replace(SOUND, kills=0, wanted_kills=0)) == ["nothing recorded was done again"]
    twice = [*SOUND.outcomes, SOUND.outcomes[1]]
    assert failing(replace(SOUND, outcomes=twice, recorded=len(twice))) == ["nothing recorded was done again"]


def test_a_kill_too_few_and_a_check_that_fails_are_found() -> None:
    seen = replace(SOUND, wanted_kills=3, checked=[Proof("counted", False, "")])
    assert failing(seen) == ["the worker was killed, and the run is done", "counted"]


def test_kills_fall_within_the_time_that_a_step_took_and_never_twice_in_one() -> None:
    entered = [Execution("s", str(n), 1, 10.0 + n) for n in range(40)]
    kills = choose_kills(entered, 50.0, 15, seed=4)
    assert kills == choose_kills(entered, 50.0, 15, seed=4) != choose_kills(entered, 50.0, 15, seed=5)
    assert len({kill.after for kill in kills}) == 15 and kills == sorted(kills, key=lambda kill: kill.after)
    assert all(2 <= kill.after <= 40 and 0 <= kill.delay_s <= 1.0 for kill in kills)
    assert len(choose_kills(entered[:3], 13.0, 15, seed=1)) == 2


@pytest.mark.timeout(240)  # two runs, eight processes
def test_real_workers_killed_at_random_moments_leave_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "FOLDER", tmp_path)
    named = [word for one in generate.generate(tmp_path / "data", 4_000) for word in ("--source", one)]
    ran = CliRunner().invoke(demo.main, [*named, "--kills", "4", "--seed", "11", "--json"])
    fallen = [proof for proof in json.loads(ran.stdout)["proofs"] if not proof["holds"]]
    assert not fallen and ran.exit_code == 0, ran.output
    assert (tmp_path / "killed" / "job" / "report.html").read_bytes() == (
        tmp_path / "undisturbed" / "job" / "report.html"
    ).read_bytes()
