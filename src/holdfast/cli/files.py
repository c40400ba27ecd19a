"""Files that commands write: whole, or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO

from holdfast.errors import UsageError


@contextlib.contextmanager
def whole_file(output: Path, *, mode: int = 0o666) -> Generator[BinaryIO]:
    """Write beside the file and rename: what was there stays until all is there and on the disk. A link is replaced,
    not followed. Raises UsageError when the file cannot be written."""
    beside = output.with_name(f".{output.name[:100]}.{secrets.token_hex(4)}.part")
    try:
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            with os.fdopen(fd, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, output)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(beside)
            raise
    except OSError as error:
        raise UsageError(f"{output}: {error.strerror}") from error
