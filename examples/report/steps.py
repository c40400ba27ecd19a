"""What the agent does to the world: one function a step. Each notes its execution first, and may safely run again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from examples.report import analyse, findings, page, schema, writer
from examples.report import clean as cleaning
from examples.report import collect as collecting
from examples.report import sources as reading
from examples.report.model import (
    Answer,
    Breakdown,
    Brief,
    Cleaned,
    Column,
    Cursor,
    Job,
    Outliers,
    Part,
    Profile,
    Prose,
    Relation,
    Report,
    Reporting,
    Rhythm,
    Schema,
    Source,
    Summary,
    Totals,
    Trends,
)
from examples.stage import durable, executions, language_model
from holdfast import FatalError, step_context

CLEANED_AT_ONCE = 2  # parts; they share the memory


def prepare(
    names: list[str], brief: Brief, workspace: str | None, memory_mb: int, chunk_kb: int, run_id: str
) -> Job:
    """Decide where to work, and make sure that nobody else does."""
    if not names:
        raise FatalError("a report needs sources: orders.csv, orders.parquet, shop.db::orders, git:PATH")
    language_model.configured(os.environ)  # what is wrong with it is better known now than at the end
    folder = Path(workspace or f"report-{run_id}").expanduser().resolve()
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / "run"
    owner = mark.read_text() if mark.exists() else run_id
    if owner != run_id:
        raise FatalError(f"the workspace {folder} belongs to the run {owner}; name another, or remove it")
    durable.write(mark, run_id.encode())
    job = Job(str(folder), brief, memory_mb, chunk_kb * 1024)
    executions.note(job.execution_log, "prepare", "prepare")
    job.parts.mkdir(exist_ok=True)
    durable.sync(folder.parent)
    return job


def inspect(job: Job, number: int, name: str) -> Source:
    """Find a source, its columns, and the hash of its bytes."""
    executions.note(job.execution_log, "inspect", f"inspect {number}")
    try:
        return reading.inspect(number, name)
    except reading.Unreadable as error:
        raise FatalError(str(error)) from error


def collect(job: Job, source: Source, cursor: Cursor | None) -> Part:
    """Read on from the cursor."""
    executions.note(job.execution_log, "collect", f"collect {source.number}@{cursor.line if cursor else 0}")
    try:
        return collecting.collect(job, source, cursor)
    except reading.Unreadable as error:
        raise FatalError(str(error)) from error


def decide(job: Job, found: list[Source], parts: list[Part]) -> Schema:
    """What the columns are taken for."""
    executions.note(job.execution_log, "schema", "schema")
    try:
        return schema.decide(job.brief, found, parts)
    except schema.NoReport as error:
        raise FatalError(str(error)) from error


def clean(job: Job, columns: Schema, part: Part) -> Cleaned:
    """Type one part, and drop what cannot be."""
    executions.note(job.execution_log, "clean", f"clean {part.id}")
    return cleaning.clean(job, columns, part, job.memory_mb // CLEANED_AT_ONCE)


def unique(job: Job, columns: Schema, cleaned: list[Cleaned], bucket: int, buckets: int) -> Cleaned:
    """Drop the duplicates of one bucket."""
    executions.note(job.execution_log, "unique", f"unique {bucket}")
    return cleaning.unique(job, columns, cleaned, bucket, buckets)


def find_outliers(job: Job, columns: Schema, rows: list[Cleaned], measure: str) -> Outliers:
    executions.note(job.execution_log, "outliers", f"outliers {measure}")
    return analyse.find_outliers(job, columns, rows, measure)


def total(job: Job, columns: Schema, rows: list[Cleaned], outliers: Outliers | None) -> Totals:
    executions.note(job.execution_log, "totals", "totals")
    return analyse.totals(job, columns, rows, outliers)


def profile(job: Job, rows: list[Cleaned], column: Column) -> Profile:
    executions.note(job.execution_log, "profile", f"profile {column.name}")
    return analyse.profile(job, rows, column)


def trends(job: Job, columns: Schema, rows: list[Cleaned], outliers: Outliers | None) -> Trends | None:
    executions.note(job.execution_log, "trends", "trends")
    return analyse.trends(job, columns, rows, outliers)


def breakdown(
    job: Job, columns: Schema, rows: list[Cleaned], outliers: Outliers | None, by: str
) -> Breakdown:
    executions.note(job.execution_log, "breakdown", f"breakdown {by}")
    return analyse.breakdown(job, columns, rows, outliers, by)


def rhythm(job: Job, columns: Schema, rows: list[Cleaned], outliers: Outliers | None) -> Rhythm | None:
    executions.note(job.execution_log, "rhythm", "rhythm")
    return analyse.rhythm(job, columns, rows, outliers)


def relations(
    job: Job, columns: Schema, rows: list[Cleaned], outliers: Outliers | None
) -> tuple[Relation, ...]:
    executions.note(job.execution_log, "relations", "relations")
    return analyse.relations(job, columns, rows, outliers)


def ask_for_words(job: Job, facts: str) -> Answer:
    """What the model that the environment names makes of the findings; nobody is asked where it names none."""
    executions.note(job.execution_log, "ask_for_words", "words")
    model = language_model.configured(os.environ)
    if model is None:
        return Answer()
    said = language_model.ask(model, writer.TASK, facts, step_context.idempotency_key)
    return Answer(model.name, said)


def write(job: Job, found: list[Source], state: Reporting) -> Summary:
    """Write the page, `report.json` for programs, and the list of what was dropped."""
    executions.note(job.execution_log, "write", "write")
    report = assembled(job.brief, found, state)
    target = job.dropped.with_name(".dropped.csv.new")
    analyse.dropped_rows(job, [*state.cleaned, *state.rows], [source.name for source in found], target)
    durable.sync(target)
    target.replace(job.dropped)
    durable.write(job.report, msgspec.json.encode(report))
    text = page.page(report).encode()
    durable.write(job.page, text)
    sweep(job, state)
    return Summary(
        title=findings.title(report),
        summary="\n\n".join(report.summary.paragraphs),
        findings=tuple(one.text for one in findings.findings(report)),
        rows_read=report.rows_read,
        rows_kept=report.rows_kept,
        page=str(job.page),
        page_sha256=durable.sha256(text),
    )


def assembled(brief: Brief, found: Sequence[Source], state: Reporting) -> Report:
    """All that is known, as one value without a path or a time of day in it."""
    assert state.schema is not None and state.analysis is not None
    kept: dict[int, int] = {}
    for bucket in state.rows:
        for number, rows in bucket.kept_by_source.items():
            kept[number] = kept.get(number, 0) + rows
    read = [sum(part.rows for part in state.parts if part.source == source.number) for source in found]
    everything = [*state.cleaned, *state.rows]
    return Report(
        brief=brief,
        sources=tuple(replace(one, path="", modified_ns=0) for one in found),
        schema=state.schema,
        rows_read=sum(read),
        rows_kept=sum(kept.values()),
        recoded=sum(part.recoded for part in state.parts),
        read_by_source=tuple(read),
        kept_by_source=tuple(kept.get(source.number, 0) for source in found),
        dropped=cleaning.added_reasons(everything),
        repairs=cleaning.added_repairs(state.cleaned),
        analysis=state.analysis,
        summary=state.summary or Prose(()),
    )


def sweep(job: Job, state: Reporting) -> None:
    """Remove what kills have left: scratch folders, and parts that no record names."""
    named = {part.file for part in state.parts}
    for one in [*state.cleaned, *state.rows]:
        named |= {one.file, one.dropped_file}
    for path in job.parts.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name not in named:
            path.unlink()
