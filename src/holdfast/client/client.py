"""The client: starts runs in a store and finds the ones that are there."""

from __future__ import annotations

import hashlib
import itertools
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeVar, TypeVarTuple

from holdfast import codec
from holdfast.agents import Agent
from holdfast.client.budgets import Budgets
from holdfast.client.handle import RunHandle
from holdfast.client.schedules import Schedules
from holdfast.client.view import ApprovalView, RunView, approval_view, decode_json, run_view
from holdfast.client.workers import Workers
from holdfast.duration import Duration, micros
from holdfast.errors import UsageError
from holdfast.lanes import lane_of
from holdfast.model import Created, Glimpse, NewRun, NewSignal, Run, RunFilter, RunState
from holdfast.rules import labels
from holdfast.rules.budget import Budget, check_budget
from holdfast.rules.ids import checked_id
from holdfast.rules.lanes import Concurrency
from holdfast.rules.tags import checked
from holdfast.rules.waits import check_signal
from holdfast.store.protocol import Store

R = TypeVar("R")
Ts = TypeVarTuple("Ts")

BATCH: Final = 500  # runs created in one transaction: a few milliseconds of the write lock
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's: nothing that reads as something else
_RANDOM_LENGTH: Final = 8  # 40 bits: an agent meets its own id by chance once in a million runs


class Client:
    """Starts runs and hands out handles. Stateless: any number of clients, in any process, see the same runs."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.schedules = Schedules(store)
        self.budgets = Budgets(store)
        self.workers = Workers(store)

    async def start(
        self,
        agent: Agent[*Ts, R],
        *args: *Ts,
        id: str | None = None,
        priority: int = 0,
        queue: str | None = None,
        delay: Duration = 0,
        tags: Mapping[str, str] | None = None,
        signal: tuple[str, object] | None = None,
        dedup: str | None = None,
        concurrency: Concurrency | None = None,
        budget: Budget | None = None,
        needs: Collection[str] | None = None,
    ) -> RunHandle[R]:
        """Queue a run of `agent` and return at once; it is durable then. Typed after the agent.

        Idempotent by `id`: the same agent and input give a handle on the run that is there. Another agent or input
        under the same id raises Conflict; arguments that do not fit raise InvalidInput. A smaller `priority` goes
        first. Without `id` the run is called after its agent, with a random ending. `tags` are what lists are
        searched by; a run that was there keeps its own.

        `signal=(name, data)` is sent with the start, in one transaction: to the new run, or to the one that is there.
        It counts once by `dedup`; without one, once for its name and data. It needs an `id`.
        `concurrency` replaces the agent's: how many runs with one key run at once; `budget` and `needs`, the labels
        of a worker that it asks for, replace the agent's, too.
        """
        payload = codec.input_json(agent.fn, args)
        first = None if signal is None else new_signal(*signal, dedup)
        created = await self.create(
            agent,
            payload,
            id=id,
            priority=priority,
            queue=queue,
            delay=delay,
            tags=tags,
            signal=first,
            concurrency=concurrency,
            budget=budget,
            needs=needs,
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
        signal: NewSignal | None = None,
        concurrency: Concurrency | None = None,
        budget: Budget | None = None,
        needs: Collection[str] | None = None,
    ) -> Created:
        """As `start`, from input that is JSON already, as `codec.normalise_input` gives it.

        `claimable=False` leaves the run to whoever claims it by id (`holdfast run` does).
        """
        if signal is not None and id is None:
            raise UsageError(
                "a signal with the start needs the run's id: by it the next sender finds the same run"
            )
        new = _new_run(
            agent,
            payload,
            id=id,
            priority=priority,
            queue=queue,
            delay=delay,
            claimable=claimable,
            tags=tags,
            signal=signal,
            concurrency=concurrency,
            budget=budget,
            needs=needs,
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
        budget: Budget | None = None,
        needs: Collection[str] | None = None,
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
                    budget=budget,
                    needs=needs,
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
        top: bool = False,
    ) -> list[RunView]:
        """Runs that fit, newest first, at most `limit`, without results, checkpoints and children.

        Each of `tags` must be there, with its value unless that is ""; `text` is looked for in ids, agents, tags, open
        steps, progress and errors. `top` leaves out children of other runs: `tree` lists those.
        """
        chosen = RunFilter(
            agent=agent,
            states=frozenset(states),
            queue=queue,
            id_prefix=id_prefix,
            tags=tuple((tags or {}).items()),
            text=text,
            limit=limit,
            top=top,
        )
        return await self.views(chosen)

    async def approvals(self, *, limit: int = 100) -> list[ApprovalView]:
        """The open questions of all runs, at most `limit`: the overdue ones first, then as they were asked.

        `(await client.get(view.run)).approve(choice, question=view)` answers one.
        """
        now_us = await self.store.now()
        return [approval_view(one, now_us) for one in await self.store.list_open_approvals(limit)]

    async def views(self, chosen: RunFilter) -> list[RunView]:
        """The runs that a filter chooses, as `runs` gives them."""
        return await self._views(await self.store.list_runs(chosen))

    async def tree(self, run_ids: Collection[str], limit: int = 10_000) -> list[RunView]:
        """What these runs started, and what that started, at most `limit`: each after its `parent`."""
        found: list[Run] = []
        level = list(run_ids)
        while level and len(found) < limit:
            kin = await self.store.list_children(level, limit - len(found))
            found += [child.run for child in kin]
            level = [child.run.id for child in kin]
        return await self._views(found)

    async def _views(self, runs: Sequence[Run]) -> list[RunView]:
        workers = {one.key: one for one in await self.store.list_workers() if one.alive} if runs else {}
        now_us = await self.store.now()
        keys = [run.key for run in runs]
        tags = await self.store.get_tags(keys) if runs else {}
        parents = await self.store.parents_of(keys) if runs else {}
        glimpses = await self.store.glimpse(keys) if runs else {}
        return [
            run_view(
                run,
                now_us=now_us,
                tags=tags.get(run.key),
                parent=parents.get(run.key),
                glimpse=glimpses.get(run.key) or Glimpse(),
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
    signal: NewSignal | None = None,
    concurrency: Concurrency | None,
    budget: Budget | None,
    needs: Collection[str] | None,
) -> NewRun:
    check_budget(budget, f"a run of {agent.name!r}")
    limited = budget or agent.budget
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
        signal=signal,
        lane=lane_of(agent, payload, concurrency),
        budget=None if limited is None else limited.terms,
        needs=labels.checked(agent.needs if needs is None else needs, f"a run of {agent.name!r}"),
    )


def new_signal(name: str, data: object, dedup: str | None) -> NewSignal:
    """A signal to be sent with a start. Raises UsageError, NotSerializable."""
    payload = codec.encode(data, what=f"the data of signal {name!r}")
    once = f"start:{check_signal(name)}:{hashlib.sha256(payload).hexdigest()}"
    return NewSignal(name=name, payload=payload, dedup=once if dedup is None else dedup)


def new_id(agent_name: str) -> str:
    """An id for a run of this agent: its name and a random ending."""
    letters = [
        _ALPHABET[byte % len(_ALPHABET)] for byte in secrets.token_bytes(_RANDOM_LENGTH)
    ]  # 32: none is likelier
    return f"{agent_name}-{''.join(letters)}"
