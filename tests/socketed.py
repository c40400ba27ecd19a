"""Attempts whose Context talks to its worker through a socket, in one process: the second port under the tests of the
first."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from holdfast.clock import SystemClock
from holdfast.process.child import Surroundings, serve
from holdfast.process.frames import MAX_FROM_WORKER, PROTOCOL, Begin, Hello, Origin, from_worker
from holdfast.process.wire import Wire
from holdfast.rules.limits import Limits
from holdfast.serving import Serving


class Served:
    """What stands for a process: a task that serves the other end of a socket pair."""

    def __init__(self, wire: Wire, end: Wire, serving: asyncio.Task[None]) -> None:
        self.wire = wire
        self.end = end
        self._serving = serving
        self._killed = False
        self.oom_kills = 0

    def watched(self, seen: object, thresholds: object = None) -> None:
        """Nobody looks."""

    def hold(self, held: bool) -> None:
        """It uses nothing of its own."""

    def kill(self) -> None:
        if not self._killed:
            self._killed = True
            self._serving.cancel()

    async def ended(self) -> int:
        await asyncio.wait([self._serving])
        self.end.close()
        await self.wire.finish()
        if not self._serving.cancelled():
            self._serving.result()
        return -9 if self._killed else 0


class Here:
    """Begins them, beside the worker."""

    def __init__(self, serving: Serving) -> None:
        self._agents = serving.agents
        self._around = Surroundings(
            on_gone=lambda: None, alone=False, clock=serving._clock, chance=serving._chance
        )
        self._begun: list[Served] = []

    async def take(self, limits: Limits, workspace: Path | None) -> Served:
        ours, theirs = socket.socketpair()
        end = await Wire.over(theirs, max_frame=MAX_FROM_WORKER)
        serving = asyncio.get_running_loop().create_task(self._serve(end), name="process")
        self._begun.append(Served(await Wire.over(ours), end, serving))
        return self._begun[-1]

    async def _serve(self, end: Wire) -> None:
        end.send(Hello(PROTOCOL))
        begin = await end.receive(from_worker)
        if isinstance(begin, Begin):
            run = begin.claim.run
            workspace = None if begin.workspace is None else Path(begin.workspace)
            around = replace(self._around, workspace=workspace)
            await serve(end, begin.claim, self._agents[run.agent, run.version], around)

    async def close(self) -> None:
        for served in self._begun:
            served.kill()
            await served.ended()
            for wire in (served.end, served.wire):
                wire.abort()
                await wire.closed()


def through_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the Contexts of all workers talk to them through sockets."""
    init = Serving.__init__

    def through_a_socket(serving: Serving, *args: Any, **options: Any) -> None:
        init(serving, *args, **options)
        if isinstance(serving._clock, SystemClock):  # no socket is as quick as virtual time
            serving.origins = {
                (name, version): Origin("", name, version, ()) for name, version in serving.agents
            }

    monkeypatch.setattr(Serving, "__init__", through_a_socket)

    async def here(serving: Serving) -> Here:
        return Here(serving)

    monkeypatch.setattr(Serving, "_new_spawner", here)
