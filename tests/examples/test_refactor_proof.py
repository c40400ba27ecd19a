"""The proofs of the demo fail when they should: a proof that cannot fail proves nothing."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path

from rich.console import Console

from examples.refactor.chaos import choose_kills
from examples.refactor.model import Applied, Change, Fate, Job, Judged, Report, TestRun, Verdict
from examples.refactor.proof import Witnessed, proofs
from examples.refactor.show import numbered
from examples.refactor.terminal import rendered
from examples.stage import executions
from examples.stage.chaos import Killer
from examples.stage.executions import Execution
from examples.stage.proof import Outcome, Proof, proven

RUN = TestRun("pytest", True, 3, {"t.py": 3}, {}, None, 2.0)
JOB = Job(repo="/repo", folder="/job", tree="/job/tree", python="p", tools="t")


def row(number: int, fate: Fate, before: str, after: str) -> Judged:
    return Judged(Change(number, f"R{number}", "a.py", 1), fate, "", Applied(before, after, 1, 1), {}, 3, 0.5)


ROWS = (row(1, "kept", "1", "2"), row(2, "rolled back", "2", "9"), row(3, "kept", "2", "3"))
STEPS = [
    *[
        ("prepare", None),
        ("apply", "R1:a.py"),
        ("verify", "R1:a.py"),
        ("apply", "R2:a.py"),
        ("verify", "R2:a.py"),
    ],
    *[("undo", "R2:a.py"), ("apply", "R3:a.py"), ("verify", "R3:a.py")],
]
TREE = {"a.py": "3", "b.py": "1"}
SOUND = Witnessed(
    report=Report(JOB, RUN, RUN, Verdict(True, "", {}), ROWS, TREE, ()),
    kills=2,
    wanted_kills=2,
    recorded=len(STEPS),
    outcomes=[Outcome(name, key, "ok") for name, key in STEPS],
    executions=[Execution(name, key, 1, 0.0) for name, key in [*STEPS, STEPS[2], STEPS[3]]],
    original={"a.py": "1", "b.py": "1"},
    untouched={"a.py": "1", "b.py": "1"},
    actual=TREE,
    replayed=TREE,
)


def failing(seen: Witnessed) -> list[str]:
    return [proof.claim for proof in proofs(seen) if not proof.holds]


def test_a_sound_run_is_proved() -> None:
    assert failing(SOUND) == []
    assert all(isinstance(proof, Proof) and proof.evidence for proof in proofs(SOUND))


def test_a_file_that_differs_from_the_record_is_found() -> None:
    assert "the tree equals the record, every byte of it" in failing(
        replace(SOUND, actual={**TREE, "b.py": "x"})
    )


def test_a_change_that_was_applied_twice_breaks_its_chain() -> None:
    twice = (ROWS[0], row(3, "kept", "1", "3"))
    assert failing(replace(SOUND, report=replace(SOUND.report, judged=twice))) == [
        "each accepted change was applied exactly once"
    ]


def test_a_rolled_back_change_that_left_something_breaks_its_chain() -> None:
    left = (ROWS[0], ROWS[1], row(3, "kept", "9", "3"))
    assert failing(replace(SOUND, report=replace(SOUND.report, judged=left))) == [
        "each accepted change was applied exactly once"
    ]


def test_an_outcome_recorded_twice_is_found() -> None:
    outcomes = [*SOUND.outcomes, SOUND.outcomes[2]]
    assert "nothing recorded was done again" in failing(
        replace(SOUND, outcomes=outcomes, recorded=len(outcomes))
    )


def test_more_repeats_than_kills_are_found() -> None:
    more = [*SOUND.executions, SOUND.executions[0]]
    assert failing(replace(SOUND, executions=more)) == ["nothing recorded was done again"]


def test_an_outcome_without_an_execution_is_found() -> None:
    assert failing(replace(SOUND, executions=SOUND.executions[:5])) == ["nothing recorded was done again"]


def test_a_tree_that_the_kills_changed_is_found() -> None:
    assert failing(replace(SOUND, replayed={**TREE, "a.py": "2"})) == ["the kills left no trace in the tree"]


def test_a_touched_original_is_found_unless_it_was_to_be_changed() -> None:
    touched = replace(SOUND, untouched={"a.py": "3", "b.py": "1"})
    assert failing(touched) == ["the codebase itself was not touched"]
    in_place = replace(SOUND.report, job=replace(JOB, tree=JOB.repo))
    assert failing(replace(touched, report=in_place)) == []


def test_a_kill_too_few_and_a_suite_that_falls_are_found() -> None:
    fallen = replace(SOUND.report, verdict=Verdict(False, "", {}))
    assert failing(replace(SOUND, kills=1, executions=SOUND.executions[:-1], report=fallen)) == [
        "the worker was killed, and the run is done",
        "the whole suite has no failure that the baseline lacks",
    ]


def test_kills_are_spread_and_the_seed_decides_them() -> None:
    kills = choose_kills(47, 3, tests_s=2.0, seed=7)
    assert kills == choose_kills(47, 3, tests_s=2.0, seed=7) != choose_kills(47, 3, tests_s=2.0, seed=8)
    assert [kill.step for kill in kills] == ["verify", "apply", "verify"]
    assert [kill.after for kill in kills] == sorted(kill.after for kill in kills)
    assert all(0 <= kill.delay_s <= 1.0 for kill in kills)


def test_every_kill_finds_its_moment_however_few_the_changes() -> None:
    kills = choose_kills(1, 3, tests_s=2.0, seed=1)
    assert [(kill.after, kill.step) for kill in kills] == [(1, "verify")] * 3


def test_the_moment_of_a_kill_is_when_its_step_begins(tmp_path: Path) -> None:
    log = tmp_path / "executions.jsonl"
    killer = Killer(log, choose_kills(10, 1, tests_s=2.0, seed=1))
    wanted = killer.kills[0].after
    assert not killer.moment_has_come()
    for number in range(1, wanted):
        executions.note(log, "apply", f"R{number}")
        executions.note(log, "verify", f"R{number}")
    assert not killer.moment_has_come()
    executions.note(log, "apply", "the one")
    assert not killer.moment_has_come()
    executions.note(log, "verify", "the one")
    assert killer.moment_has_come()
    assert numbered(executions.read(log)[-1], executions.read(log)).startswith(f"verify #{wanted} (")


def test_a_line_that_is_being_written_is_not_read(tmp_path: Path) -> None:
    log = tmp_path / "executions.jsonl"
    executions.note(log, "index")
    with log.open("a") as stream:
        stream.write('{"step": "app')
    assert [one.step for one in executions.read(log)] == ["index"]


def test_the_terminal_tells_what_was_rolled_back_and_why_and_what_is_not_proved() -> None:
    back = replace(ROWS[1], reason="1 new failure, [bold]t.py::new[/bold]: boom")
    report = replace(SOUND.report, judged=(ROWS[0], back, ROWS[2]))
    console = Console(width=140, file=StringIO(), record=True)
    console.print(rendered(report))
    console.print(proven(proofs(replace(SOUND, replayed={}))))
    text = console.export_text()
    assert "R2 · a.py" in text and "[bold]t.py::new[/bold]: boom" in text and "1 rolled back" in text
    assert "✗  the kills left no trace in the tree" in text
    assert "✓  the tree equals the record" in text
