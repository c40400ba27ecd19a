"""`artifacts` and `artifact get`: what a run made and keeps."""

from __future__ import annotations

import shlex
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import click

from holdfast.cli.exits import Exit
from holdfast.cli.files import whole_file
from holdfast.cli.options import common, on_run, run_argument
from holdfast.cli.saying import say
from holdfast.cli.views import jsonable, print_document
from holdfast.client import Client, RunHandle
from holdfast.errors import ArtifactNotFound, UsageError
from holdfast.model import Artifact


@click.command()
@run_argument
@common
def artifacts(run_id: str, store: str | None, as_json: bool) -> int:
    """What a run made and keeps: name, size, kind and id."""

    async def tell(_: Client, handle: RunHandle[object]) -> int:
        kept = await handle.artifacts()
        if as_json:
            print_document(kept)
        elif not kept:
            say(f"run {handle.id} has no artifact yet", err=True)
        else:
            from holdfast.cli.console import console
            from holdfast.cli.render import artifacts_table

            console().print(artifacts_table(kept))
            say(f"`holdfast artifact get {shlex.quote(handle.id)} NAME -o FILE` writes one", err=True)
        return Exit.SUCCEEDED

    return on_run(store, run_id, tell)


@click.command()
@click.argument("verb", metavar="get", type=click.Choice(["get"]))
@run_argument
@click.argument("which", metavar="NAME|ID")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write it there, whole or not at all. [default: stdout]",
)
@common
def artifact(
    verb: str, run_id: str, which: str, output: Path | None, store: str | None, as_json: bool
) -> int:
    """`artifact get RUN NAME|ID`: the bytes of an artifact, verified. Of several with one name, the newest."""

    async def get(_: Client, handle: RunHandle[object]) -> int:
        one = _chosen(await handle.artifacts(), which, handle.id)
        if output is None:
            if as_json or sys.stdout.isatty():
                raise UsageError("the bytes would go to the terminal, or among the JSON: give -o FILE")
            await _to_stdout(handle.open_artifact(one.id))
            return Exit.SUCCEEDED
        await _to_file(handle.open_artifact(one.id), output)
        if as_json:
            told = jsonable(one)
            assert isinstance(told, dict)
            print_document({**told, "file": str(output)})
        else:
            say(f"{output}: {one.size_bytes:,} bytes, sha256 {one.id}", err=True)
        return Exit.SUCCEEDED

    return on_run(store, run_id, get)


def _chosen(kept: Sequence[Artifact], which: str, run_id: str) -> Artifact:
    for one in reversed(kept):
        if which in (one.name, one.id):
            return one
    from holdfast.cli.app import did_you_mean

    begins = {one.id: one for one in kept if len(which) >= 6 and one.id.startswith(which.lower())}
    if len(begins) == 1:
        return next(iter(begins.values()))
    hint = did_you_mean(which, [one.name for one in kept])
    raise ArtifactNotFound(
        f"run {run_id} has no artifact {which!r}{hint or f'; `holdfast artifacts {run_id}` lists what it has'}"
    )


async def _to_stdout(chunks: AsyncIterator[bytes]) -> None:
    out = sys.stdout.buffer
    async for chunk in chunks:
        out.write(chunk)
    out.flush()


async def _to_file(chunks: AsyncIterator[bytes], output: Path) -> None:
    with whole_file(output) as file:
        async for chunk in chunks:
            file.write(chunk)
