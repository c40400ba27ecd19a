"""Memory does not grow with what is moved: nothing is held but a batch."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec import structs

from holdfast.model import EntryKind, NewArtifact, Park, Reason
from holdfast.store import open_store
from holdfast.testing.conformance import MovableClock
from holdfast.testing.conformance.place import commit_one, register, start, step, steps

ENTRIES = 40_000
MIB = 96
CACHE_MIB = 64
"""What SQLite keeps of the file's pages, however large it is."""
SLACK_MIB = 40

MEASURED = """
import resource, subprocess, sys
code = subprocess.run([sys.executable, "-m", "holdfast", *sys.argv[1:]]).returncode
unit = 1024 * 1024 if sys.platform == "darwin" else 1024
print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // unit)
"""


async def make(path: Path, entries: int, mib: int) -> None:
    async with open_store(path, clock=MovableClock()) as store:
        attempt = await start(store, await register(store))
        for first in range(0, entries, 500):
            await attempt.commit(*steps(500, start=first))
        upload, sha256 = await store.begin_content(), hashlib.sha256()
        for n in range(mib):
            chunk = os.urandom(1024 * 1024)
            sha256.update(chunk)
            await store.add_chunk(upload, n, chunk)
        content = await store.seal_content(upload, sha256.hexdigest(), mib * 1024 * 1024)
        change = attempt.change(step("keep", kind=EntryKind.ARTIFACT))
        new = NewArtifact(name="big", id=content.id, media_type="x/y")
        await commit_one(store, structs.replace(change, beside=(new,)))
        attempt.position += 1
        await attempt.settle(Park(reason=Reason.PAUSED))


def highest_mib(folder: Path, *arguments: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=55,
        check=True,
    )
    code, mib = done.stdout.split()
    assert code == "0", done.stderr
    return int(mib)


@pytest.mark.timeout(240)  # two files are made, and four processes read or write them
def test_memory_does_not_grow_with_what_is_moved(tmp_path: Path) -> None:
    for name, entries, mib in (("small", 500, 1), ("large", ENTRIES, MIB)):
        asyncio.run(make(tmp_path / f"{name}.db", entries, mib))
    grown: dict[str, int] = {}
    for verb in ("export", "import"):
        used = {}
        for name in ("small", "large"):
            store = f"{name}.db" if verb == "export" else f"{name}-new.db"
            which = ["--all"] if verb == "export" else []
            used[name] = highest_mib(tmp_path, verb, *which, f"{name}.jsonl", "--store", store)
        grown[verb] = used["large"] - used["small"]
    assert (tmp_path / "large.jsonl").stat().st_size > MIB * 1024 * 1024
    assert grown["export"] <= CACHE_MIB + SLACK_MIB, grown
    assert grown["import"] <= CACHE_MIB + SLACK_MIB, grown
