"""The agent: collect → clean → analyse → write, each phase with its named checkpoint, and resumable inside it.

    holdfast run examples/report/agent.py:report --input '{"sources": ["orders.csv", "shop.db::orders"]}'

Kill it at any moment and start it again: it continues with the stretch of the source, the part or the question it was
at. What was recorded is not done again, and the page that it writes is the same, byte for byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from examples.report import schema as columns
from examples.report import steps, writer
from examples.report.model import (
    Analysis,
    Brief,
    Cleaned,
    Job,
    Prose,
    Report,
    Reporting,
    Schema,
    Source,
    Summary,
)
from holdfast import Context, Every, RetryPolicy, StepFailed, agent

ASKING = RetryPolicy(attempts=5)  # a model is busy, slow and odd at times
BATCH = 8  # parts in one map: between two of them is a safe point


@agent(retry=RetryPolicy(attempts=3), checkpoint=Every("5s", steps=25), keep=100)
async def report(
    ctx: Context,
    sources: list[str],
    brief: Brief | None = None,
    workspace: str | None = None,
    memory_mb: int = 200,
    chunk_kb: int = 8192,
) -> Summary:
    """Make a report of the sources (`x.csv`, `x.parquet`, `x.db::TABLE`, `git:PATH`); return where it is.

    brief: what it is to be about; without one the columns decide. workspace: where everything goes (a new folder).
    memory_mb: what DuckDB may hold; more data goes to the disk. chunk_kb: about so much of a source in one step.
    """
    ctx.progress(0, None, "finding the sources", phase="setup")
    job = await ctx.step(steps.prepare, sources, brief or Brief(), workspace, memory_mb, chunk_kb, ctx.run_id)
    found = [
        await ctx.step(steps.inspect, job, number, name, key=f"inspect {number}")
        for number, name in enumerate(sources)
    ]

    s = ctx.restore(Reporting)  # every resume continues from here
    if s.phase == "collect":
        await collect(ctx, s, job, found)
        s.phase = "clean"
        await ctx.checkpoint(s, name="data_collected")
    if s.phase == "clean":
        await clean(ctx, s, job, found)
        s.phase = "analyse"
        await ctx.checkpoint(s, name="data_cleaned")
    assert s.schema is not None
    if s.phase == "analyse":
        s.analysis = await analyse(ctx, job, s.schema, s.rows)
        s.phase = "write"
        await ctx.checkpoint(s, name="analysis_complete")
    if s.phase == "write":
        ctx.progress(0, 2, "the summary", phase="write")
        s.summary = await summarise(ctx, job, steps.assembled(job.brief, found, s))
        ctx.progress(1, 2, "the page", phase="write")
        s.result = await ctx.step(steps.write, job, found, s)
        s.phase = "done"
        ctx.progress(2, 2, s.result.title, phase="write")
        await ctx.checkpoint(s, name="report_generated")
    assert s.result is not None
    return s.result


async def collect(ctx: Context, s: Reporting, job: Job, found: Sequence[Source]) -> None:
    """Source by source, stretch by stretch: the state holds how far each has been read."""
    size = sum(source.size for source in found)
    while s.source < len(found):
        source = found[s.source]
        ctx.progress(collected(s, found), size, source.name, phase="collect")
        s.take(await ctx.step(steps.collect, job, source, s.cursor, key=place(s)))
        await ctx.checkpoint(s)  # a safe point: saved when due, and nothing is lost when it is not
    ctx.progress(size, size, f"{sum(part.rows for part in s.parts):,} rows", phase="collect")


def place(s: Reporting) -> str:
    return f"{s.source}@{s.cursor.line if s.cursor else 0}"


def collected(s: Reporting, found: Sequence[Source]) -> int:
    """How much of all sources has been read, each by its own measure; what a cursor does not tell is not counted."""
    behind = sum(source.size for source in found[: s.source])
    here = found[s.source]
    at = s.cursor.position if s.cursor and here.format in ("csv", "git") else 0
    return behind + min(at, here.size)


async def clean(ctx: Context, s: Reporting, job: Job, found: Sequence[Source]) -> None:
    """Decide what the columns are, clean part by part, then look for duplicates bucket by bucket."""
    if s.schema is None:
        s.schema = await ctx.step(steps.decide, job, list(found), s.parts)
        await ctx.checkpoint(s)
    schema = s.schema

    rows = sum(part.rows for part in s.parts)
    while len(s.cleaned) < len(s.parts):
        done = len(s.cleaned)
        ctx.progress(done, len(s.parts), f"typing {rows:,} rows", phase="clean")
        parts = s.parts[done : done + BATCH]
        typed = partial(steps.clean, job, schema)
        s.cleaned += await ctx.map(typed, parts, key=lambda part: part.id, limit=steps.CLEANED_AT_ONCE)
        await ctx.checkpoint(s)
    buckets = columns.buckets_of(sum(one.kept for one in s.cleaned), job.memory_mb)
    while len(s.rows) < buckets:
        done = len(s.rows)
        ctx.progress(done, buckets, "looking for duplicates", phase="clean")
        s.rows.append(
            await ctx.step(steps.unique, job, schema, s.cleaned, done, buckets, key=f"unique {done}")
        )
        await ctx.checkpoint(s)


async def analyse(ctx: Context, job: Job, schema: Schema, rows: list[Cleaned]) -> Analysis:
    """Every question is a step of its own: a resume asks only those that have no answer yet."""
    asked, questions = 0, 4 + len(schema.measures) + len(schema.columns) + len(schema.by)

    def next_question(words: str) -> None:
        nonlocal asked
        ctx.progress(asked, questions, words, phase="analyse")
        asked += 1

    outliers = []
    for measure in schema.measures:
        next_question(f"outliers of {measure}")
        outliers.append(await ctx.step(steps.find_outliers, job, schema, rows, measure, key=measure))
    aside = outliers[0] if outliers else None
    next_question("totals")
    totals = await ctx.step(steps.total, job, schema, rows, aside)
    next_question("trends")
    trends = await ctx.step(steps.trends, job, schema, rows, aside)
    breakdowns = []
    for by in schema.by:
        next_question(f"by {by}")
        breakdowns.append(await ctx.step(steps.breakdown, job, schema, rows, aside, by, key=by))
    next_question("weekdays and hours")
    rhythm = await ctx.step(steps.rhythm, job, schema, rows, aside)
    next_question("what goes together")
    relations = await ctx.step(steps.relations, job, schema, rows, aside)
    profiles = []
    for column in schema.columns:
        next_question(f"profile of {column.name}")
        profiles.append(await ctx.step(steps.profile, job, rows, column, key=column.name))
    return Analysis(totals, tuple(profiles), tuple(outliers), trends, tuple(breakdowns), rhythm, relations)


async def summarise(ctx: Context, job: Job, known: Report) -> Prose:
    """The summary in a model's words, if there is a model and they hold; else in our own.

    What a model answers is recorded as it came: a resume reads the same words, and the page keeps its bytes.
    """
    try:
        answer = await ctx.step(steps.ask_for_words, job, writer.facts(known), retry=ASKING)
    except StepFailed:  # the figures stand without it; `holdfast steps` has the reason
        return writer.default(known, "The model could not be asked; these are the report's own words.")
    return writer.judged(known, answer)
