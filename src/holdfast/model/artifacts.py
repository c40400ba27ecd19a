"""Artifacts: what a run made and keeps, known by the hash of its content."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from holdfast.model.changes import Beside


class Artifact(Struct, frozen=True, kw_only=True):
    """What a run made and keeps. `id` is the SHA-256 of the content, in hexadecimal; `name` is a label, never a path.

    `media_type` is guessed from the name, `at` is when it was recorded, in UTC.
    """

    id: str
    name: str
    size_bytes: int
    media_type: str
    at: datetime


class NewArtifact(Beside, frozen=True):
    """An artifact that comes into being with its entry. Its content (`id`, in hexadecimal) is in the store already."""

    name: str
    id: str
    media_type: str


class Content(Struct, frozen=True, kw_only=True):
    """Stored bytes: their SHA-256 in hexadecimal, their size, and in how many chunks they lie."""

    id: str
    size_bytes: int
    chunks: int
