"""The file of moved runs: JSON Lines that a person can read, written and verified as a stream.

    {"part":"header","holdfast_export":1,…}
    {"part":"content","id":"…","size_bytes":…,"chunks":2}      what an artifact holds, before the first run that has it
    {"part":"chunk","n":0,"text":"…"} …
    {"part":"run","id":"night",…}                              a run; a child stands below its parent
    {"part":"tag",…} … {"part":"entry",…} …                    what belongs to it, in a fixed order
    {"part":"end","run":"night","lines":…,"sha256":"…"}        it is whole: the SHA-256 of its lines
    …
    {"part":"footer","runs":…,"sha256":"…"}                    the file is whole: the SHA-256 of all lines above

Laws of this file:
1. The lines of a run depend on nothing but the run: two stores that hold the same run give the same lines.
2. A reader hands out the end of a run, or the last chunk of a content, only when its hash is right.
3. Neither side holds more than one line.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import BinaryIO, Final, NoReturn

import msgspec

from holdfast.errors import InvalidExport
from holdfast.model.moving import (
    EXPORT_FORMAT,
    ExportFooter,
    ExportHeader,
    Line,
    MovedArtifact,
    MovedChunk,
    MovedContent,
    MovedRun,
    PartOfRun,
    RunEnd,
)
from holdfast.rules.moving import RunCheck

LONGEST_LINE: Final = 256 * 1024 * 1024
"""A run's input and result stand in one line, 64 MiB at most each, and a third more in base64."""

encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Line).decode


class _AnyHeader(msgspec.Struct):
    """The first line of any format."""

    holdfast_export: int


_any_header: Final = msgspec.json.Decoder(_AnyHeader).decode


class Writer:
    """Writes a file of runs, line by line, and counts and hashes what it writes."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._sha256 = hashlib.sha256()
        self.size_bytes = 0

    def put(self, part: Line) -> bytes:
        """Write a line, and return it."""
        line = encode(part) + b"\n"
        self._out.write(line)
        self._sha256.update(line)
        self.size_bytes += len(line)
        return line

    def end(self, runs: int) -> None:
        """Write the last line."""
        self.put(ExportFooter(runs=runs, sha256=self._sha256.hexdigest()))
        self._out.flush()


class RunHash:
    """The number of a run's lines, and the hash of them."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self.lines = 0

    def add(self, line: bytes) -> None:
        """The next line."""
        self._sha256.update(line)
        self.lines += 1

    def sha256(self) -> str:
        """The hash so far."""
        return self._sha256.hexdigest()


class _ContentCheck:
    """The chunks of a content as they come."""

    def __init__(self, content: MovedContent) -> None:
        self.content = content
        self._sha256 = hashlib.sha256()
        self._size_bytes = 0
        self._chunks = 0

    def take(self, chunk: MovedChunk) -> None:
        """Raise InvalidExport when it is not the next one."""
        if chunk.n != self._chunks:
            raise InvalidExport(f"chunk {chunk.n} stands where chunk {self._chunks} belongs")
        body = chunk_bytes(chunk)
        self._sha256.update(body)
        self._size_bytes += len(body)
        self._chunks += 1

    def is_whole(self) -> bool:
        """Whether this was the last one. Raises InvalidExport when the content then is not what its id says."""
        if self._chunks < self.content.chunks:
            return False
        found = (self._sha256.hexdigest(), self._size_bytes)
        if found != (self.content.id, self.content.size_bytes):
            raise InvalidExport(f"the chunks of content {self.content.id} are not those that were written")
        return True


def chunk_bytes(chunk: MovedChunk) -> bytes:
    """The bytes of a chunk."""
    if chunk.text is not None and chunk.base64 is None:
        return chunk.text.encode()
    if chunk.base64 is not None and chunk.text is None:
        return chunk.base64
    raise InvalidExport("a chunk has a text or base64")


class Reader:
    """Reads a file of runs and verifies all of it on the way. Raises InvalidExport that names the line."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self._sha256 = hashlib.sha256()
        self._seen: set[str] = set()
        self._contents: set[str] = set()
        self._tree: set[str] = set()
        self._content: _ContentCheck | None = None
        self._check: RunCheck | None = None
        self._run: MovedRun | None = None
        self._began = 0
        self._hash = RunHash()
        self.line = 0
        self.size_bytes = 0

    def parts(self) -> Iterator[Line]:
        """The lines after the first, each checked before it is given: runs, with their parts up to RunEnd; contents,
        whose last chunk comes when their hash is right; and ExportFooter, when the whole file is."""
        self._header()
        while True:
            raw = self._next()
            part = self._decoded(raw)
            try:
                self._take(part, raw)
            except InvalidExport as error:
                self.refuse(str(error))
            self._sha256.update(raw)
            yield part
            if isinstance(part, ExportFooter):
                if self._file.read(1):
                    self.line += 1
                    self.refuse("there is more after the end")
                return

    def refuse(self, why: str) -> NoReturn:
        """Raise InvalidExport that names the line."""
        raise InvalidExport(f"{self._name}, line {self.line}: {why}")

    def _header(self) -> None:
        raw = self._next()
        try:
            number = _any_header(raw).holdfast_export
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.refuse("this is no file of `holdfast export`")
        if number > EXPORT_FORMAT:
            self.refuse(
                f"the file is of format {number}, this holdfast knows {EXPORT_FORMAT}: upgrade holdfast"
            )
        if not isinstance(self._decoded(raw), ExportHeader) or number < 1:
            self.refuse("this is no file of `holdfast export`")
        self._sha256.update(raw)

    def _next(self) -> bytes:
        raw = self._file.readline(LONGEST_LINE + 1)
        self.line += 1
        self.size_bytes += len(raw)
        if len(raw) > LONGEST_LINE:
            self.refuse(f"it is longer than {LONGEST_LINE // 2**20} MiB")
        if not raw.endswith(b"\n"):
            where = f", in run {self._run.id}" if self._run is not None else ""
            self.refuse(f"the file is cut here{where}: copy it again, or export again")
        return raw

    def _decoded(self, raw: bytes) -> Line:
        try:
            found: Line = _decode(raw)
            return found
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self.refuse(f"it was changed or damaged: {error}")

    def _take(self, part: Line, raw: bytes) -> None:
        match part:
            case MovedChunk():
                self._take_chunk(part)
            case _ if self._content is not None:
                raise InvalidExport(f"chunks of content {self._content.content.id} are missing")
            case RunEnd():
                self._end_run(part)
            case MovedRun() | MovedContent() | ExportFooter() if self._run is not None:
                raise InvalidExport(f"the end of run {self._run.id} is missing")
            case MovedRun():
                self._begin_run(part, raw)
            case MovedContent():
                self._begin_content(part)
            case ExportFooter():
                self._end_file(part)
            case ExportHeader():
                raise InvalidExport("a header stands on the first line alone")
            case _:
                self._take_part(part, raw)

    def _begin_content(self, content: MovedContent) -> None:
        if content.id in self._contents:
            raise InvalidExport(f"content {content.id} stands here twice")
        self._contents.add(content.id)
        check = _ContentCheck(content)
        self._content = None if check.is_whole() else check

    def _take_chunk(self, chunk: MovedChunk) -> None:
        if self._content is None:
            raise InvalidExport("a chunk stands here that is of no content")
        self._content.take(chunk)
        if self._content.is_whole():
            self._content = None

    def _begin_run(self, run: MovedRun, raw: bytes) -> None:
        if run.id in self._seen:
            raise InvalidExport(f"run {run.id} stands here twice")
        if run.child is None:
            self._tree.clear()
        elif run.child.parent not in self._tree:
            raise InvalidExport(
                f"run {run.id} is a child of {run.child.parent}, which does not stand above it"
            )
        self._check = RunCheck(run)
        self._seen.add(run.id)
        self._tree.add(run.id)
        self._run, self._began = run, self.line
        self._hash = RunHash()
        self._hash.add(raw)

    def _take_part(self, part: PartOfRun, raw: bytes) -> None:
        if self._check is None:
            raise InvalidExport("this line is of no run")
        if isinstance(part, MovedArtifact) and part.content not in self._contents:
            raise InvalidExport(f"the content of the artifact {part.name!r} does not stand above it")
        self._check.take(part)
        self._hash.add(raw)

    def _end_run(self, end: RunEnd) -> None:
        if self._check is None or self._run is None or end.run != self._run.id:
            raise InvalidExport(f"the end of run {end.run} stands in a wrong place")
        self._check.end()
        if (end.lines, end.sha256) != (self._hash.lines, self._hash.sha256()):
            raise InvalidExport(
                f"run {end.run} was changed or damaged, somewhere from line {self._began} on: its {end.lines} lines "
                f"have the SHA-256 {end.sha256}, these {self._hash.lines} have {self._hash.sha256()}"
            )
        self._run = self._check = None

    def _end_file(self, footer: ExportFooter) -> None:
        if (footer.runs, footer.sha256) != (len(self._seen), self._sha256.hexdigest()):
            raise InvalidExport(
                f"the file was changed or damaged: it was written with {footer.runs} runs, and here are "
                f"{len(self._seen)}; or lines outside of runs are not those that were written"
            )
