"""The record of a tree, and the page for a person."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from examples.refactor.model import Applied, Change, Fate, Job, Judged, Report, TestRun, Verdict
from examples.refactor.report import DIFF_LINES, differences, headline, page, record
from examples.stage import executions
from examples.stage.executions import Execution

HOSTILE = "</pre></style><script>alert('x')</script><img src=x onerror=alert(1)>&\"'"
RUN = TestRun("pytest", True, 3, {"t.py": 3}, {HOSTILE: HOSTILE}, None, 2.0)
JOB = Job(repo=f"/r/{HOSTILE}", folder="/f", tree=f"/f/{HOSTILE}", python="p", tools="t")


def row(number: int, fate: Fate, path: str = "a.py", *, before: str = "1", after: str = "2") -> Judged:
    change = Change(number, HOSTILE, path, 1)
    return Judged(change, fate, HOSTILE, Applied(before, after, 1, 1), {HOSTILE: HOSTILE, "b": "c"}, 3, 0.5)


def report_of(*rows: Judged, differing: tuple[str, ...] = (), keep: bool = True) -> Report:
    verdict = Verdict(keep, HOSTILE, {})
    return Report(JOB, RUN, RUN, verdict, rows, {"a.py": "2"}, differing)


class Tags(HTMLParser):
    """Every tag and every attribute of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.opened: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)
        if tag not in ("meta", "br"):
            self.opened.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.opened.pop() == tag


def test_the_record_is_what_was_found_and_the_last_change_kept() -> None:
    rows = [
        row(1, "kept", after="2"),
        row(2, "kept", before="2", after="3"),
        row(3, "rolled back", before="3", after="4"),
        row(4, "kept", "b.py", after="9"),
    ]
    assert record({"a.py": "1", "b.py": "1", "c.py": "1"}, rows) == {"a.py": "3", "b.py": "9", "c.py": "1"}


def test_changed_missing_and_new_files_are_differences() -> None:
    assert differences({"a": "1", "b": "1", "c": "1"}, {"a": "1", "b": "2", "d": "1"}) == ("b", "c", "d")


def test_a_page_escapes_everything_that_a_codebase_says() -> None:
    rows = [row(1, "kept", HOSTILE), row(2, "rolled back", HOSTILE), row(3, "refused"), row(4, "unchanged")]
    lines = ["---", "+++", f"+{HOSTILE}", f"-{HOSTILE}", f" {HOSTILE}", f"@@{HOSTILE}"]
    for differing in ((HOSTILE,), ()):  # the headline speaks of the difference, or of the verdict
        text = page(report_of(*rows, differing=differing, keep=False), dict.fromkeys(range(1, 5), lines))
        found = Tags(text)
        assert not found.opened
        assert not found.tags & {"script", "img"}
        assert not [name for name in found.attributes if name.startswith("on")]
        assert "<script" not in text and "<img" not in text


def test_a_page_loads_nothing_from_elsewhere() -> None:
    text = page(report_of(row(1, "kept")), {})
    assert not Tags(text).attributes & {"src", "href"}
    assert "url(" not in text and "default-src 'none'" in text


def test_a_page_without_changes_is_a_page() -> None:
    assert "changes kept" in page(report_of(), {})


def test_a_long_diff_says_what_it_leaves_out() -> None:
    lines = ["---", "+++", *["+x"] * (DIFF_LINES + 5)]
    text = page(report_of(row(1, "kept")), {1: lines})
    assert text.count(">+x<") == DIFF_LINES and "… 5 lines more" in text


def test_the_headline_never_hides_a_difference_or_a_failure() -> None:
    assert headline(report_of())[0]
    assert not headline(report_of(differing=("a.py",)))[0]
    assert not headline(report_of(keep=False))[0]


def test_every_execution_is_noted_in_order(tmp_path: Path) -> None:
    log = tmp_path / "executions.jsonl"
    assert executions.read(log) == []
    executions.note(log, "index")
    executions.note(log, "apply", "UP:a.py")
    assert [one.name for one in executions.read(log)] == ["index", "apply UP:a.py"]
    assert isinstance(executions.read(log)[0], Execution)
