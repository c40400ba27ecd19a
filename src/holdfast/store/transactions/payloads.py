"""Payloads in the file: small ones in their row, large ones compressed in `blobs`, verified on every load."""

from __future__ import annotations

import hashlib
import sys
from typing import Final

from holdfast.errors import PayloadTooLarge, StoreCorrupt
from holdfast.store.transactions.connection import Connection

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

INLINE_BYTES: Final = 8 * 1024  # about a page: larger rows would spread the feed over overflow pages
LIMIT_BYTES: Final = 64 * 1024 * 1024  # it passes through memory several times on its way
_LEVEL: Final = 3


def check_size(payload: bytes, what: str) -> None:
    """Raise PayloadTooLarge over the hard limit, naming `what`."""
    if len(payload) > LIMIT_BYTES:
        raise PayloadTooLarge(
            f"{what} is {len(payload) / 2**20:.1f} MiB; the limit is {LIMIT_BYTES // 2**20} MiB: "
            "write it to a file and record the path"
        )


def keep(connection: Connection, run: int, payload: bytes) -> tuple[bytes | None, int | None]:
    """Where `payload` went: itself when it is small enough for its row, else the key of its blob."""
    if len(payload) <= INLINE_BYTES:
        return payload, None
    encoding, body = pack(payload)
    key: int = connection.value("payloads.insert_blob", (run, digest(payload), len(payload), encoding, body))
    return None, key


def load(connection: Connection, inline: bytes | None, blob: int | None, what: str) -> bytes:
    """The payload that `keep` kept. Raises StoreCorrupt, naming `what`, when it is not the one."""
    if blob is None:
        return inline or b""
    row = connection.row("payloads.load_blob", (blob,))
    payload = None if row is None else unpack(row[2], row[1], row[0])
    if payload is None:
        raise StoreCorrupt(f"{what}: the stored payload fails its checksum")
    return payload


def digest(payload: bytes) -> bytes:
    """The hash that a stored payload is verified by."""
    return hashlib.sha256(payload).digest()


def pack(payload: bytes) -> tuple[str, bytes]:
    """The encoding and the encoded bytes, whichever is smaller."""
    if len(payload) > INLINE_BYTES:
        body = zstd.compress(payload, level=_LEVEL)
        if len(body) < len(payload):
            return "zstd", body
    return "raw", payload


def unpack(body: bytes, encoding: str, sha256: bytes) -> bytes | None:
    """The payload, or None when it cannot be decoded or does not match its hash."""
    try:
        payload = zstd.decompress(body) if encoding == "zstd" else body
    except zstd.ZstdError:
        return None
    return payload if digest(payload) == sha256 else None
