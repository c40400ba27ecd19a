"""LangGraph with its savers of SQLite or (`--url`) PostgreSQL: one node a step, `durability="sync"`: saved before the
next node starts.

`--saver async` is the asynchronous saver, `--saver sync` the synchronous one (one agent only).
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypedDict

from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from bench.workload import Tally, answer, leave, pause, pauses_of, result_of_step

CONNECTIONS = 20
tally = Tally(expected=0)


class State(TypedDict):
    number: int
    last: dict[str, Any]


class Agent:
    """One agent: its graph's node closes one step's window and opens the next, so that saving counts."""

    def __init__(self, number: int, steps: int, alone: bool) -> None:
        self.steps = steps
        self.plan = [0.0] * steps if alone else pauses_of(number, steps)
        self.began_s = 0.0

    def turn(self, number: int) -> None:
        if number:
            tally.end(self.began_s)
        self.began_s = tally.begin()

    async def work(self, state: State) -> State:
        number = state["number"]
        self.turn(number)
        await pause(self.plan[number])
        return {"number": number + 1, "last": result_of_step(number)}

    def work_sync(self, state: State) -> State:
        number = state["number"]
        self.turn(number)
        return {"number": number + 1, "last": result_of_step(number)}

    def follow(self, state: State) -> str:
        return "work" if state["number"] < self.steps else END

    def graph(self, body: Any, saver: Any) -> Any:
        builder = StateGraph(State)
        builder.add_node("work", body)
        builder.add_edge(START, "work")
        builder.add_conditional_edges("work", self.follow)
        return builder.compile(checkpointer=saver)


def config(number: int, steps: int) -> dict[str, Any]:
    return {"configurable": {"thread_id": f"agent-{number}"}, "recursion_limit": steps + 10}


@asynccontextmanager
async def pooled(url: str) -> AsyncIterator[AsyncPostgresSaver]:
    """As its documentation sets it up, with connections for many."""
    settings = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    async with AsyncConnectionPool(url, min_size=CONNECTIONS, max_size=CONNECTIONS, kwargs=settings) as pool:
        yield AsyncPostgresSaver(pool)  # type: ignore[arg-type]


def async_saver(agents: int, folder: Path, url: str | None) -> AbstractAsyncContextManager[Any]:
    if url is None:
        return AsyncSqliteSaver.from_conn_string(str(folder / "langgraph.sqlite"))
    return AsyncPostgresSaver.from_conn_string(url) if agents == 1 else pooled(url)


def sync_saver(folder: Path, url: str | None) -> AbstractContextManager[Any]:
    if url is None:
        return SqliteSaver.from_conn_string(str(folder / "langgraph.sqlite"))
    return PostgresSaver.from_conn_string(url)


async def asynchronous(agents: int, steps: int, folder: Path, url: str | None) -> None:
    async with async_saver(agents, folder, url) as saver:
        await saver.setup()
        tally.expected = agents * steps

        async def one(number: int) -> None:
            this = Agent(number, steps, agents == 1)
            graph = this.graph(this.work, saver)
            await graph.ainvoke({"number": 0, "last": {}}, config(number, steps), durability="sync")
            tally.end(this.began_s)

        await asyncio.gather(*[one(number) for number in range(agents)])
    answer(tally.figures())


def synchronous(steps: int, folder: Path, url: str | None) -> None:
    with sync_saver(folder, url) as saver:
        saver.setup()
        tally.expected = steps
        this = Agent(0, steps, alone=True)
        graph = this.graph(this.work_sync, saver)
        graph.invoke({"number": 0, "last": {}}, config(0, steps), durability="sync")
        tally.end(this.began_s)
    answer(tally.figures())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--agents", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--saver", choices=["async", "sync"], default="async")
    parser.add_argument("--url")
    options = parser.parse_args()
    if options.saver == "sync":
        synchronous(options.steps, options.folder, options.url)
    else:
        asyncio.run(asynchronous(options.agents, options.steps, options.folder, options.url))
    leave()
