"""CSV: read line by line from a byte position, whatever its delimiter, its quotes and its encoding."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from examples.report.model import Cursor, Source
from examples.report.sources.chunk import Chunk, Unreadable, text_of

BOM = b"\xef\xbb\xbf"
WIDE = (b"\xff\xfe", b"\xfe\xff")  # how a file of UTF-16 begins
DELIMITERS = ",;\t|"


def header(path: Path) -> tuple[str, list[str], int]:
    """The delimiter, the names of the columns, and where the first row begins."""
    with path.open("rb") as stream:
        first = stream.readline()
        begin = stream.tell()
    if b"\0" in first or first.startswith(WIDE):
        raise Unreadable(f"{path} is not UTF-8 but UTF-16, or no text at all: save it as CSV in UTF-8")
    if b"\r" in first.rstrip(b"\r\n"):
        raise Unreadable(f"{path} ends its lines with a carriage return alone: save it with line feeds")
    text, _ = text_of(first.removeprefix(BOM))
    if not text.strip():
        raise Unreadable(f"{path} has no header: its first line is empty")
    delimiter = max(DELIMITERS, key=text.count)
    return delimiter, next(csv.reader([text.rstrip("\r\n")], delimiter=delimiter)), begin


class Lines:
    """The lines of a file from a position on, decoded; it knows how far it has been read."""

    def __init__(self, stream: BinaryIO, cursor: Cursor) -> None:
        self.position, self.line, self.recoded = cursor.position, cursor.line, 0
        self._stream = stream

    def __iter__(self) -> Iterator[str]:
        for raw in self._stream:
            self.position += len(raw)
            self.line += 1
            text, mended = text_of(raw)
            self.recoded += mended
            yield text


def read(source: Source, cursor: Cursor, limit_bytes: int, memory_mb: int) -> Chunk:
    """Whole rows, until so many bytes are passed. A row with quotes may have several lines."""
    chunk, width = Chunk(), len(source.columns)
    until = cursor.position + limit_bytes
    with Path(source.path).open("rb") as stream:
        while cursor.position < min(until, source.size):
            cursor = read_rows(chunk, stream, cursor, until, source.delimiter, width)
    chunk.next = cursor if cursor.position < source.size else None
    return chunk


def read_rows(
    chunk: Chunk, stream: BinaryIO, cursor: Cursor, until: int, delimiter: str, width: int
) -> Cursor:
    """Read rows until the position; if a quote is never closed, give up that one line and say where to go on."""
    stream.seek(cursor.position)
    lines = Lines(stream, cursor)
    begin = cursor
    try:
        for cells in csv.reader(lines, delimiter=delimiter):
            if len(cells) == width:
                chunk.rows.append((begin.line, None, cells))  # type: ignore[arg-type]  # no cell of a CSV is None
            elif cells:  # else it was an empty line
                why = f"{len(cells)} cells instead of {width}"
                chunk.refuse(begin.line, why, delimiter.join(cells))
            begin = Cursor(lines.position, lines.line)
            if lines.position >= until:
                break
    except csv.Error:  # a field that grows past csv's limit: its quote is never closed
        stream.seek(begin.position)
        text, mended = text_of(raw := stream.readline())
        chunk.refuse(begin.line, "a quote that is never closed", text.rstrip("\r\n"))
        chunk.recoded += mended
        return Cursor(begin.position + len(raw), begin.line + 1)
    chunk.recoded += lines.recoded
    return begin
