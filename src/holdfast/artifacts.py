"""`ctx.artifact`: bytes or a file, brought into the store chunk by chunk and hashed on the way, then recorded.

Memory holds one chunk, whatever the size. The content is in the store before the entry is recorded, so an artifact
that is listed is whole; what a crash leaves on the way in is swept.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol, cast

from holdfast.calls import Body, spec_of
from holdfast.errors import FatalError, TransientError, UsageError
from holdfast.execution import Execution
from holdfast.model import Artifact, NewArtifact
from holdfast.opened import OpenCall
from holdfast.port import Port
from holdfast.recording import Recording
from holdfast.rules.artifacts import CHUNK_BYTES, LARGEST_BYTES, media_type
from holdfast.rules.retry import RetryPolicy
from holdfast.threads import run_in_thread

_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe without a writer would be waited for
_WORDS: Final = {"directory": stat.S_ISDIR, "pipe": stat.S_ISFIFO, "socket": stat.S_ISSOCK}


@dataclass(frozen=True, slots=True)
class Kept:
    """What the entry records of an artifact."""

    id: str
    size_bytes: int
    media_type: str


class Artifacts:
    """What `ctx.artifact` does: a step whose body is the upload, recorded with the artifact beside its entry."""

    __slots__ = ("_execution", "_port", "_recording")

    def __init__(self, port: Port, recording: Recording, execution: Execution) -> None:
        self._port = port
        self._recording = recording
        self._execution = execution

    async def keep(self, call: OpenCall, name: str, content: bytes | Path, policy: RetryPolicy) -> Artifact:
        """The artifact as it was recorded; else bring in the content and record it. Raises StepFailed."""

        async def upload() -> Kept:
            return await self._upload(_Bytes(content) if isinstance(content, bytes) else _File(content), name)

        def beside(kept: object) -> tuple[NewArtifact, ...]:
            assert isinstance(kept, Kept)
            return (NewArtifact(name=name, id=kept.id, media_type=kept.media_type),)

        body = Body(upload, spec_of(upload).shape, True, beside=beside)
        kept = await self._execution.step(call, body, policy)
        assert isinstance(kept, Kept)
        at = datetime.fromtimestamp(call.at_us / 1e6, UTC)
        return Artifact(id=kept.id, name=name, size_bytes=kept.size_bytes, media_type=kept.media_type, at=at)

    async def _upload(self, source: _Source, name: str) -> Kept:
        guarded = self._recording.end.guarded
        upload = await guarded(self._port.begin_content())
        try:
            n = 0
            while chunk := await run_in_thread(source.read, ()).future:
                assert isinstance(chunk, bytes)
                await guarded(self._port.add_chunk(upload, n, chunk))
                n += 1
            await run_in_thread(source.check, ()).future
        finally:
            source.close()
        content = await guarded(self._port.seal_content(upload, source.id, source.size_bytes))
        return Kept(content.id, content.size_bytes, media_type(name))


class _Source(Protocol):
    """Where the bytes come from. `read` and `check` block: they are called in a thread."""

    size_bytes: int

    @property
    def id(self) -> str:
        """The SHA-256 of what was read, in hexadecimal."""
        ...

    def read(self) -> bytes:
        """The next chunk; b"" at the end."""
        ...

    def check(self) -> None:
        """Make sure, at the end, that the content stood still."""
        ...

    def close(self) -> None: ...


class _Bytes:
    """Bytes in memory."""

    def __init__(self, content: bytes) -> None:
        self._sha256 = hashlib.sha256()
        self.size_bytes = 0
        self._content = content

    @property
    def id(self) -> str:
        return self._sha256.hexdigest()

    def read(self) -> bytes:
        chunk = self._content[self.size_bytes : self.size_bytes + CHUNK_BYTES]
        self._sha256.update(chunk)
        self.size_bytes += len(chunk)
        return chunk

    def check(self) -> None:
        pass  # bytes stand still

    def close(self) -> None:
        self._content = b""


class _File:
    """A file that must stand still while it is read: one that changes has no content to be known by."""

    def __init__(self, path: Path) -> None:
        self._sha256 = hashlib.sha256()
        self.size_bytes = 0
        self._path = path.absolute()
        self._lock = threading.Lock()
        self._left = False
        self._fd: int | None = None
        self._began: os.stat_result | None = None

    @property
    def id(self) -> str:
        return self._sha256.hexdigest()

    def read(self) -> bytes:
        with self._lock:
            chunk = b"" if self._left else self._read()
        if self._left:
            self.close()
        return chunk

    def _read(self) -> bytes:
        if self._fd is None:
            self._fd = os.open(self._path, _FLAGS)
            self._began = os.fstat(self._fd)
            if not stat.S_ISREG(self._began.st_mode):
                raise FatalError(
                    f"{self._path} is {_word(self._began.st_mode)}: an artifact is bytes or a regular file"
                )
        parts: list[bytes] = []
        wanted = CHUNK_BYTES
        while wanted and (part := os.read(self._fd, wanted)):  # a file system may give less than is asked for
            parts.append(part)
            wanted -= len(part)
        chunk = b"".join(parts)
        self._sha256.update(chunk)
        self.size_bytes += len(chunk)
        if self.size_bytes > LARGEST_BYTES:
            raise FatalError(
                f"{self._path} is larger than {LARGEST_BYTES // 1024**3} GiB, the limit of an artifact: "
                "keep it in an object store, and record where"
            )
        return chunk

    def check(self) -> None:
        assert self._fd is not None and self._began is not None, "it was read"
        began, ended = self._began, os.fstat(self._fd)
        if not self._path.exists():
            raise TransientError(f"{self._path} vanished while it was read: leave it until it is kept")
        if _version(ended) != _version(began) or self.size_bytes != began.st_size:
            raise TransientError(
                f"{self._path} changed while it was read: write it elsewhere, then rename it"
            )

    def close(self) -> None:
        """Close the file; while a thread still reads it, leave that to the thread."""
        self._left = True
        if self._lock.acquire(blocking=False):
            try:
                fd, self._fd = self._fd, None
                if fd is not None:
                    os.close(fd)
            finally:
                self._lock.release()


def _version(status: os.stat_result) -> tuple[int, int, int]:
    # The last change of the inode, too: a file that is replaced loses a name, which is one.
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _word(mode: int) -> str:
    return next((f"a {word}" for word, fits in _WORDS.items() if fits(mode)), "a device")


def source_of(content: object) -> bytes | Path:
    """The content as `ctx.artifact` takes it. Raises UsageError."""
    if isinstance(content, bytes | bytearray | memoryview):
        return bytes(cast("bytes", content))
    if isinstance(content, str | os.PathLike):
        return Path(cast("str | os.PathLike[str]", content))
    raise UsageError(
        f"the content of an artifact is bytes or the path of a file, not {type(content).__name__}: "
        "text is encoded first, text.encode()"
    )
