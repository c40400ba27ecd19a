"""`make demo WORKLOAD=report`: a data-analysis report, made undisturbed, made again under SIGKILLs, and proved.

The kills fall anywhere in the work, by chance. At the end both reports must be the same, byte for byte, and `verify`
counts everything again in plain Python, against the sources and against what was planted in them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.text import Text

from examples.report import findings, generate, page, verify
from examples.report.chaos import choose_kills
from examples.report.model import Report
from examples.report.proof import Witnessed, proofs
from examples.stage import durable, executions, language_model
from examples.stage.chaos import Killer
from examples.stage.executions import Execution
from examples.stage.proof import Outcome, Proof, proven
from examples.stage.screen import Screen
from examples.stage.shell import ROOT, CommandFailed, Shell
from examples.stage.show import RUN, DemoFailed, Show

AGENT = f"{Path(__file__).with_name('agent.py')}:report"
FOLDER = ROOT / ".demo" / "report"
PLAIN_WIDTH = 140  # where nothing says how wide a line may be
ROWS = 200_000
LEAST_ROWS = 50_000  # with fewer, the planted fall of one region drowns in the noise of its weeks
STRETCHES = 16  # in how many steps all sources are collected, about: a kill has to find a phase at work
LEAST_KB, MOST_KB = 64, 8_192


@dataclass(frozen=True, slots=True)
class Stage:
    """One run: its store, its workspace, and what its workers said."""

    folder: Path

    @property
    def shell(self) -> Shell:
        return Shell(str(self.folder / "holdfast.db"), AGENT)

    @property
    def workspace(self) -> Path:
        return self.folder / "job"

    @property
    def log(self) -> Path:
        return self.workspace / "executions.jsonl"

    @property
    def worker_log(self) -> Path:
        return self.folder / "workers.log"


@dataclass(frozen=True, slots=True)
class Task:
    """What the report is of."""

    sources: tuple[str, ...]
    brief: dict[str, object]
    truth: Path | None
    memory_mb: int

    def arguments(self, stage: Stage) -> dict[str, object]:
        return {
            "sources": list(self.sources),
            "brief": self.brief,
            "workspace": str(stage.workspace),
            "memory_mb": self.memory_mb,
            "chunk_kb": chunk_kb(self.sources),
        }


def chunk_kb(sources: tuple[str, ...]) -> int:
    paths = [Path(named.partition("::")[0]) for named in sources]
    size = sum(path.stat().st_size for path in paths if path.is_file())
    return max(LEAST_KB, min(MOST_KB, size // 1024 // STRETCHES))


class ReportShow(Show):
    """The run while it goes on; the key of an execution says which it is."""

    def called(self, execution: Execution, entered: Sequence[Execution]) -> str:
        """An execution in words."""
        return execution.key or execution.step


def fresh(name: str) -> Stage:
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return Stage(folder)


def set_stage(screen: Screen, rows: int, sources: tuple[str, ...], memory_mb: int) -> Task:
    """The sources that were given, or some that are made with planted defects."""
    screen.heading("Setting up")
    if sources:
        return Task(tuple(absolute(named) for named in sources), {}, None, memory_mb)
    data = FOLDER / "data"
    mark = data / "made"
    recipe = durable.sha256(Path(generate.__file__).read_bytes()) + f" {rows}"
    if not mark.exists() or mark.read_text().partition("\n")[0] != recipe:
        screen.line("·", f"writing {rows:,} orders with planted defects into four sources")
        shutil.rmtree(data, ignore_errors=True)
        named = generate.generate(data, rows)
        mark.write_text("\n".join([recipe, *named]))
    named = mark.read_text().splitlines()[1:]
    size = sum(Path(one.partition("::")[0]).stat().st_size for one in named)
    files = ", ".join(Path(one).name for one in named)
    screen.line("·", f"ready: {files}: {size / 1e6:.0f} MB; DuckDB may hold {memory_mb} MB")
    return Task(tuple(named), generate.BRIEF, data / "truth.json", memory_mb)


def absolute(named: str) -> str:
    """A source from wherever the worker stands."""
    if named.startswith("git:"):
        return f"git:{Path(named.removeprefix('git:')).resolve()}"
    path, mark, table = named.partition("::")
    return f"{Path(path).resolve()}{mark}{table}"


def undisturbed(screen: Screen, task: Task, name: str) -> tuple[Stage, float]:
    """One run that nobody kills, by one worker; when it ended."""
    stage = fresh(name)
    stage.shell.start(RUN, task.arguments(stage))
    began = time.time()
    worker = stage.shell.worker(stage.worker_log)
    _, status, used = os.wait4(worker.pid, 0)
    worker.returncode = os.waitstatus_to_exitcode(status)
    must_succeed(stage)
    took, steps = time.time() - began, len(executions.read(stage.log))
    peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    screen.line(
        "·", f"{steps} steps in {took:.1f} s; the worker held {peak / 1e6:.0f} MB at most, Python and all"
    )
    screen.line("·", f"report.html is {durable.sha256_of(stage.workspace / 'report.html')}")
    return stage, (stage.workspace / "report.html").stat().st_mtime


def must_succeed(stage: Stage) -> None:
    ended = stage.shell.show(RUN)
    if ended["state"] != "succeeded":
        error = ended["error"]
        said = (
            error["message"] if isinstance(error, dict) else f"{stage.worker_log} has what the workers said"
        )
        raise DemoFailed(f"the run is {ended['state']}: {said}")


def killed(
    screen: Screen, task: Task, first: Stage, end: float, kills: int, seed: int
) -> tuple[Stage, int, int]:
    """The same once more, with kills at random moments; how many there were, and how many there should have been."""
    stage = fresh("killed")
    stage.shell.start(RUN, task.arguments(stage))
    plan = choose_kills(executions.read(first.log), end, kills, seed)
    show = ReportShow(stage, screen, Killer(stage.log, list(plan)))
    show.perform()
    must_succeed(stage)
    return stage, len(show.killed), len(plan)


def witness(task: Task, first: Stage, second: Stage, kills: int, wanted: int) -> Witnessed:
    """Gather what the proofs rest on."""
    shown = second.shell.show(RUN)
    recorded = shown["steps"]
    assert isinstance(recorded, int)
    checkpoints = json.loads(second.shell.say("checkpoints", RUN, "--json"))
    before, after = hashes_of(first, second), hashes_of(second, second)
    return Witnessed(
        kills=kills,
        wanted_kills=wanted,
        recorded=recorded,
        outcomes=[Outcome.of(one) for one in second.shell.steps(RUN)],
        executions=executions.read(second.log),
        checkpoints=[str(one["name"]) for one in checkpoints if one["name"]],
        pages=(before[0], after[0]),
        reports=(before[1], after[1]),
        dropped=(before[2], after[2]),
        checked=checked(second, task),
        model=model.name if (model := language_model.configured(os.environ)) else "",
    )


def hashes_of(stage: Stage, other: Stage) -> tuple[str, str, str]:
    """sha256 of the page, the report and the list of dropped rows.

    A model words the summary anew in each run. So where there is one, this is the hash of the page and the report that
    this run's figures make with the other's words.
    """
    dropped = durable.sha256_of(stage.workspace / "dropped.csv")
    if stage is other or language_model.configured(os.environ) is None:
        return (
            durable.sha256_of(stage.workspace / "report.html"),
            durable.sha256_of(stage.workspace / "report.json"),
            dropped,
        )
    report = replace(verify.load(stage.workspace), summary=verify.load(other.workspace).summary)
    return (
        durable.sha256(page.page(report).encode()),
        durable.sha256(msgspec.json.encode(report)),
        dropped,
    )


def checked(stage: Stage, task: Task) -> list[Proof]:
    """What `verify` says of a report, in a process of its own: it needs more memory than the agent."""
    truth = ["--truth", str(task.truth)] if task.truth else []
    command = [sys.executable, "-m", "examples.report.verify", "--json", str(stage.workspace)]
    ran = subprocess.run(
        [*command, *task.sources, *truth],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    try:
        return msgspec.json.decode(ran.stdout, type=list[Proof])
    except msgspec.DecodeError as error:
        said = ran.stderr.decode(errors="replace").strip()
        raise DemoFailed(f"verify left with {ran.returncode}: {said[-2000:]}") from error


def real_source(screen: Screen, memory_mb: int) -> tuple[Stage, list[Proof]] | None:
    """A report of the history of this repository, where there is one, and what `verify` says of it."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        return None
    screen.heading("A real source: the git log of this repository")
    brief: dict[str, object] = {
        "title": "How holdfast was made",
        "key": ["commit", "file"],
        "measures": ["lines"],
    }
    task = Task((f"git:{ROOT}",), brief, None, memory_mb)
    stage, _ = undisturbed(screen, task, "git")
    screen.line("·", "done; proving it: git is asked again, and every line counted in plain Python")
    return stage, checked(stage, task)


def tell_end(
    screen: Screen, last: Stage, proved: list[Proof], other: tuple[Stage, list[Proof]] | None
) -> None:
    screen.heading("What the report says")
    for one in findings.findings(verify.load(last.workspace)):
        screen.console.print(Text.assemble(("  " + one.head, "bold"), f"  {one.text}"), soft_wrap=True)
    screen.heading("Proof")
    screen.console.print(proven(proved))
    if other:
        screen.heading("Proof of the report of the git log")
        screen.console.print(proven(other[1]))
    screen.heading("Look around")
    for told in (f"show {RUN}", f"steps {RUN}", f"checkpoints {RUN}", f"watch {RUN}"):
        screen.console.print(Text(f"  .venv/bin/{last.shell.words(*told.split())}"), soft_wrap=True)
    screen.console.print(
        Text("  make demo WORKLOAD=refactor   # the other workload: a codebase is refactored")
    )
    screen.console.print()
    for stage in [last, *([other[0]] if other else [])]:
        screen.console.print(
            Text(f"The page: {stage.workspace / 'report.html'}", style="bold"), soft_wrap=True
        )


def answer(stage: Stage, report: Report, proved: list[Proof], seed: int) -> str:
    """What `--json` prints."""
    rows = {"read": report.rows_read, "kept": report.rows_kept}
    said = {
        "seed": seed,
        "rows": rows,
        "proofs": [asdict(one) for one in proved],
        "page": str(stage.workspace / "report.html"),
    }
    return msgspec.json.format(msgspec.json.encode(said), indent=2).decode()


@click.command()
@click.option(
    "--kills", envvar="KILLS", type=click.IntRange(0, 200), default=15, show_default=True, help="SIGKILLs."
)
@click.option(
    "--rows", envvar="ROWS", type=click.IntRange(LEAST_ROWS), default=ROWS, show_default=True, help="Orders."
)
@click.option(
    "--memory-mb",
    envvar="MEMORY_MB",
    type=click.IntRange(64),
    default=200,
    show_default=True,
    help="DuckDB's limit.",
)
@click.option(
    "--source",
    "sources",
    multiple=True,
    help="Report on this instead: x.csv, x.parquet, x.db::TABLE, git:PATH.",
)
@click.option(
    "--seed", envvar="SEED", type=int, help="Chooses the moments of the kills. [default: another each time]"
)
@click.option(
    "--json", "as_json", is_flag=True, help="The proofs as JSON on stdout, everything else on stderr."
)
def main(
    kills: int, rows: int, memory_mb: int, sources: tuple[str, ...], seed: int | None, as_json: bool
) -> None:
    """Make a report with a worker that gets killed, and prove that it made no difference."""
    console = Console(stderr=as_json, highlight=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    screen = Screen(console)
    seed = int.from_bytes(os.urandom(2), "big") if seed is None else seed
    try:
        task = set_stage(screen, rows, sources, memory_mb)
        screen.heading("Undisturbed")
        first, end = undisturbed(screen, task, "undisturbed")
        screen.heading(f"The same, killed {kills} times at random moments (--seed {seed})")
        second, count, wanted = killed(screen, task, first, end, kills, seed)
        screen.line("·", "done; proving it: every row is counted again in plain Python")
        proved = proofs(witness(task, first, second, count, wanted))
        other = None if sources else real_source(screen, memory_mb)
    except (CommandFailed, DemoFailed) as failure:
        screen.console.print(Text(f"demo: {failure}", style="bold red"), soft_wrap=True)
        sys.exit(1)
    tell_end(screen, second, proved, other)
    if as_json:
        print(answer(second, verify.load(second.workspace), proved, seed))
    sys.exit(0 if all(one.holds for one in [*proved, *(other[1] if other else [])]) else 1)


if __name__ == "__main__":
    main()
