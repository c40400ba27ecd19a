"""`make demo`: a real codebase is refactored by a worker that is killed again and again, and the result is proved.

Setup, then the run: a worker process executes the agent; this process only watches it through the shell's commands,
kills it with SIGKILL in the middle of work, and starts another. At the end the record is held against every witness.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from examples.refactor import fetch, files, proof, terminal
from examples.refactor.model import Report
from examples.refactor.proof import Witnessed
from examples.refactor.replay import undisturbed
from examples.refactor.show import Show, Stage
from examples.stage import executions
from examples.stage.chaos import Killer
from examples.stage.proof import Outcome, Proof, proven
from examples.stage.screen import Screen
from examples.stage.shell import ROOT, CommandFailed, Shell
from examples.stage.show import RUN, DemoFailed
from examples.stage.stores import WORDS, NoStore, moved, stored

PLAIN_WIDTH = 140  # where nothing says how wide a line may be
FOLDER = ROOT / ".demo"
RUN_FOLDER = FOLDER / "run"
AGENT = f"{Path(__file__).with_name('agent.py')}:refactor"
RULES = [
    "percent-format",
    "UP",
    "F",
    "C4",
    "SIM",
    "FURB",
    "PTH",
    "RUF",
]  # about 45 changes to Flask, 3 minutes


def set_stage(screen: Screen, codebase: Path | None, limit: int | None, store: str) -> Stage:
    """Fetch the codebase, or take the one that was given."""
    if codebase is None:
        fetched = fetch.fetch(FOLDER, screen.saying())
        repo, python, tools = fetched.codebase, fetched.python, fetched.python
    else:
        repo, tools = codebase.resolve(), Path(sys.executable)
        own = repo / ".venv" / "bin" / "python"
        python = own if own.exists() else tools
    screen.line("·", f"ready: {repo.name}, tests run with {python}")
    return Stage(repo, python, tools, Shell(store, AGENT), RUN_FOLDER / "job", limit)


def arguments_of(stage: Stage, chosen: list[str]) -> dict[str, object]:
    places = {"repo": stage.repo, "workspace": stage.workspace, "python": stage.python, "tools": stage.tools}
    return {**{name: str(path) for name, path in places.items()}, "rules": chosen, "limit": stage.limit}


def witness(stage: Stage, show: Show, report: Report, original: dict[str, str]) -> Witnessed:
    """Gather what the proofs rest on."""
    recorded = stage.shell.show(RUN)["steps"]
    assert isinstance(recorded, int)
    listed = stage.shell.steps(RUN)
    outcomes = [Outcome.of(one) for one in listed]
    return Witnessed(
        report=report,
        kills=len(show.killed),
        wanted_kills=show.kills_wanted,
        recorded=recorded,
        outcomes=outcomes,
        executions=executions.read(stage.log),
        original=original,
        untouched=files.hash_tree(stage.repo),
        actual=files.hash_tree(Path(report.job.tree)),
        replayed=undisturbed(report, stage.workspace.parent),
    )


def tell_end(screen: Screen, stage: Stage, report: Report, proved: list[Proof]) -> None:
    screen.heading("Report")
    screen.console.print(terminal.rendered(report))
    screen.heading("Proof")
    screen.console.print(proven(proved))
    screen.heading("Look around")
    for words in (f"show {RUN}", f"steps {RUN}", f"checkpoints {RUN}", f"watch {RUN}", f"logs {RUN}"):
        screen.console.print(Text(f"  .venv/bin/{stage.shell.words(*words.split())}"), soft_wrap=True)
    screen.console.print(Text(f"  diff -ru {near(stage.repo)} {near(Path(report.job.tree))}"), soft_wrap=True)
    screen.console.print(Text("  make demo WORKLOAD=report   # the other workload: a data-analysis report"))
    screen.console.print()
    screen.console.print(Text(f"The page: {report.job.page}", style="bold"), soft_wrap=True)


def near(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def perform(
    screen: Screen, stage: Stage, kills: int, seed: int, chosen: list[str]
) -> tuple[Report, list[Proof]]:
    """The run and its proofs."""
    original = files.hash_tree(stage.repo)
    screen.heading(f"Refactoring {stage.repo.name}: one change at a time, each judged by the tests")
    stage.shell.start(RUN, arguments_of(stage, chosen))
    crew = 2 if stage.shell.store.startswith("postgres") else 1  # a database is there for several
    show = Show(stage, screen, Killer(stage.log), crew, kills_wanted=kills, seed=seed)
    show.perform()
    ended = stage.shell.show(RUN)
    if ended["state"] != "succeeded":
        raise DemoFailed(why_ended(ended, stage))
    report = terminal.load(stage.workspace / "report.json")
    screen.line(
        "·", "done; proving it: hashing every file, applying the kept changes again without a disturbance"
    )
    return report, proof.proofs(witness(stage, show, report, original))


def why_ended(ended: dict[str, object], stage: Stage) -> str:
    error = ended["error"]
    said = error["message"] if isinstance(error, dict) else f"{stage.worker_log} has what the workers said"
    return f"the run is {ended['state']}: {said}"


def answer(stage: Stage, report: Report, proved: list[Proof], seed: int) -> str:
    """What `--json` prints."""
    counts = {fate: report.count(fate) for fate in ("kept", "rolled back", "unchanged", "refused")}
    proofs = [asdict(one) for one in proved]
    paths = {"page": str(report.job.page), "tree": report.job.tree, "store": stage.shell.store}
    return json.dumps({"seed": seed, "changes": counts, "proofs": proofs, **paths}, indent=2)


@click.command()
@click.option(
    "--kills",
    envvar="KILLS",
    type=click.IntRange(0, 50),
    default=3,
    show_default=True,
    help="How often the worker is killed.",
)
@click.option(
    "--codebase",
    envvar="CODEBASE",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Refactor this instead.",
)
@click.option(
    "--rules", "chosen", help="Rules, with commas between them. [default: a few of ruff's, and a custom one]"
)
@click.option("--limit", type=click.IntRange(1), help="Try only so many changes.")
@click.option(
    "--seed", envvar="SEED", type=int, help="Chooses the moments of the kills. [default: another each time]"
)
@click.option(
    "--store",
    envvar="STORE",
    default="sqlite",
    show_default=True,
    help=f"Where the run is stored: {WORDS}. On PostgreSQL with two workers.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="The proofs as JSON on stdout, everything else on stderr."
)
def main(
    kills: int,
    codebase: Path | None,
    chosen: str | None,
    limit: int | None,
    seed: int | None,
    store: str,
    as_json: bool,
) -> None:
    """Refactor a real codebase with a worker that gets killed, and prove that it made no difference."""
    console = Console(stderr=as_json, highlight=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    screen = Screen(console)
    seed = int.from_bytes(os.urandom(2), "big") if seed is None else seed
    shutil.rmtree(RUN_FOLDER, ignore_errors=True)  # of the last demo
    RUN_FOLDER.mkdir(parents=True)
    try:
        screen.heading("Setting up")
        with stored(store, RUN_FOLDER, screen) as address:
            stage = set_stage(screen, codebase, limit, address)
            screen.line("·", f"{kills} kills to come, at moments chosen by --seed {seed}")
            report, proved = perform(screen, stage, kills, seed, chosen.split(",") if chosen else RULES)
            if store == "postgres":
                stage = replace(stage, shell=moved(stage.shell, RUN, RUN_FOLDER, screen))
    except (fetch.SetupFailed, CommandFailed, DemoFailed, NoStore) as failure:
        screen.console.print(Text(f"demo: {failure}", style="bold red"), soft_wrap=True)
        sys.exit(1)
    tell_end(screen, stage, report, proved)
    if as_json:
        print(answer(stage, report, proved, seed))
    sys.exit(0 if all(one.holds for one in proved) else 1)


if __name__ == "__main__":
    main()
