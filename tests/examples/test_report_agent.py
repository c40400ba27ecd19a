"""The whole agent on small sources: what it finds, what it refuses, and that no crash leaves a trace in its page."""

from __future__ import annotations

import csv
import json
import sqlite3
import subprocess
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

import holdfast
from examples.report import agent, generate, steps, verify
from examples.report.model import Brief, Summary
from examples.stage import durable, executions
from holdfast.testing import Trial, simulate

BRIEF = msgspec.convert(generate.BRIEF, Brief)


def make_report(folder: Path, sources: list[str], brief: Brief | None = None, chunk_kb: int = 64) -> Summary:
    workspace = str(folder / "job")
    return holdfast.run(
        agent.report, sources, brief, workspace, 200, chunk_kb, store=f"sqlite:///{folder / 'holdfast.db'}"
    )


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Planted orders in four sources, and the finished report of them."""
    folder = tmp_path_factory.mktemp("orders")
    sources = generate.generate(folder / "sources", 6_000)
    make_report(folder, sources, BRIEF)
    return folder, sources


def test_it_finds_what_was_planted_and_plain_python_counts_the_same(orders: tuple[Path, list[str]]) -> None:
    folder, sources = orders
    report = verify.load(folder / "job")
    planted = json.loads((folder / "sources" / "truth.json").read_text())
    proofs = verify.proofs(folder / "job", sources, None)
    assert all(proof.holds for proof in proofs), proofs
    assert {one.reason: one.rows for one in report.dropped} == planted["dropped"]
    assert verify.cents(report.analysis.totals.total) == planted["cents"]
    assert report.analysis.outliers[0].rows == len(planted["outliers"])
    assert {source.format for source in report.sources} == {"csv", "parquet", "sqlite"}


def test_the_same_sources_give_the_same_bytes_whatever_the_stretches(
    orders: tuple[Path, list[str]], tmp_path: Path
) -> None:
    folder, sources = orders
    make_report(tmp_path, sources, BRIEF, chunk_kb=17)
    for name in ("report.html", "report.json", "dropped.csv"):
        assert durable.sha256_of(tmp_path / "job" / name) == durable.sha256_of(folder / "job" / name), name


def tampered(orders: tuple[Path, list[str]], tmp_path: Path, change: dict[str, object]) -> list[str]:
    """The claims that fall when the report says something else."""
    folder, sources = orders
    report = verify.load(folder / "job")
    for name in ("report.html", "dropped.csv"):
        (tmp_path / name).write_bytes((folder / "job" / name).read_bytes())
    (tmp_path / "report.json").write_bytes(msgspec.json.encode(replace(report, **change)))  # type: ignore[arg-type]
    return [
        proof.claim
        for proof in verify.proofs(tmp_path, sources, folder / "sources" / "truth.json")
        if not proof.holds
    ]


def test_verify_finds_a_row_too_many(orders: tuple[Path, list[str]], tmp_path: Path) -> None:
    kept = verify.load(orders[0] / "job").rows_kept
    fallen = tampered(orders, tmp_path, {"rows_kept": kept + 1})
    assert "every row is accounted for" in fallen and "it found what was planted" in fallen


def test_verify_finds_a_cent_too_many(orders: tuple[Path, list[str]], tmp_path: Path) -> None:
    analysis = verify.load(orders[0] / "job").analysis
    totals = replace(analysis.totals, total=analysis.totals.total + 0.01)
    fallen = tampered(orders, tmp_path, {"analysis": replace(analysis, totals=totals)})
    assert "totals, groups and periods add up" in fallen


def test_verify_finds_an_outlier_that_was_not_seen(orders: tuple[Path, list[str]], tmp_path: Path) -> None:
    analysis = verify.load(orders[0] / "job").analysis
    first = replace(analysis.outliers[0], rows=analysis.outliers[0].rows - 1)
    fallen = tampered(
        orders, tmp_path, {"analysis": replace(analysis, outliers=(first, *analysis.outliers[1:]))}
    )
    assert "outliers, trend and columns are as counted" in fallen


def test_verify_finds_another_source(orders: tuple[Path, list[str]], tmp_path: Path) -> None:
    sources = verify.load(orders[0] / "job").sources
    changed = (replace(sources[0], digest="0" * 64), *sources[1:])
    assert "the sources are those that were read" in tampered(orders, tmp_path, {"sources": changed})


def test_the_history_of_a_repository_is_a_source(tmp_path: Path) -> None:
    repository = tmp_path / "kelp"
    git = ["git", "-c", "user.name=Søren", "-c", "user.email=s@kelp.example", "-C", str(repository)]
    subprocess.run(["git", "init", "-q", str(repository)], check=True)
    for number in range(14):
        (repository / f"{'src' if number % 2 else 'docs'}").mkdir(exist_ok=True)
        (repository / f"{'src' if number % 2 else 'docs'}" / f"ä {number}.txt").write_text(
            "line\n" * (number + 1)
        )
        subprocess.run([*git, "add", "."], check=True)
        when = {
            "GIT_AUTHOR_DATE": f"2024-03-{number + 1:02d}T10:00:00+02:00",
            "GIT_COMMITTER_DATE": "2024-04-01T00:00:00Z",
        }
        subprocess.run([*git, "commit", "-qm", str(number)], check=True, env=when)
    source = f"git:{repository}"
    make_report(tmp_path, [source], Brief(key=("commit", "file"), measures=("lines",)), chunk_kb=2)
    report = verify.load(tmp_path / "job")
    assert report.rows_kept == 14 and report.analysis.totals.total == sum(range(1, 15))
    assert report.analysis.totals.first == "2024-03-01 08:00:00"  # in UTC
    assert all(proof.holds for proof in verify.proofs(tmp_path / "job", [source], None))


def test_a_report_needs_no_brief_and_no_measure(tmp_path: Path) -> None:
    path = tmp_path / "visits.csv"
    path.write_text("Page;Visitor ID\n" + "".join(f"{'home' if n % 3 else 'help'};{n}\n" for n in range(60)))
    summary = make_report(tmp_path, [str(path)])
    report = verify.load(tmp_path / "job")
    assert (report.schema.measures, report.schema.by, report.rows_kept) == ((), ("page",), 60)
    assert summary.title == "visits.csv" and summary.findings[0] == "60 rows."
    assert all(proof.holds for proof in verify.proofs(tmp_path / "job", [str(path)], None))


@pytest.mark.parametrize(
    ("named", "brief", "says"),
    [
        ("nowhere.csv", None, "there is no source at"),
        ("notes.pdf", None, "is none of .csv"),
        ("shop.db", None, "name one: shop.db::TABLE"),
        ("shop.db::nothing", None, "has no table nothing"),
        ("git:.", None, "git cannot read the history"),
        ("empty.csv", None, "no rows with anything in them"),
        ("good.csv", Brief(time="moment"), "the brief names the column moment; the sources have a, b"),
    ],
)
def test_what_cannot_be_reported_fails_the_run_with_a_reason(
    tmp_path: Path, named: str, brief: Brief | None, says: str
) -> None:
    for name, text in {"notes.pdf": "x", "empty.csv": "a,b\n", "good.csv": "a,b\n1,2\n"}.items():
        (tmp_path / name).write_text(text)
    with sqlite3.connect(tmp_path / "shop.db") as db:
        db.executescript("CREATE TABLE one (a); CREATE TABLE two (a);")
    db.close()
    place = f"git:{tmp_path}" if named.startswith("git:") else str(tmp_path / named)
    with pytest.raises(holdfast.RunFailed, match=says):
        make_report(tmp_path, [place], brief)


def test_sources_without_a_common_column_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\n1\n")
    (tmp_path / "b.csv").write_text("b\n1\n")
    with pytest.raises(holdfast.RunFailed, match=r"no column in common.*a\.csv: a; b\.csv: b"):
        make_report(tmp_path, [str(tmp_path / "a.csv"), str(tmp_path / "b.csv")])


def test_a_workspace_belongs_to_one_run(orders: tuple[Path, list[str]], tmp_path: Path) -> None:
    folder, sources = orders
    with pytest.raises(holdfast.RunFailed, match="belongs to the run"):
        holdfast.run(
            agent.report, sources, BRIEF, str(folder / "job"), store=f"sqlite:///{tmp_path / 'x.db'}"
        )


def small_source(folder: Path) -> str:
    path = folder / "sales.csv"
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["day", "shop", "amount"])
        for number in range(60):
            writer.writerow(
                [f"2024-01-{1 + number // 3:02d}", ("north", "south", "North ")[number % 3], number % 7 + 1]
            )
        writer.writerow(["2024-01-20", "south", "none"])
    return str(path)


def one_run(folder: Path, source: str, plan: str = "") -> tuple[Trial[Summary], dict[str, str]]:
    """A run in virtual time that crashes by plan, and is finished; and the hash of what it wrote."""
    wanted = Brief(measures=("amount",), by=("shop",), time="day")
    trial = simulate(agent.report, [source], wanted, str(folder), 128, 1, plan=plan)
    names = ("report.html", "report.json", "dropped.csv")
    return trial, {name: durable.sha256_of(folder / name) for name in names}


def test_what_is_finished_is_not_written_again(tmp_path: Path) -> None:
    """A crash behind the last checkpoint, before the run's end is durable."""
    source = small_source(tmp_path)
    commits = one_run(tmp_path / "undisturbed", source)[0].commits
    for plan in (f"{commits - 1}+", f"{commits}-"):
        one_run(tmp_path / plan, source, plan)
        entered = executions.read(tmp_path / plan / "executions.jsonl")
        assert [one.step for one in entered].count("write") == 1, plan


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("side", "every"), [("-", 1), ("+", 3)])
def test_a_crash_at_every_commit_leaves_the_same_bytes(tmp_path: Path, side: str, every: int) -> None:
    source = small_source(tmp_path)
    model, undisturbed = one_run(tmp_path / "undisturbed", source)
    bodies = len(executions.read(tmp_path / "undisturbed" / "executions.jsonl"))
    assert model.commits > bodies > 15 and model.run.attempts == 1
    for at in range(1, model.commits, every):
        trial, hashes = one_run(tmp_path / f"crash-{at}", source, f"{at}{side}")
        assert hashes == undisturbed, at
        assert trial.run.attempts == 2, at
        recorded = [(step.name, step.key, step.scope, step.segment) for step in trial.steps]
        assert len(set(recorded)) == len(recorded), at
        entered = executions.read(tmp_path / f"crash-{at}" / "executions.jsonl")
        assert len(entered) - bodies <= steps.CLEANED_AT_ONCE, at
