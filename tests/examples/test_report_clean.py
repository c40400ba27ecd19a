"""Cleaning: what a cell means, why a row is dropped, and which of two rows stays."""

# ruff: noqa: DTZ001 -- times of a report have no zone
from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest

from examples.report import analyse, clean, collect, duck, recount, schema, sources
from examples.report.model import Brief, Cleaned, Job, Schema, Tally

NUMBERS = {
    "12": 12, "-3.50": -3.5, "+7": 7, ".5": 0.5, "1e3": 1000, "1,234": 1234, "1,234.5": 1234.5, "1.234,5": 1234.5,
    "12,5": 12.5, "1234,5": 1234.5, "€ 1,200.00": 1200, "$5": 5, "5 EUR": 5, "-€3": -3, "1.2.3": None, "12..5": None,
    "": None, "abc": None, "0x10": None, "inf": None, "NaN": None, "1_000": None, "1e999": None, "٣": None, "--5": None,
    "12,34,5": None, "1,23.4": None,
}  # fmt: skip
TIMES = {
    ("2024-03-05", "unknown"): datetime(2024, 3, 5),
    ("2024-3-5", "unknown"): datetime(2024, 3, 5),
    ("2024-03-05 14:03", "unknown"): datetime(2024, 3, 5, 14, 3),
    ("2024-03-05T14:03:07.5Z", "unknown"): datetime(2024, 3, 5, 14, 3, 7, 500_000),
    ("2024-03-05T01:03:07+02:00", "unknown"): datetime(2024, 3, 4, 23, 3, 7),
    ("2024-03-05 14:03:07-0330", "unknown"): datetime(2024, 3, 5, 17, 33, 7),
    ("5.3.2024", "month first"): datetime(2024, 3, 5),
    ("05.03.2024 14:03:07", "unknown"): datetime(2024, 3, 5, 14, 3, 7),
    ("05/03/2024", "day first"): datetime(2024, 3, 5),
    ("05/03/2024", "month first"): datetime(2024, 5, 3),
    ("05/03/2024", "unknown"): "ambiguous",
    ("05/05/2024", "unknown"): datetime(2024, 5, 5),
    ("25/03/2024", "month first"): datetime(2024, 3, 25),
    ("03/25/2024 08:00", "day first"): datetime(2024, 3, 25, 8),
    ("Mar 5, 2024", "unknown"): datetime(2024, 3, 5),
    ("5 March 2024", "unknown"): datetime(2024, 3, 5),
    ("2024-02-30", "unknown"): None,
    ("31.02.2024", "unknown"): None,
    ("2024-13-01", "unknown"): None,
    ("0024-03-05", "unknown"): None,
    ("soon", "unknown"): None,
    ("20240305", "unknown"): None,
}


def asked(expression: str) -> object:
    with duck.opened(64) as db:
        db.execute(duck.MACROS)
        row = db.execute(f"SELECT {expression}").fetchone()
        assert row is not None
        return row[0]


@pytest.mark.parametrize("text", NUMBERS)
def test_a_number_is_read_in_the_ways_people_write_it(text: str) -> None:
    wanted = NUMBERS[text]
    found = asked(f"as_number({duck.text(text)})")
    plain = recount.number(text) if text else None
    assert found == wanted
    assert (float(plain) if plain is not None and abs(plain) < Decimal("1e300") else None) == wanted
    if wanted is not None:
        assert asked(f"is_number({duck.text(text)})") is True


@pytest.mark.parametrize(("text", "order"), TIMES)
def test_a_time_is_read_in_the_ways_people_write_it_and_never_guessed(text: str, order: str) -> None:
    wanted = TIMES[text, order]
    found = asked(f"as_time({duck.text(text)}, {duck.text(order)})")
    ambiguous = asked(f"is_ambiguous_time({duck.text(text)}, {duck.text(order)})")
    assert (found, ambiguous) == ((None, True) if wanted == "ambiguous" else (wanted, False))
    assert recount.moment(text, order) == wanted


def test_words_for_nothing_and_blanks_are_nothing() -> None:
    for text in ("", "  ", "N/A", " null ", "-", "\u00a0", "None", "?"):
        assert asked(f"filled(tidy({duck.text(text)}))") is None and recount.tidy(text) is None
    assert asked("filled(tidy(' a \u00a0 b\t'))") == "a b" == recount.tidy(" a \u00a0 b\t")


def cleaned(
    folder: Path, texts: list[str], brief: Brief, chunk: int = 10_000
) -> tuple[Job, Schema, list[Cleaned]]:
    """Every source collected, typed and cleaned, part by part."""
    job = Job(str(folder), brief, 200, chunk)
    found = []
    for number, text in enumerate(texts):
        (folder / f"{number}.csv").write_text(text)
        found.append(sources.inspect(number, str(folder / f"{number}.csv")))
    parts = []
    for source in found:
        parts.append(collect.collect(job, source, None))
        while parts[-1].next is not None:
            parts.append(collect.collect(job, source, parts[-1].next))
    decided = schema.decide(brief, found, parts)
    return job, decided, [clean.clean(job, decided, part, 100) for part in parts]


def rows_in(job: Job, *files: str) -> list[tuple[object, ...]]:
    with duck.opened(64) as db:
        listed = duck.texts(job.parts / file for file in files)
        return db.execute(f"FROM read_parquet({listed}) ORDER BY 1, 2").fetchall()


def test_a_row_is_dropped_for_the_first_reason_that_applies(tmp_path: Path) -> None:
    text = (
        "id,day,amount,size\n"
        "1,2024-01-01,5,1\n"
        ",soon,many,\n"
        "2,soon,many,3\n"
        "3,2024-01-01,many,3\n"
        "4,2024-01-01,-5,3\n"
        "5,2024-01-01,11,99\n"
        "6,2024-01-01,6\n"
        "7,2024-01-01,7,huge\n" + "".join(f"{n},2024-01-02,{n % 10},{n % 5}\n" for n in range(8, 60))
    )
    brief = Brief(
        key=("id",), measures=("amount", "size"), time="day", limits={"amount": (0, 10), "size": (None, 50)}
    )
    job, _, (part,) = cleaned(tmp_path, [text], brief)
    assert [(row[1], row[2], row[3]) for row in rows_in(job, part.dropped_file)] == [
        (3, "no id", None),
        (4, "day cannot be read", "soon"),
        (5, "amount cannot be read", "many"),
        (6, "amount below 0", "-5"),
        (7, "amount above 10", "11"),
        (8, "not a row: 3 cells instead of 4", "6,2024-01-01,6"),
    ]
    assert rows_in(job, part.file)[1] == (0, 9, "7", datetime(2024, 1, 1), 7.0, None)
    assert [(one.column, one.what, one.cells) for one in part.repairs] == [
        ("size", "not readable, emptied", 1)
    ]


def test_a_date_that_could_be_either_of_two_days_is_dropped_unless_its_source_tells(tmp_path: Path) -> None:
    sources = [
        "day,n\n" + "03/04/2024,1\n13/04/2024,2\n" * 10,  # only a day can be 13
        "day,n\n" + "03/04/2024,1\n04/13/2024,2\n" * 10,
        "day,n\n" + "03/04/2024,1\n05/05/2024,2\n" * 10,
        "day,n\n" + "03/04/2024,1\n13/04/2024,2\n04/13/2024,3\n" * 10,  # both are written here
    ]
    job, decided, parts = cleaned(tmp_path, sources, Brief(time="day", measures=("n",)))
    assert decided.column("day").orders == ("day first", "month first", "unknown", "unknown")
    first = [rows_in(job, part.file)[0][2] for part in parts]
    assert first == [datetime(2024, 4, 3), datetime(2024, 3, 4), datetime(2024, 5, 5), datetime(2024, 4, 13)]
    for part in parts[2:]:
        assert [(one.reason, one.rows) for one in part.dropped] == [("day could be either of two days", 10)]


def test_spellings_that_differ_by_case_are_one_the_commonest(tmp_path: Path) -> None:
    text = "shop,n\n" + "north,1\nNorth,2\nNorth,3\nNORTH ,4\nsouth,5\n" * 20
    job, decided, (part,) = cleaned(tmp_path, [text], Brief(measures=("n",)))
    assert decided.by == ("shop",)
    assert {row[2] for row in rows_in(job, part.file)} == {"North", "south"}
    assert ("shop", "another spelling", 40) in [(one.column, one.what, one.cells) for one in part.repairs]


@pytest.mark.parametrize("buckets", [1, 3])
@pytest.mark.parametrize("chunk", [40, 10_000])
def test_of_several_rows_of_a_key_the_first_stays_across_parts_and_sources(
    tmp_path: Path, buckets: int, chunk: int
) -> None:
    head = "id,n\n"
    texts = [head + "".join(f"{n},{n}\n" for n in range(40)) + "7,7\n8,9\n", head + "7,7.0\n99,1\n99, 1\n"]
    job, decided, parts = cleaned(tmp_path, texts, Brief(key=("id",), measures=("n",)), chunk)
    found = [clean.unique(job, decided, parts, bucket, buckets) for bucket in range(buckets)]
    kept = rows_in(job, *(one.file for one in found))
    assert [row[2] for row in kept] == [*map(str, range(40)), "99"]
    assert sum(one.kept for one in found) == 41
    assert [row[:4] for row in rows_in(job, *(one.dropped_file for one in found))] == [
        (0, 42, clean.DUPLICATE, "7"),
        (0, 43, clean.CONFLICT, "8"),
        (1, 2, clean.DUPLICATE, "7"),
        (1, 4, clean.DUPLICATE, "99"),
    ]


def test_without_a_key_equal_rows_are_duplicates(tmp_path: Path) -> None:
    job, decided, parts = cleaned(tmp_path, ["a,n\nx,1\nx,2\nx,1\n,1\n,1\n"], Brief(measures=("n",)))
    found = clean.unique(job, decided, parts, 0, 1)
    assert [(one.reason, one.rows) for one in found.dropped] == [(clean.DUPLICATE, 2)]


def test_tallies_of_parts_add_up_and_too_many_values_are_no_category() -> None:
    one = Tally(filled=2, values={"a": 1, "b": 1})
    assert one + Tally(filled=1, values={"a": 1}) == Tally(filled=3, values={"a": 2, "b": 1})
    assert (one + Tally(filled=9, values=None)).values is None
    assert (one + Tally(values={str(n): 1 for n in range(300)})).values is None


def test_the_same_part_twice_is_one_file(tmp_path: Path) -> None:
    job, decided, parts = cleaned(tmp_path, ["a,n\nx,1\ny,2\n"], Brief(measures=("n",)))
    files = sorted(path.name for path in job.parts.iterdir())
    _, _, again = cleaned(tmp_path, ["a,n\nx,1\ny,2\n"], Brief(measures=("n",)))
    assert again == parts and sorted(path.name for path in job.parts.iterdir()) == files
    assert decided.measures == ("n",)


def test_a_column_may_have_any_name(tmp_path: Path) -> None:
    names = [
        "n",
        "line",
        "source",
        "reason",
        "value",
        "_refused",
        "total",
        'a "b"',
        "select",
        "it's",
        "start",
        "_n",
    ]
    text = ",".join(name.replace('"', '""').join('""') for name in names) + "\n"
    text += "".join(
        ",".join(str(row % 3 + column) for column in range(len(names))) + "\n" for row in range(30)
    )
    job, decided, parts = cleaned(
        tmp_path, [text], Brief(key=("n", "line"), by=("reason",), measures=("value",))
    )
    found = clean.unique(job, decided, parts, 0, 1)
    assert (found.kept, [one.rows for one in found.dropped]) == (3, [27])
    analyse.find_outliers(job, decided, [found], "value")
    assert [group.rows for group in analyse.breakdown(job, decided, [found], None, "reason").groups] == [
        1,
        1,
        1,
    ]
    assert [analyse.profile(job, [found], column).distinct for column in decided.columns] == [3] * len(names)
    assert [column.name for column in decided.columns][-1] == "n_again"
