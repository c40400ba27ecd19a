"""The client: starts runs in a store and finds the ones that are there."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Final, TypeVar, TypeVarTuple

from holdfast import codec
from holdfast.agents import Agent
from holdfast.client.handle import RunHandle
from holdfast.client.schedules import Schedules
from holdfast.client.view import RunView, decode_json, run_view
from holdfast.duration import Duration, micros
from holdfast.errors import UsageError
from holdfast.model import Created, NewRun, RunFilter, RunState
from holdfast.rules.lanes import Concurrency
from holdfast.rules.tags import checked
from holdfast.store.protocol import Store

R = TypeVar("R")
Ts = TypeVarTuple("Ts")

ID_LONGEST: Final = 200
BATCH: Final = 500  # runs created in one transaction: a few milliseconds of the write lock
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's: nothing that reads as something else
_RANDOM_LENGTH: Final = 8  # 40 bits: an agent meets its own id by chance once in a million runs


class Client:
    """Starts runs and hands out handles. Stateless: any number of clients, in any process, see the same runs."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.schedules = Schedules(store)

    async def start(
        self,
        agent: Agent[*Ts, R],
        *args: *Ts,
        id: str | None = None,
        priority: int = 0,
        queue: str | None = None,
        delay: Duration = 0,
        tags: Mapping[str, str] | None = None,
        concurrency: Concurrency | None = None,
    ) -> RunHandle[R]:
        """Queue a run of `agent` and return at once; it is durable then. Typed after the agent.

        Idempotent by `id`: the same agent and input give a handle on the run that is there. Another agent or input
        under the same id raises Conflict; arguments that do not fit raise InvalidInput. A smaller `priority` goes
        first. Without `id` the run is called after its agent, with a random ending. `tags` are what lists are
        searched by; a run that was there keeps its own. `concurrency` replaces the agent's: how many runs with one key
        run at once.
        """
        payload = codec.input_json(agent.fn, args)
        created = await self.create(
            agent,
            payload,
            id=id,
            priority=priority,
            queue=queue,
            delay=delay,
            tags=tags,
            concurrency=concurrency,
        )
        return self.handle(agent, created.run.id)

    async def create(
        self,
        agent: Agent[*Ts, R],
        payload: bytes,
        *,
        id: str | None = None,
        priority: int = 0,
        queue: str | None = None,
        delay: Duration = 0,
        claimable: bool = True,
        tags: Mapping[str, str] | None = None,
        concurrency: Concurrency | None = None,
    ) -> Created:
        """As `start`, from input that is JSON already, as `codec.normalise_input` gives it.

        `claimable=False` leaves the run to whoever claims it by id (`holdfast run` does).
        """
        new = _new_run(
            agent,
            payload,
            id=id,
            priority=priority,
            queue=queue,
            delay=delay,
            claimable=claimable,
            tags=tags,
            concurrency=concurrency,
        )
        created = await self.store.create_run(new)
        if created.existed and id is None:  # met by chance: not ours
            return await self.store.create_run(replace(new, id=new_id(agent.name)))
        return created

    async def start_many(
        self,
        agent: Agent[*Ts, R],
        inputs: Iterable[tuple[*Ts]],
        *,
        id: Callable[[int], str] | None = None,
        priority: int = 0,
        queue: str | None = None,
        delay: Duration = 0,
        tags: Mapping[str, str] | None = None,
        concurrency: Concurrency | None = None,
    ) -> list[RunHandle[R]]:
        """Queue a run of `agent` for each tuple of arguments, 500 in a transaction: ten times as fast as one by one.

        `id` names the run of the input with this number; with it, calling again after an error goes on where it ended:
        runs that are there are found. The other options, and what is raised, are those of `start`.
        """
        handles: list[RunHandle[R]] = []
        numbered = enumerate(inputs)
        while some := list(itertools.islice(numbered, BATCH)):
            new = [
                _new_run(
                    agent,
                    codec.input_json(agent.fn, args),
                    id=None if id is None else id(number),
                    priority=priority,
                    queue=queue,
                    delay=delay,
                    tags=tags,
                    concurrency=concurrency,
                )
                for number, args in some
            ]
            for wanted, created in zip(new, await self.store.create_runs(new), strict=True):
                if created.existed and id is None:  # met by chance: not ours
                    created = await self.store.create_run(replace(wanted, id=new_id(agent.name)))
                handles.append(self.handle(agent, created.run.id))
        return handles

    def handle(self, agent: Agent[*Ts, R], run_id: str) -> RunHandle[R]:
        """A typed handle on a run of `agent`; asks nothing of the store."""
        shape = codec.Shape.of(agent.fn, f"the result of agent {agent.name!r}")

        def decode(payload: bytes) -> R:
            value: R = shape.decode(payload)  # type: ignore[assignment]  # into the declared return type
            return value

        return RunHandle(self.store, run_id, decode)

    async def get(self, run_id: str) -> RunHandle[object]:
        """A handle on any run; its result comes as plain JSON values. Raises RunNotFound."""
        await self.store.get_run(run_id)
        return RunHandle(self.store, run_id, decode_json)

    async def runs(
        self,
        *,
        agent: str | None = None,
        states: Collection[RunState] = (),
        queue: str | None = None,
        id_prefix: str | None = None,
        tags: Mapping[str, str] | None = None,
        text: str | None = None,
        limit: int = 100,
    ) -> list[RunView]:
        """Runs that fit, newest first, at most `limit`, without results and checkpoints.

        Each of `tags` must be there, with its value unless that is ""; `text` is looked for in ids, agents, tags, open
        steps, progress and errors.
        """
        chosen = RunFilter(
            agent=agent,
            states=frozenset(states),
            queue=queue,
            id_prefix=id_prefix,
            tags=tuple((tags or {}).items()),
            text=text,
            limit=limit,
        )
        return await self.views(chosen)

    async def views(self, chosen: RunFilter) -> list[RunView]:
        """The runs that a filter chooses, as `runs` gives them."""
        runs = await self.store.list_runs(chosen)
        workers = {one.key: one for one in await self.store.list_workers() if one.alive} if runs else {}
        now_us = await self.store.now()
        tags = await self.store.get_tags([run.key for run in runs]) if runs else {}
        return [
            run_view(
                run,
                now_us=now_us,
                tags=tags.get(run.key),
                progress=await self.store.get_progress(run.key),
                worker=workers.get(run.worker) if run.worker is not None else None,
            )
            for run in runs
        ]


def _new_run(
    agent: Agent[*Ts, R],
    payload: bytes,
    *,
    id: str | None,
    priority: int,
    queue: str | None,
    delay: Duration,
    claimable: bool = True,
    tags: Mapping[str, str] | None,
    concurrency: Concurrency | None,
) -> NewRun:
    limited = concurrency or agent.concurrency
    return NewRun(
        id=checked_id(id) if id is not None else new_id(agent.name),
        agent=agent.name,
        version=agent.version,
        input=payload,
        queue=queue or agent.queue,
        priority=priority,
        delay_us=micros(delay),
        deadline_us=agent.deadline_us,
        claimable=claimable,
        tags=checked(tags or {}),
        lane=None if limited is None else limited.lane(codec.decode_input(agent.fn, payload)),
    )


def new_id(agent_name: str) -> str:
    """An id for a run of this agent: its name and a random ending."""
    return f"{agent_name}-{''.join(secrets.choice(_ALPHABET) for _ in range(_RANDOM_LENGTH))}"


def checked_id(run_id: str) -> str:
    """The id, if people can type it and a line can hold it. Raises UsageError."""
    if not run_id or len(run_id) > ID_LONGEST:
        raise UsageError(f"a run's id has 1 to {ID_LONGEST} characters, this one has {len(run_id)}")
    if not run_id.isprintable() or any(character.isspace() for character in run_id):
        raise UsageError(f"a run's id holds no spaces and no control characters, not {run_id!r}")
    if run_id.startswith("-"):
        raise UsageError(f"a run's id cannot begin with a dash (the shell reads it as an option): {run_id!r}")
    return run_id
