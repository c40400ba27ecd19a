"""Sources: read in stretches of any size, from any cursor, they give the rows that they have, each once."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from examples.report import duck, recount, sources
from examples.report.model import Cursor, Source
from examples.report.sources import csv_file
from examples.report.sources.chunk import text_of

Rows = list[tuple[int, str | None, list[str | None]]]

CSV = (
    b"\xef\xbb\xbfName,Order Date,Amount\n"
    b"plain,2024-01-01,1\n"
    b'"two\nlines, ""quoted""",2024-01-02,"1,5"\r\n'
    b"\n"
    b'inch 5" mark,2024-01-03,3\n'
    b"too,many,cells,here\n"
    b"few\n"
    b"M\xfcller,2024-01-04,4\n"  # Windows-1252
    b"M\xc3\xbcller,2024-01-05,5\n"  # UTF-8
    b"M\xc3\x83\xc2\xbcller,2024-01-06,6\n"  # UTF-8, twice
    b"no newline at the end,2024-01-07,7"
)
ROWS: Rows = [
    (2, None, ["plain", "2024-01-01", "1"]),
    (3, None, ['two\nlines, "quoted"', "2024-01-02", "1,5"]),
    (6, None, ['inch 5" mark', "2024-01-03", "3"]),
    (7, "4 cells instead of 3", ["too,many,cells,here"]),
    (8, "1 cells instead of 3", ["few"]),
    (9, None, ["Müller", "2024-01-04", "4"]),
    (10, None, ["Müller", "2024-01-05", "5"]),
    (11, None, ["Müller", "2024-01-06", "6"]),
    (12, None, ["no newline at the end", "2024-01-07", "7"]),
]


def in_stretches(source: Source, limit_bytes: int) -> tuple[Rows, int, int]:
    """All rows, how many lines were mended, and in how many stretches."""
    rows: Rows = []
    recoded = stretches = 0
    cursor: Cursor | None = None
    while stretches == 0 or cursor is not None:
        chunk = sources.read(source, cursor, limit_bytes)
        rows += chunk.rows
        recoded += chunk.recoded
        stretches += 1
        assert chunk.next is None or cursor is None or chunk.next.position > cursor.position
        cursor = chunk.next
    return rows, recoded, stretches


@pytest.fixture
def messy(tmp_path: Path) -> Source:
    path = tmp_path / "messy.csv"
    path.write_bytes(CSV)
    return sources.inspect(0, str(path))


@pytest.mark.parametrize("limit_bytes", [1, 7, 20, 33, 60, 100, 10_000])
def test_a_csv_is_the_same_rows_in_stretches_of_any_size(messy: Source, limit_bytes: int) -> None:
    rows, recoded, stretches = in_stretches(messy, limit_bytes)
    assert (rows, recoded) == (ROWS, 2)
    assert stretches == {1: 10, 10_000: 1}.get(limit_bytes, stretches)


def test_names_are_small_words_and_all_different(tmp_path: Path, messy: Source) -> None:
    assert messy.columns == ("name", "order_date", "amount")
    path = tmp_path / "x.tsv"
    path.write_text("A b\ta  B\t\tä\n1\t2\t3\t4\n")
    assert sources.inspect(0, str(path)).columns == ("a_b", "a_b_again", "column_3", "ä")


@pytest.mark.parametrize("limit_bytes", [1, 300, 1_000_000])
def test_a_quote_that_is_never_closed_costs_one_row(tmp_path: Path, limit_bytes: int) -> None:
    path = tmp_path / "open.csv"
    good = [f"{number},row\n" for number in range(20_000)]
    path.write_text("n,text\n" + "".join(good[:5]) + '5,"never closed\n' + "".join(good[6:]))
    source = sources.inspect(0, str(path))
    rows: Rows = []
    cursor: Cursor | None = None
    for _ in range(12):  # the first stretches are enough to see
        chunk = sources.read(source, cursor, limit_bytes)
        rows, cursor = rows + chunk.rows, chunk.next
        if cursor is None:
            break
    assert [row[1] for row in rows[:12] if row[1]] == ["a quote that is never closed"]
    assert [row[2][0] for row in rows[:5]] == ["0", "1", "2", "3", "4"]
    assert rows[5] == (7, "a quote that is never closed", ['5,"never closed'])
    assert rows[6] == (8, None, ["6", "row"])
    assert csv_file.header(path) == (",", ["n", "text"], 7)


def test_bytes_become_the_text_that_was_meant() -> None:
    assert text_of("Zürich €".encode()) == ("Zürich €", False)
    assert text_of("Zürich €".encode("cp1252")) == ("Zürich €", True)
    assert text_of("Zürich".encode().decode("cp1252").encode()) == ("Zürich", True)
    assert text_of("ZÃ¼rich for € 5".encode()) == ("Zürich for € 5", True)  # what is right beside it stays
    assert text_of("Ângela, Ñandú".encode()) == ("Ângela, Ñandú", False)


def test_parquet_and_sqlite_are_the_same_rows_in_stretches_of_any_size(tmp_path: Path) -> None:
    chance = random.Random(3)
    rows = [
        (number, f"word {chance.random()}", None if number % 7 == 0 else number / 4) for number in range(500)
    ]
    with closing(sqlite3.connect(tmp_path / "shop.db")) as db, db:
        db.execute("CREATE TABLE one (n INTEGER, word TEXT, x REAL)")
        db.execute("CREATE TABLE keyed (n INTEGER PRIMARY KEY, word TEXT, x REAL) WITHOUT ROWID")
        for table in ("one", "keyed"):
            db.executemany(f"INSERT INTO {table} VALUES (?, ?, ?)", rows)
        db.execute("DELETE FROM one WHERE n % 5 = 3")  # rowids have gaps
    with duck.opened(64) as duckdb:
        duckdb.execute(f"ATTACH '{tmp_path / 'unused.duckdb'}' AS unused")
        duckdb.execute("CREATE TABLE t (n INTEGER, word VARCHAR, x DOUBLE)")
        duckdb.executemany("INSERT INTO t VALUES (?, ?, ?)", rows)
        duckdb.execute(f"COPY t TO '{tmp_path / 'x.parquet'}' (FORMAT parquet, ROW_GROUP_SIZE 100)")
    wanted = [[str(n), word, None if x is None else str(x)] for n, word, x in rows]
    for named, expected in {
        "x.parquet": wanted,
        "shop.db::keyed": wanted,
        "shop.db::one": [row for row in wanted if int(row[0] or 0) % 5 != 3],
    }.items():
        source = sources.inspect(0, str(tmp_path / named))
        for limit_bytes in (1, 700, 5_000, 1_000_000):
            if limit_bytes == 1 and named != "x.parquet":
                continue
            found, _, _ = in_stretches(source, max(limit_bytes, 480))
            assert [cells for _, _, cells in found] == expected, (named, limit_bytes)
        counted = [cells for _, cells, _ in recount.rows_of(source, str(tmp_path / named))]
        assert counted == expected, named


def test_bytes_in_sqlite_are_taken_for_text(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "shop.db")) as db, db:
        db.execute("CREATE TABLE t (word)")
        db.executemany("INSERT INTO t VALUES (?)", [("Zürich".encode(),), ("Zürich".encode("cp1252"),)])
    named = str(tmp_path / "shop.db")
    source = sources.inspect(0, named)
    rows, _, _ = in_stretches(source, 10_000)
    assert [cells for _, _, cells in rows] == [["Zürich"], ["Zürich"]]
    assert [cells for _, cells, _ in recount.rows_of(source, named)] == [["Zürich"], ["Zürich"]]


@pytest.mark.parametrize(
    ("table", "first"),
    [
        ("CREATE TABLE t (n, word)", 1),
        ("CREATE TABLE t (n, word)", -25),  # the numbers of rows may be below zero
        ("CREATE TABLE t (n, word)", 2**63 - 50),  # and end where SQLite's numbers do
        ("CREATE TABLE t (rowid, _rowid_)", 1),  # columns have taken their names
        ("CREATE TABLE t (rowid TEXT, word)", 1),
    ],
)
def test_every_row_of_sqlite_is_read_whatever_its_number(tmp_path: Path, table: str, first: int) -> None:
    with closing(sqlite3.connect(tmp_path / "shop.db")) as db, db:
        db.execute(table)
        db.executemany(
            "INSERT INTO t (oid, {}, {}) VALUES (?, 7, ?)".format(
                *(row[1] for row in db.execute("PRAGMA table_info(t)"))
            ),
            [(first + n, f"row {n}") for n in range(50)],
        )
    source = sources.inspect(0, str(tmp_path / "shop.db"))
    rows, _, stretches = in_stretches(source, 320)
    assert [cells[1] for _, _, cells in rows] == [f"row {n}" for n in range(50)]
    assert [line for line, _, _ in rows] == [first + n for n in range(50)]
    assert stretches >= 5
    assert len(list(recount.rows_of(source, f"{tmp_path / 'shop.db'}::t"))) == 50


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a,b\n1,2\n".encode("utf-16"), "UTF-16"),
        ("a,b\n1,2\n".encode("utf-16-le"), "UTF-16"),
        (b"a,b\r1,2\r", "carriage return"),
    ],
    ids=["utf-16 with its mark", "utf-16 without", "carriage returns"],
)
def test_a_file_that_would_be_misread_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    with pytest.raises(sources.Unreadable, match=says):
        sources.inspect(0, str(path))


def test_a_source_that_was_changed_meanwhile_is_refused(messy: Source) -> None:
    first = sources.read(messy, None, 30)
    path = Path(messy.path)
    os.utime(path, ns=(0, messy.modified_ns + 1_000_000_000))
    with pytest.raises(sources.Unreadable, match="was changed while it was being read"):
        sources.read(messy, first.next, 30)


def test_what_is_committed_later_is_no_part_of_a_history(tmp_path: Path) -> None:
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@kelp.example", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True)
    for name in ("one", "two", "three"):
        (tmp_path / name).write_text(name)
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "-qm", name], check=True)
        if name == "two":
            source = sources.inspect(0, f"git:{tmp_path}")
    for limit_bytes in (1, 10_000):
        rows, _, stretches = in_stretches(source, limit_bytes)
        assert [cells[3] for _, _, cells in rows] == ["two", "one"]
        assert [line for line, _, _ in rows] == [1, 2]
        assert stretches == (3 if limit_bytes == 1 else 1)
