"""The report: what the tree must be, whether it is, and the page that tells a person. Pure but for reading the diffs.

The page is one file without scripts or anything loaded from elsewhere. Every text in it is escaped: file names, test
names and messages come from a codebase that nobody has vouched for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from examples.refactor.apply import Undo, diff
from examples.refactor.model import Fate, Job, Judged, Report, Summary, TestRun
from examples.refactor.verify import last_line

STYLE = Path(__file__).with_name("page.css")
DIFF_LINES = 300  # of one change: more belongs in an editor
DIFFS_SHOWN = 400  # changes with a diff: a page of more would be slow to open
FATES: tuple[Fate, ...] = ("kept", "rolled back", "unchanged", "refused")


def record(found: Mapping[str, str], judged: Iterable[Judged]) -> dict[str, str]:
    """The sha256 that every file must have: as it was found, and after the last change of it that was kept."""
    files = dict(found)
    for row in judged:
        if row.fate == "kept":
            files[row.change.path] = row.applied.after
    return files


def differences(expected: Mapping[str, str], actual: Mapping[str, str]) -> tuple[str, ...]:
    """Where a tree does not equal the record: the paths, changed, missing or new."""
    paths = expected.keys() | actual.keys()
    return tuple(sorted(path for path in paths if expected.get(path) != actual.get(path)))


def diffs(job: Job, judged: Sequence[Judged]) -> dict[int, list[str]]:
    """Change number → its diff, from the bytes that each change kept of itself."""
    found: dict[int, list[str]] = {}
    for row in judged:
        if row.applied.changed and len(found) < DIFFS_SHOWN:
            undo = Undo.of(job, row.change)
            found[row.change.number] = diff(undo.before(), undo.after(), row.change.path)
    return found


def summary(report: Report) -> Summary:
    """The agent's result."""
    sound, sentence = headline(report)
    back = [row for row in report.judged if row.fate in ("rolled back", "refused")]
    return Summary(
        verdict=sentence,
        sound=sound,
        kept=report.count("kept"),
        rolled_back=tuple(f"{row.change.rule} · {row.change.path}: {row.reason}" for row in back),
        unchanged=report.count("unchanged"),
        tests_passed=report.final.passed,
        tree=report.job.tree,
        report=str(report.job.page),
    )


def headline(report: Report) -> tuple[bool, str]:
    """Whether all is well, in one sentence."""
    if report.differences:
        return False, f"The tree does not equal the record in {many(len(report.differences), 'file')}."
    if not report.verdict.keep:
        return False, f"The whole suite does not stand: {report.verdict.reason}."
    return True, "The whole suite shows no failure that the baseline lacks, and every file equals the record."


def many(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def page(report: Report, shown: Mapping[int, list[str]]) -> str:
    """The whole page."""
    name = escape(Path(report.job.repo).name)
    rolled_back = [row for row in report.judged if row.fate in ("rolled back", "refused")]
    kept = [row for row in report.judged if row.fate == "kept"]
    unchanged = [row for row in report.judged if row.fate == "unchanged"]
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{name}, refactored</title>
<style>{STYLE.read_text()}</style>
</head>
<body>
<main style="--rule:{rule_width(report.judged)}ch">
<header>
<p class="eyebrow">Refactoring report</p>
<h1>{name}</h1>
{banner(report)}
</header>
{tiles(report)}
{by_rule(report.judged)}
{section("Rolled back", "The tree was put back byte for byte; nothing of these changes is in it.", rolled_back, shown)}
{section("Kept", "Each passed the tests that matter to its file. Open one to see what it changed.", kept, shown)}
{section("Nothing to do", "Planned, but when their turn came nothing was left to change.", unchanged, shown)}
{tests(report.baseline, report.final)}
{provenance(report)}
</main>
</body>
</html>
"""


def rule_width(judged: Sequence[Judged]) -> int:
    """So that the paths stand in one column, in characters."""
    return min(24, 2 + max((len(row.change.rule) for row in judged), default=4))


def banner(report: Report) -> str:
    well, sentence = headline(report)
    listed = "".join(f"<li><code>{escape(path)}</code></li>" for path in report.differences[:50])
    return f'<div class="banner {"good" if well else "bad"}"><p>{escape(sentence)}</p><ul>{listed}</ul></div>'


def tiles(report: Report) -> str:
    kept = [row.applied for row in report.judged if row.fate == "kept"]
    lines = f"+{sum(one.lines_added for one in kept):,} −{sum(one.lines_removed for one in kept):,}"
    touched = len({row.change.path for row in report.judged if row.fate == "kept"})
    rolled_back = report.count("rolled back") + report.count("refused")
    figures = [
        ("kept", f"{report.count('kept'):,}", "changes kept"),
        ("back", f"{rolled_back:,}", "rolled back"),
        ("", f"{touched:,}", "files changed"),
        ("", lines, "lines"),
        ("", f"{report.final.passed:,}", f"of {sum(report.final.ran.values()):,} tests pass"),
    ]
    cells = "".join(
        f'<div class="tile {kind}"><strong>{value}</strong><span>{words}</span></div>'
        for kind, value, words in figures
    )
    return f'<div class="tiles">{cells}</div>'


def by_rule(judged: Sequence[Judged]) -> str:
    """One bar a rule, as long as it has changes."""
    rules = list(dict.fromkeys(row.change.rule for row in judged))
    longest = max((sum(row.change.rule == rule for row in judged) for rule in rules), default=1)
    rows = "".join(
        rule_row(rule, [row for row in judged if row.change.rule == rule], longest) for rule in rules
    )
    return f'<section><h2>By rule</h2><div class="rules">{rows}</div></section>' if rules else ""


def rule_row(rule: str, rows: Sequence[Judged], longest: int) -> str:
    counts = {fate: sum(row.fate == fate for row in rows) for fate in FATES}
    bars = "".join(
        f'<i class="{fate.replace(" ", "-")}" style="width:{100 * count / longest:.2f}%"></i>'
        for fate, count in counts.items()
        if count
    )
    words = ", ".join(f"{count} {fate}" for fate, count in counts.items() if count)
    bar = f'<div class="bar" role="img" aria-label="{words}">{bars}</div>'
    return f"<code>{escape(rule)}</code>{bar}<span>{words}</span>"


def section(title: str, lead: str, rows: Sequence[Judged], shown: Mapping[int, list[str]]) -> str:
    if not rows:
        return ""
    listed = "".join(change_row(row, shown.get(row.change.number, [])) for row in rows)
    return (
        f'<section><h2>{title} <small>{len(rows):,}</small></h2><p class="lead">{lead}</p>{listed}</section>'
    )


def change_row(row: Judged, lines: Sequence[str]) -> str:
    """A change: its line, its reason if it has one to tell, and its diff behind a fold."""
    change = row.change
    edited = f"+{row.applied.lines_added} −{row.applied.lines_removed}" if row.applied.changed else ""
    proof = f"{many(row.tests_run, 'test')} · {row.seconds:.1f} s" if row.tests_run else ""
    told = (
        f'<span class="reason">{escape(row.reason)}</span>' if row.fate in ("rolled back", "refused") else ""
    )
    head = (
        f'<span class="number">#{change.number}</span><code class="rule">{escape(change.rule)}</code>'
        f'<span class="path">{escape(change.path)}</span><span class="edited">{edited}</span>'
        f'<span class="proof">{proof}</span>{told}'
    )
    failures = "".join(
        f"<li><code>{escape(test)}</code><br>{escape(last_line(message))}</li>"
        for test, message in row.new_failures.items()
    )
    listed = f"<ul>{failures}</ul>" if len(row.new_failures) > 1 else ""
    if not (lines or listed):
        return f'<div class="change {row.fate.replace(" ", "-")}"><div class="head">{head}</div></div>'
    fold = f'<details><summary class="head">{head}</summary>{listed}{diff_block(lines)}</details>'
    return f'<div class="change {row.fate.replace(" ", "-")}">{fold}</div>'


def diff_block(lines: Sequence[str]) -> str:
    kinds = {"+": "add", "-": "del", "@": "at"}
    body = "\n".join(
        f'<span class="{kinds.get(line[:1], "same")}">{escape(line)}</span>'
        for line in lines[2 : DIFF_LINES + 2]
    )
    left = len(lines) - 2 - DIFF_LINES
    more = f"\n… {many(left, 'line')} more" if left > 0 else ""
    return f"<pre>{body}{more}</pre>" if lines else ""


def tests(baseline: TestRun, final: TestRun) -> str:
    """The two whole runs, and what failed before anything was touched."""
    known = "".join(
        f"<li><code>{escape(test)}</code><br>{escape(last_line(message))}</li>"
        for test, message in baseline.failures.items()
    )
    lead = (
        f"Before: {baseline.passed:,} pass, {many(len(baseline.failures), 'known failure')} "
        f"({escape(baseline.runner)}, {baseline.seconds:.1f} s). After: {final.passed:,} pass, "
        f"{many(len(final.failures), 'failure')} ({final.seconds:.1f} s)."
    )
    return f'<section><h2>Tests</h2><p class="lead">{lead}</p><ul class="known">{known}</ul></section>'


def provenance(report: Report) -> str:
    job = report.job
    rows = {
        "Codebase": job.repo,
        "Refactored tree": job.tree,
        "Python of the tests": job.python,
        "Files in the record": f"{len(report.files):,}",
        "Bytes before and after each change": str(job.changes),
    }
    listed = "".join(f"<dt>{name}</dt><dd><code>{escape(value)}</code></dd>" for name, value in rows.items())
    return f"<section><h2>Where things are</h2><dl>{listed}</dl></section>"
