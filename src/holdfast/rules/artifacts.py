"""What an artifact may be called, and what its name says about its content."""

from __future__ import annotations

from typing import Final

from holdfast.errors import UsageError

NAME_LONGEST: Final = 255
"""As long as file systems allow: so that every name can become a file's, where somebody wants that."""

CHUNK_BYTES: Final = 1024 * 1024
"""A transaction moves one: small enough that whoever commits meanwhile waits for milliseconds only, large enough that
its overhead is some percent."""

LARGEST_BYTES: Final = 64 * 1024**3
"""Beyond it an object store does better: the file of the store would grow past what is copied or checked in a night."""

UNKNOWN: Final = "application/octet-stream"

# The same on every machine and in every version of Python, which `mimetypes` is not.
_MEDIA_TYPES: Final = {
    "avif": "image/avif",
    "bz2": "application/x-bzip2",
    "css": "text/css",
    "csv": "text/csv",
    "db": "application/vnd.sqlite3",
    "diff": "text/x-diff",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "gif": "image/gif",
    "gz": "application/gzip",
    "htm": "text/html",
    "html": "text/html",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "js": "text/javascript",
    "json": "application/json",
    "jsonl": "application/jsonl",
    "log": "text/plain",
    "md": "text/markdown",
    "mp3": "audio/mpeg",
    "mp4": "video/mp4",
    "parquet": "application/vnd.apache.parquet",
    "patch": "text/x-diff",
    "pdf": "application/pdf",
    "png": "image/png",
    "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "py": "text/x-python",
    "sqlite": "application/vnd.sqlite3",
    "svg": "image/svg+xml",
    "tar": "application/x-tar",
    "toml": "application/toml",
    "tsv": "text/tab-separated-values",
    "txt": "text/plain",
    "wav": "audio/wav",
    "webm": "video/webm",
    "webp": "image/webp",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "xml": "application/xml",
    "yaml": "application/yaml",
    "yml": "application/yaml",
    "zip": "application/zip",
    "zst": "application/zstd",
}


def check_name(name: object) -> str:
    """The name of an artifact: a label that a line can hold. Slashes and dots are part of it, and lead nowhere."""
    if not isinstance(name, str):
        raise UsageError(f"the name {name!r} of an artifact is {type(name).__name__}: make it text, str(…)")
    if not 0 < len(name) <= NAME_LONGEST:
        raise UsageError(
            f"the name of an artifact has 1 to {NAME_LONGEST} characters, {name[:40]!r} has {len(name)}"
        )
    if not name.isprintable():
        raise UsageError(f"the name of an artifact holds no control characters, not {name!r}")
    return name


def media_type(name: str) -> str:
    """What the name says about the content; nobody has looked into it."""
    _, dot, suffix = name.rpartition(".")
    return _MEDIA_TYPES.get(suffix.lower(), UNKNOWN) if dot else UNKNOWN
