"""Effects and long steps in real workers that are really killed and stopped."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter

import pytest

from holdfast import Done, NotDone
from holdfast.client import Client
from holdfast.model import RunState
from holdfast.store import open_store
from tests.processes import agents
from tests.processes.harness import Scene, freeze, lines, serve, stop, wait_until


def held(scene: Scene) -> int:
    """The entry that the run is held for."""
    run = scene.run()
    assert (run.state, run.reason) == (RunState.WAITING, "effect_unknown"), (run.state, run.failure)
    assert run.failure is not None
    return run.failure.entries[0]


@pytest.mark.parametrize("seen", ["begun", "paid"], ids=["before the effect", "between effect and record"])
def test_a_kill_in_the_middle_of_an_effect_is_asked_about_and_never_repeated(scene: Scene, seen: str) -> None:
    scene.start(agents.payer, str(scene.folder), 0.4)
    worker = serve(scene.url)
    wait_until(lambda: lines(scene.folder, seen))
    stop(worker, signal.SIGKILL)
    stop(serve(scene.url, until_idle=True), 0)
    entry = held(scene)
    assert lines(scene.folder, "begun") == ["pay"]
    paid = lines(scene.folder, "paid")
    scene.steer("settle_effect", entry=entry, verdict=Done("paid") if paid else NotDone())
    stop(serve(scene.url, until_idle=True), 0)
    assert scene.run().result == b'"paid"'
    assert lines(scene.folder, "paid") == ["pay"]


def test_a_worker_that_is_stopped_in_an_effect_leaves_an_intent_that_the_next_one_heeds(scene: Scene) -> None:
    scene.start(agents.payer, str(scene.folder), 0.5)
    zombie = serve(scene.url, lease=1.5, until_idle=True)
    wait_until(lambda: lines(scene.folder, "begun"))
    freeze(zombie, scene.folder / "holdfast.db")
    second = serve(scene.url, lease=1.5, until_idle=True)
    wait_until(lambda: scene.run().state is RunState.WAITING)
    entry = held(scene)
    zombie.send_signal(signal.SIGCONT)
    stop(second, 0)
    stop(zombie, 0)
    assert held(scene) == entry
    assert lines(scene.folder, "begun") == ["pay"]
    assert [str(one.status) for one in scene.entries()] == ["intended"]


def test_a_long_step_goes_on_from_its_cursor_after_every_kill(scene: Scene) -> None:
    scene.start(agents.reader, str(scene.folder), 40, 0.02)
    kills = 0
    while scene.run().state is not RunState.SUCCEEDED and kills < 5:
        worker = serve(scene.url, until_idle=True)
        seen = len(lines(scene.folder, "acked"))
        wait_until(lambda seen=seen: len(lines(scene.folder, "acked")) > seen + 5)  # type: ignore[misc]
        stop(worker, signal.SIGKILL)
        kills += 1
    stop(serve(scene.url, until_idle=True), 0)
    assert scene.run().result == b"40"
    executed = Counter(lines(scene.folder, "executed"))
    assert len(executed) == 40
    assert sum(executed.values()) - 40 <= kills  # the page in flight, and no other
    assert [entry.status for entry in scene.entries()] == ["ok"]


def test_another_process_sees_streamed_text_while_the_step_runs(scene: Scene) -> None:
    scene.start(agents.reader, str(scene.folder), 60, 0.02)
    worker = serve(scene.url, until_idle=True)

    async def watching() -> tuple[str, float]:
        async with open_store(scene.url) as store:
            handle = await Client(store).get("r")
            async with asyncio.timeout(30):
                async for piece in handle.output():
                    began = time.monotonic()
                    async for later in handle.output(piece.n):
                        return later.text, time.monotonic() - began
        raise AssertionError("nothing was streamed")

    text, waited_s = asyncio.run(watching())
    assert text.startswith("page ")
    assert waited_s < 5
    stop(worker, 0)
    assert scene.run().state is RunState.SUCCEEDED
