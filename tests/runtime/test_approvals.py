"""Approvals: asked once, answered once, parked at no cost; killed and answered at every instant."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from holdfast import (
    Approval,
    Client,
    Context,
    FatalError,
    RetryPolicy,
    RunFailed,
    RunHandle,
    StepFailed,
    Worker,
    agent,
    open_store,
)
from holdfast.channel import ChannelPort
from holdfast.client import ApprovalView
from holdfast.clock import SystemClock
from holdfast.errors import ApprovalNotFound, Refused, StoreUnavailable, UsageError, WaitTimedOut
from holdfast.model import (
    Change,
    CloseApproval,
    Committed,
    Entry,
    EntryKind,
    EntryStatus,
    Identity,
    NewApproval,
    NewWorker,
    Note,
    Reason,
    RefusedChange,
    Release,
    RunState,
    Served,
)
from holdfast.store.sqlite import SQLiteStore
from holdfast.testing import assert_survives_crashes
from holdfast.writer import StoreChannel, Writer
from tests.faults import Engine, Interrupted

ONCE = RetryPolicy(attempts=1)
executed: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def nothing_done() -> None:
    executed.clear()


async def act(word: str) -> str:
    executed[word] += 1
    return word.upper()


async def open_ones(engine: Engine) -> list[ApprovalView]:
    return await engine.client.approvals()


async def told(engine: Engine) -> list[str]:
    """The events about questions, in order."""
    return [event.type for event in await engine.events() if event.type.startswith("approval.")]


async def statuses(engine: Engine) -> list[str]:
    return [one.status.value for one in await (await engine.client.get("r")).approvals()]


@agent(name="deploy", retry=ONCE)
async def deploy(ctx: Context) -> list[str]:
    built = await ctx.step(act, "build")
    first = await ctx.approval("Deploy?", ["yes", "no"], context={"built": built})
    shipped = await ctx.step(act, "ship")
    second = await ctx.approval("Announce?", ["yes", "no"])
    return [built, first.choice, str(first.by), first.comment, shipped, second.choice]


DEPLOYED = ["BUILD", "yes", "ann", "go", "SHIP", "no"]


# --- asking, waiting, going on --------------------------------------------------------------------------------


async def test_a_question_is_asked_parked_on_and_answered(engine: Engine) -> None:
    handle = await engine.client.start(deploy, id="r")
    await engine.work(deploy)
    run = await engine.store.get_run("r")
    assert (run.state, run.reason, run.available_at_us, run.worker) == (
        RunState.WAITING,
        Reason.APPROVAL,
        None,
        None,
    )
    (view,) = await open_ones(engine)
    assert (view.run, view.agent, view.question, view.options, view.context) == (
        "r",
        "deploy",
        "Deploy?",
        ("yes", "no"),
        {"built": "BUILD"},
    )
    await engine.work(deploy)
    assert (await engine.store.get_run("r")).attempts == 1  # nothing looks at it while it waits
    await handle.approve("yes", by="ann", comment="go")
    await engine.work(deploy)
    await handle.approve("no", by="bob")
    await engine.work(deploy)
    assert await handle.result() == DEPLOYED
    assert await told(engine) == ["approval.asked", "approval.answered"] * 2
    assert set(executed.values()) == {1}


async def test_the_answer_is_the_same_on_every_replay(engine: Engine) -> None:
    seen: list[Approval[Any]] = []

    @agent(retry=RetryPolicy(attempts=2, base="1ms"))
    async def twice(ctx: Context) -> str:
        seen.append(await ctx.approval("Sure?"))
        if ctx.attempt == 2:
            raise ConnectionError
        return seen[-1].choice

    handle = await engine.client.start(twice, id="r")
    await engine.work(twice)
    answered = await handle.approve("reject", by="ann", comment="not yet")
    await engine.work(twice)
    assert await handle.result() == "reject"
    assert answered.answered_at is not None
    assert seen == [Approval("reject", "ann", "not yet", answered.answered_at)] * 2


# --- killed at every commit -----------------------------------------------------------------------------------

crashes = pytest.mark.parametrize(
    ("at", "after"), [(at, after) for at in range(1, 6) for after in (False, True)]
)


@crashes
async def test_a_kill_at_any_commit_of_an_approval_asks_once_and_takes_the_answer_once(
    engine: Engine, at: int, after: bool
) -> None:
    handle = await engine.client.start(deploy, id="r")
    for choice, by, comment in (("yes", "ann", "go"), ("no", "bob", "")):
        await engine.work(deploy, crash_at=at, after=after)
        await engine.work(deploy)
        (view,) = await open_ones(engine)
        await handle.approve(choice, question=view, by=by, comment=comment)
    await engine.work(deploy, crash_at=at, after=after)
    await engine.work(deploy)
    assert await handle.result() == DEPLOYED
    assert await statuses(engine) == ["answered", "answered"]
    assert (await told(engine)).count("approval.asked") == 2
    entries = [entry for entry in await engine.entries() if entry.kind == "approval"]
    assert max(Counter(entry.identity for entry in entries).values()) == 1
    assert executed["ship"] <= (1 if after else 2)


# --- answered at every instant of the park ----------------------------------------------------------------------


@agent(name="one", retry=ONCE)
async def one(ctx: Context) -> str:
    return (await ctx.approval("Go on?", ["yes", "no"])).choice


@pytest.mark.parametrize(
    ("name", "at", "after", "asked"),
    [
        ("commit", 1, False, False),  # before the question is durable
        ("commit", 1, True, True),  # it is, and the attempt has not heard of it
        ("read_inbox", 1, False, True),
        ("read_inbox", 1, True, True),  # the inbox was seen without the answer
        ("commit", 2, False, True),  # the park is on its way
        ("commit", 2, True, True),  # parked, and the worker has not heard of it
    ],
)
async def test_an_answer_at_any_instant_of_the_park_is_refused_or_wakes_the_run(
    engine: Engine, name: str, at: int, after: bool, asked: bool
) -> None:
    handle = await engine.client.start(one, id="r")

    async def answer() -> None:
        executed["answered"] += 1
        if not asked:
            with pytest.raises(ApprovalNotFound):
                await handle.approve("yes")
            return
        await handle.approve("yes")

    await engine.work(one, through=lambda store: Interrupted(store, answer, name, at, after))
    assert executed["answered"] == 1
    if not asked:
        await handle.approve("yes")
        await engine.work(one)
    assert await handle.result() == "yes"
    assert await statuses(engine) == ["answered"]


# --- answered twice -------------------------------------------------------------------------------------------


async def test_answering_twice_is_harmless_and_another_answer_says_who_was_first(engine: Engine) -> None:
    handle = await engine.client.start(one, id="r")
    await engine.work(one)
    first = await handle.approve("yes", by="ann")
    assert await handle.approve("yes", by="bob") == first
    await engine.work(one)
    assert await handle.approve("yes") == first  # also when the run has ended
    with pytest.raises(Refused, match=r"ann said 'yes' on \d{4}-\d\d-\d\d"):
        await handle.approve("no", by="bob")
    assert await handle.result() == "yes"


async def test_two_people_at_once_give_one_answer(engine: Engine) -> None:
    handle = await engine.client.start(one, id="r")
    await engine.work(one)
    async with open_store(engine.url) as other:
        bob = await Client(other).get("r")
        answers = await asyncio.gather(
            handle.approve("yes", by="ann"), bob.approve("no", by="bob"), return_exceptions=True
        )
    (given,) = [answer for answer in answers if isinstance(answer, ApprovalView)]
    (refused,) = [answer for answer in answers if isinstance(answer, Refused)]
    assert str(given.by) in str(refused)
    await engine.work(one)
    assert await handle.result() == given.choice


async def test_several_open_questions_must_be_told_apart(engine: Engine) -> None:
    handle = await engine.client.start(both, id="r")
    await engine.work(both)
    first, second = await open_ones(engine)
    with pytest.raises(Refused, match=rf"asks 2 questions.*{first.n}: .*{second.n}: .*--question N"):
        await handle.approve("yes")
    with pytest.raises(ApprovalNotFound, match="no question 99"):
        await handle.approve("yes", question=99)
    await handle.approve("yes", question=second.n)
    await handle.approve("no", question=first)
    await engine.work(both)
    assert sorted(await handle.result()) == sorted([f"{second.question} yes", f"{first.question} no"])
    assert {one.n: one.choice for one in await handle.approvals()} == {first.n: "no", second.n: "yes"}


# --- the end of the time ----------------------------------------------------------------------------------------


@agent(name="hasty", retry=ONCE)
async def hasty(ctx: Context) -> str:
    return (await ctx.approval("Quick?", ["yes", "no"], expires="150ms")).choice


@agent(name="lenient", retry=ONCE)
async def lenient(ctx: Context) -> tuple[str, str | None]:
    answer = await ctx.approval("Quick?", ["yes", "no"], expires="150ms", default="no")
    return answer.choice, answer.by


async def test_without_an_answer_in_time_the_default_counts(engine: Engine) -> None:
    assert await engine.finish(lenient) == ("no", None)
    assert await statuses(engine) == ["expired"]
    assert await told(engine) == ["approval.asked", "approval.expired"]


async def test_without_a_default_the_end_of_the_time_is_raised_and_a_retry_asks_anew(engine: Engine) -> None:
    handle = await engine.client.start(hasty, id="r")
    await engine.work(hasty)
    with pytest.raises(RunFailed, match=r"nobody answered 'Quick\?' in time"):
        await handle.result()
    await handle.retry()
    late = asyncio.create_task(engine.work(hasty))
    while not await open_ones(engine):  # noqa: ASYNC110 - another handle's news
        await asyncio.sleep(0.005)
    await handle.approve("yes")
    await late
    assert await handle.result() == "yes"
    assert await statuses(engine) == ["expired", "answered"]


async def test_code_may_catch_the_end_of_the_time_as_a_timeout_of_waits(engine: Engine) -> None:
    @agent(retry=ONCE)
    async def catching(ctx: Context) -> str:
        try:
            await ctx.approval("Quick?", expires="50ms")
        except WaitTimedOut as late:
            return await ctx.step(act, type(late).__name__)
        return "in time"

    assert await engine.finish(catching) == "APPROVALEXPIRED"


class Behind(SystemClock):
    """A clock that is an hour behind."""

    def wall_us(self) -> int:
        return super().wall_us() - 3_600_000_000


@pytest.mark.parametrize("after", [False, True])
async def test_of_an_answer_and_the_end_of_the_time_the_store_takes_the_first(
    engine: Engine, after: bool
) -> None:
    """The answer is given in time by a clock that is behind, while the attempt closes the question."""
    handle = await engine.client.start(hasty, id="r")
    refused: list[Refused] = []

    class Racing(Interrupted):
        async def commit(self, changes: Sequence[Change]) -> list[Committed | RefusedChange]:
            closes = any(isinstance(thing, CloseApproval) for change in changes for thing in change.beside)
            if closes and not after:
                await self._deed()
            answers = await self._store.commit(changes)
            if closes and after:
                await self._deed()
            return answers

    async def answer() -> None:
        async with SQLiteStore(engine.url.removeprefix("sqlite:///"), clock=Behind()) as behind:
            try:
                await (await Client(behind).get("r")).approve("yes")
            except Refused as error:
                refused.append(error)

    async with open_store(engine.url) as store:
        racing = Racing(store, answer, "", 0, False)
        await Worker(racing, [hasty], until_idle=True).run()  # type: ignore[arg-type]
    if after:
        assert refused
        with pytest.raises(RunFailed, match="nobody answered"):
            await handle.result()
        assert await statuses(engine) == ["expired"]
    else:
        assert await handle.result() == "yes"
        assert await statuses(engine) == ["answered"]


@pytest.mark.parametrize("the_agent", [hasty, lenient], ids=lambda each: each.name)
@crashes
async def test_a_kill_at_any_commit_of_the_end_of_the_time_ends_the_question_once(
    engine: Engine, the_agent: Any, at: int, after: bool
) -> None:
    await engine.client.start(the_agent, id="r")
    await engine.work(the_agent, crash_at=at, after=after)
    await engine.work(the_agent)
    assert await statuses(engine) == ["expired"]
    assert (await told(engine)).count("approval.expired") == 1
    assert (await engine.store.get_run("r")).state.final


# --- branches, races, time-outs of the code's own -----------------------------------------------------------------


@agent(name="both", retry=ONCE)
async def both(ctx: Context) -> list[str]:
    heard: list[str] = []

    async def listen(question: str) -> None:
        async with ctx.branch(question):
            answer = await ctx.approval(question, ["yes", "no"])
            heard.append(f"{question} {answer.choice}")
            await ctx.step(act, question)

    async with asyncio.TaskGroup() as tasks:
        for question in ("one", "two"):
            tasks.create_task(listen(question))
    return heard


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@crashes
async def test_questions_in_branches_are_answered_in_any_order(
    engine: Engine, order: tuple[int, int], at: int, after: bool
) -> None:
    handle = await engine.client.start(both, id="r")
    await engine.work(both, crash_at=at, after=after)
    await engine.work(both)
    views = sorted(await open_ones(engine), key=lambda view: view.question)
    assert (await engine.store.get_run("r")).reason is Reason.APPROVAL
    for number in order:
        await handle.approve("yes", question=views[number])
        await engine.work(both, crash_at=at, after=after)
        await engine.work(both)
    assert sorted(await handle.result()) == ["one yes", "two yes"]
    assert await statuses(engine) == ["answered", "answered"]


async def test_a_run_that_waits_for_a_person_and_a_signal_says_that_it_needs_the_person(
    engine: Engine,
) -> None:
    @agent(retry=ONCE)
    async def mixed(ctx: Context) -> str:
        async def ask() -> str:
            return (await ctx.approval("Sure?", ["yes"])).choice

        async def hear() -> str:
            return await ctx.wait_for("go", str)

        return (await ctx.race({"hear": hear, "ask": ask}))[0]

    handle = await engine.client.start(mixed, id="r")
    await engine.work(mixed)
    run = await engine.store.get_run("r")
    assert run.reason is Reason.APPROVAL
    await handle.signal("go", "went")
    await engine.work(mixed)
    assert await handle.result() == "hear"


@agent(name="first", retry=ONCE)
async def first(ctx: Context) -> list[str]:
    async def ask(question: str) -> str:
        return (await ctx.approval(question, ["yes"])).choice

    won, choice = await ctx.race({"a": lambda: ask("a?"), "b": lambda: ask("b?")})
    return [won, choice, (await ctx.approval("last?", ["yes"])).choice]


@crashes
async def test_the_loser_of_a_race_of_questions_is_withdrawn(engine: Engine, at: int, after: bool) -> None:
    handle = await engine.client.start(first, id="r")
    await engine.work(first)
    loser, winner = sorted(await open_ones(engine), key=lambda view: view.question)
    await handle.approve("yes", question=winner)
    crashed = not await engine.work(first, crash_at=at, after=after)
    await engine.work(first)
    if (
        not crashed
    ):  # a kill between the winner's entry and the losers' leaves the question until the run moves on
        assert [view.question for view in await open_ones(engine)] == ["last?"]
        with pytest.raises(Refused, match="withdrawn"):
            await handle.approve("yes", question=loser)
    last = next(view for view in await open_ones(engine) if view.question == "last?")
    await handle.approve("yes", question=last)
    await engine.work(first)
    assert await handle.result() == ["b", "yes", "yes"]
    assert await open_ones(engine) == []


@agent(name="impatient", retry=ONCE)
async def impatient(ctx: Context) -> str:
    async def beside() -> None:
        async with ctx.branch("work"):
            await ctx.step(act, "beside")
            await ctx.sleep(60)

    async def ask() -> str:
        async with ctx.branch("ask"):
            async with asyncio.timeout(0.1):
                return (await ctx.approval("Now?", ["yes"])).choice

    working = asyncio.create_task(beside())
    try:
        return await ask()
    except TimeoutError:
        return "gave up"
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


async def test_a_question_that_the_code_gives_up_is_withdrawn(engine: Engine) -> None:
    assert await engine.finish(impatient) == "gave up"
    assert await statuses(engine) == ["withdrawn"]
    assert await told(engine) == ["approval.asked", "approval.withdrawn"]
    with pytest.raises(Refused, match="withdrawn"):
        await (await engine.client.get("r")).approve("yes")


async def test_a_question_that_is_cut_off_while_it_is_being_asked_is_withdrawn(engine: Engine) -> None:
    cut = asyncio.Event()

    @agent(retry=ONCE)
    async def cutting(ctx: Context) -> str:
        async def ask() -> None:
            async with ctx.branch("ask"):
                await ctx.approval("Now?", ["yes"])

        asking = asyncio.create_task(ask())
        await cut.wait()
        for _ in range(10):  # the question is open again on a resume, too
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        return await ctx.wait_for("go", str)

    async def cancel() -> None:
        cut.set()
        for _ in range(30):
            await asyncio.sleep(0)

    handle = await engine.client.start(cutting, id="r")
    await engine.work(cutting, through=lambda store: Interrupted(store, cancel, "commit", 1, after=False))
    assert await statuses(engine) == ["withdrawn"]
    assert await told(engine) == ["approval.asked", "approval.withdrawn"]
    await handle.signal("go", "on")
    await engine.work(cutting)
    assert await handle.result() == "on"


async def test_a_retry_opens_a_question_again_that_a_failing_neighbour_took_down(engine: Engine) -> None:
    broken = True

    async def brittle() -> str:
        if broken:
            raise FatalError("broken")
        return "repaired"

    @agent(retry=ONCE)
    async def neighbours(ctx: Context) -> list[str]:
        async def ask() -> str:
            async with ctx.branch("ask"):
                return (await ctx.approval("Sure?", ["yes"])).choice

        async def fail() -> str:
            async with ctx.branch("fail"):
                await ctx.sleep(0.1)
                return await ctx.step(brittle)

        try:
            async with asyncio.TaskGroup() as tasks:
                waiting, failing = tasks.create_task(ask()), tasks.create_task(fail())
        except* StepFailed as group:
            raise group.exceptions[0] from None
        return [waiting.result(), failing.result()]

    handle = await engine.client.start(neighbours, id="r")
    await engine.work(neighbours)
    assert await statuses(engine) == ["withdrawn"]
    broken = False
    await handle.retry()
    await engine.work(neighbours)
    await handle.approve("yes")
    await engine.work(neighbours)
    assert await handle.result() == ["yes", "repaired"]
    assert await statuses(engine) == ["answered"]


async def test_a_retry_asks_a_question_with_an_end_anew_that_a_failing_neighbour_took_down(
    engine: Engine,
) -> None:
    expires, broken = 60, True

    async def brittle() -> str:
        if broken:
            raise FatalError("broken")
        return "repaired"

    @agent(retry=ONCE)
    async def neighbours(ctx: Context) -> list[str]:
        async def ask() -> str:
            async with ctx.branch("ask"):
                return (await ctx.approval("Sure?", ["yes", "no"], expires=expires, default="no")).choice

        async def fail() -> str:
            async with ctx.branch("fail"):
                await ctx.sleep(0.1)
                return await ctx.step(brittle)

        try:
            async with asyncio.TaskGroup() as tasks:
                waiting, failing = tasks.create_task(ask()), tasks.create_task(fail())
        except* StepFailed as group:
            raise group.exceptions[0] from None
        return [waiting.result(), failing.result()]

    handle = await engine.client.start(neighbours, id="r")
    await engine.work(neighbours)
    assert await statuses(engine) == ["withdrawn"]
    expires, broken = 3600, False
    await handle.retry()
    async with Worker(engine.store, [neighbours]), asyncio.timeout(20):
        while not (asked := await open_ones(engine)):
            await engine.store.wait_for_news(1)
        assert asked[0].expires_at is not None
        assert (asked[0].expires_at - asked[0].asked_at).total_seconds() == pytest.approx(3600, abs=1)
        await handle.approve("yes")
        assert await handle.result() == ["yes", "repaired"]
    assert await statuses(engine) == ["withdrawn", "answered"]


# --- changed code, operators --------------------------------------------------------------------------------------


class Script:
    question = "Deploy version 1?"


@agent(name="changing", retry=ONCE)
async def changing(ctx: Context) -> str:
    return (await ctx.approval(Script.question, ["yes", "no"])).choice


@pytest.fixture
def script() -> Any:
    Script.question = "Deploy version 1?"
    return Script


@pytest.mark.parametrize("answered", [False, True])
async def test_an_answer_never_answers_a_question_that_the_code_changed(
    engine: Engine, script: Any, answered: bool
) -> None:
    handle = await engine.client.start(changing, id="r")
    await engine.work(changing)
    (seen,) = await open_ones(engine)
    if answered:
        await handle.approve("yes", question=seen)
    script.question = "Deploy version 2?"
    if not answered:
        await handle.pause()
        await handle.resume()
    await engine.work(changing)
    run = await engine.store.get_run("r")
    assert run.reason is Reason.MISMATCH
    assert run.mismatch is not None and run.mismatch.entry == seen.n
    await handle.retry(rerun=seen.n)
    await engine.work(changing)
    (asked,) = await open_ones(engine)
    assert asked.question == "Deploy version 2?"
    if not answered:
        with pytest.raises(Refused, match="withdrawn"):
            await handle.approve("yes", question=seen)
    await handle.approve("no", question=asked)
    await engine.work(changing)
    assert await handle.result() == "no"


async def test_a_recorded_answer_never_answers_a_question_that_the_code_changed(
    engine: Engine, script: Any
) -> None:
    @agent(retry=ONCE)
    async def further(ctx: Context) -> str:
        answer = await ctx.approval(script.question, ["yes", "no"])
        return answer.choice + await ctx.wait_for("go", str)

    handle = await engine.client.start(further, id="r")
    await engine.work(further)
    await handle.approve("yes")
    await engine.work(further)  # the answer is recorded, and the run waits for something else
    script.question = "Deploy version 2?"
    await handle.signal("go", "!")
    for entry in (1, 2):  # the question, then its answer
        await engine.work(further)
        run = await engine.store.get_run("r")
        assert run.mismatch is not None and run.mismatch.entry == entry
        await handle.retry(rerun=entry)
    await engine.work(further)
    await handle.approve("no")
    await engine.work(further)
    assert await handle.result() == "no!"


async def test_an_operator_may_let_the_recorded_question_stand(engine: Engine, script: Any) -> None:
    handle = await engine.client.start(changing, id="r")
    await engine.work(changing)
    await handle.approve("yes")
    script.question = "Deploy version 1, really?"
    await engine.work(changing)
    (view,) = await handle.approvals()
    await handle.retry(accept=view.n)
    await engine.work(changing)
    assert await handle.result() == "yes"


async def test_going_back_to_the_checkpoint_keeps_the_answer_to_the_same_question(
    engine: Engine, script: Any
) -> None:
    broken = True

    async def brittle() -> str:
        if broken:
            raise FatalError("broken")
        return "done"

    @agent(retry=ONCE)
    async def segmented(ctx: Context) -> str:
        ctx.restore(dict[str, int], default={})
        answer = await ctx.approval(Script.question, ["yes", "no"])
        return answer.choice + await ctx.step(brittle)

    handle = await engine.client.start(segmented, id="r")
    await engine.work(segmented)
    await handle.approve("yes", by="ann")
    await engine.work(segmented)
    broken = False
    await handle.retry(from_checkpoint=True)
    await engine.work(segmented)
    assert await handle.result() == "yesdone"
    assert [view.by for view in await handle.approvals()] == ["ann", "ann"]


async def test_a_cancelled_run_asks_nothing_until_it_is_retried(engine: Engine) -> None:
    handle = await engine.client.start(one, id="r")
    await engine.work(one)
    await handle.cancel()
    assert await open_ones(engine) == []
    with pytest.raises(Refused, match="withdrawn"):
        await handle.approve("yes")
    await handle.retry()
    await engine.work(one)
    await handle.approve("yes")
    await engine.work(one)
    assert await handle.result() == "yes"


@pytest.mark.parametrize(
    "wrong", [{"question": ""}, {"options": []}, {"default": "yes"}, {"escalate_to": "ops"}]
)
async def test_what_cannot_be_asked_fails_where_it_is_called(engine: Engine, wrong: dict[str, Any]) -> None:
    @agent(retry=ONCE)
    async def bad(ctx: Context) -> None:
        options = {"question": "Sure?", "options": ["yes"], **wrong}
        await ctx.approval(options.pop("question"), options.pop("options"), **options)

    with pytest.raises(RunFailed) as failed:
        await engine.finish(bad)
    assert failed.value.failure.type == UsageError.__name__
    assert await open_ones(engine) == []


# --- signal with start, and news from outside ---------------------------------------------------------------------


@agent(name="listener", retry=ONCE)
async def listener(ctx: Context) -> list[object]:
    return [await ctx.wait_for("go", timeout="200ms", key=str(n)) for n in range(2)]


async def test_a_start_with_a_signal_is_one_start_and_one_signal_however_often_it_is_sent(
    engine: Engine,
) -> None:
    for _ in range(3):
        handle = await engine.client.start(listener, id="r", signal=("go", 1))
    await engine.client.start(listener, id="r", signal=("go", 1), dedup="another")
    await engine.work(listener)
    assert await handle.result() == [1, 1]
    with pytest.raises(UsageError, match="needs the run's id"):
        await engine.client.start(listener, signal=("go", 1))
    with pytest.raises(UsageError, match="holdfast sends"):
        await engine.client.start(listener, id="q", signal=("holdfast:approval/1", 1))


@pytest.mark.parametrize("done", [False, True])
async def test_an_answer_is_not_taken_for_a_commit_of_which_nobody_knows_what_became(
    engine: Engine, done: bool
) -> None:
    """A commit ends in an error, made or not, and meanwhile an answer adds an event to the run."""
    handle = await engine.client.start(one, id="r")
    serves = (Served(agent="one", version="0"),)
    new = NewWorker(name="w", host="h", pid=1, capacity=1, serves=serves)
    (claim,) = await engine.store.claim(await engine.store.register_worker(new, 10**9), serves, 1)

    class Doubtful(Interrupted):
        async def commit(self, changes: Sequence[Change]) -> list[Committed | RefusedChange]:
            log = any(change.notes for change in changes)
            answers = [] if log and not done else await self._store.commit(changes)
            if log and not executed["error"]:
                executed["error"] += 1
                await self._deed()
                raise StoreUnavailable("nobody knows what became of it")
            return answers or await self._store.commit(changes)

    async def answer() -> None:
        await handle.approve("yes")

    writer = Writer(Doubtful(engine.store, answer, "", 0, False), lambda: True)  # type: ignore[arg-type]
    writing = asyncio.create_task(writer.run())
    port = ChannelPort(claim, StoreChannel(claim.run, engine.store, writer), SystemClock())
    asked = NewApproval(question_hash=b"h", segment=-1, question="Go on?", options=("yes",))
    entry = Entry(Identity(-1, "", "approval:asked", None, 0), EntryKind.APPROVAL, EntryStatus.OK, b"1")
    async with asyncio.timeout(10):
        await port.submit(entry, None, (asked,))
        port.note(Note("log", b'{"message":"once"}'))
        await port.submit(None)
        assert await port.settle(Release(), None)
    writing.cancel()
    assert executed["error"] == 1
    types = [event.type for event in await engine.events()]
    assert types.count("log") == types.count("approval.answered") == 1


# --- crashed everywhere, in pairs, in shuffled orders -------------------------------------------------------------


@agent(name="committee", retry=ONCE)
async def committee(ctx: Context) -> list[str]:
    state = ctx.restore(list[str], default=[])
    if not state:
        late = await ctx.approval("Late?", ["yes", "no"], expires="1h", default="no", escalate="10m")
        state.append(late.choice)
        await ctx.checkpoint(state)

    async def ask(question: str) -> str:
        async with ctx.branch(question):
            chosen = (await ctx.approval(question, ["yes", "no"], expires="30d")).choice
            return await ctx.step(act, f"{question} {chosen}")

    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(ask(question)) for question in ("one?", "two?")]
    return [*state, *(one.result() for one in asked)]


async def members(handle: RunHandle[list[str]]) -> None:
    """Two people answer whatever is asked, but are never in time for the first question."""
    while not (await handle.status()).state.final:
        for view in await handle.approvals():
            if view.status == "open" and view.question != "Late?":
                await handle.approve("yes", question=view, by="ann")
                assert (await handle.approve("yes", question=view, by="bob")).by == "ann"
        await asyncio.sleep(60)


def test_an_agent_that_asks_survives_a_crash_at_every_commit() -> None:
    assert assert_survives_crashes(committee, outside=members, most=60) == ["no", "ONE? YES", "TWO? YES"]
