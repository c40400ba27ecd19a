"""What can be an agent, what it is told to be, and how it is found by a reference."""

from __future__ import annotations

import asyncio
import functools
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from holdfast.agents import Agent, Every, agent
from holdfast.context import Context
from holdfast.errors import AgentNotFound, UsageError
from holdfast.references import load_agent, load_agents
from holdfast.rules.retry import RetryPolicy

NO_CONTEXT: Any = None


@agent
async def plain(ctx: Context, path: str, times: int = 2) -> str:
    return path * times


# --- making one -----------------------------------------------------------------------------------------------


def test_a_bare_agent_has_the_functions_name_and_the_defaults() -> None:
    assert (plain.name, plain.version, plain.queue, plain.keep, plain.deadline) == (
        "plain",
        "0",
        "default",
        5,
        None,
    )
    assert plain.retry == RetryPolicy()
    assert plain.checkpoint == Every("30s", steps=100)


def test_a_called_agent_is_the_plain_function() -> None:
    assert asyncio.run(plain(NO_CONTEXT, "ab", 3)) == "ababab"


def test_settings_are_taken_by_keyword() -> None:
    @agent(name="other", version="2", deadline="4h", keep=7, queue="slow", checkpoint=Every("5m"))
    async def some(ctx: Context) -> None: ...

    assert (some.name, some.version, some.queue, some.keep) == ("other", "2", "slow", 7)
    assert some.deadline_us == 4 * 3600 * 1_000_000
    assert some.checkpoint.duration_us == 300 * 1_000_000


def test_a_lambda_with_a_name_is_an_agent() -> None:
    made = agent(name="short")(lambda ctx: plain(ctx, "x", 1))
    assert asyncio.run(made(NO_CONTEXT)) == "x"


def test_unannotated_functions_are_agents() -> None:
    @agent
    async def loose(context, thing=1): ...  # type: ignore[no-untyped-def]

    assert loose.name == "loose"


async def generator(ctx: Context) -> AsyncIterator[int]:
    yield 1


def sync_generator(ctx: Context) -> Iterator[int]:
    yield 1


def sync(ctx: Context) -> int:
    return 1


async def nothing() -> None: ...
async def no_context(path: Path) -> None: ...
async def no_context_either(text: str, more: str) -> None: ...
async def star(ctx: Context, *paths: str) -> None: ...
async def double_star(ctx: Context, **options: str) -> None: ...
async def keyword_only(ctx: Context, *, fast: bool) -> None: ...


class Holder:
    async def method(self, ctx: Context) -> None: ...


@pytest.mark.parametrize(
    ("fn", "says"),
    [
        (generator, "is a generator"),
        (sync_generator, "is a generator"),
        (sync, r"write `async def sync\(ctx, \.\.\.\)`"),
        (nothing, "lacks its context"),
        (no_context, "lacks its context"),
        (no_context_either, "lacks its context"),
        (star, r"parameter '\*paths"),
        (double_star, r"parameter '\*\*options"),
        (keyword_only, "parameter 'fast.*keyword-only"),
        (functools.partial(plain.fn, NO_CONTEXT), "has no name of its own"),
        (Holder.method, "is a method"),
        (Holder, "must be an `async def` function"),
        (plain, "an agent already"),
        (lambda ctx: plain(ctx, "", 1), r"agent\(name="),
        ("other", r"@agent\(name='other'\)"),
        (7, "by keyword"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_cannot_be_an_agent_is_refused_with_the_fix(fn: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        agent(fn)


@pytest.mark.parametrize("name", ["", "two words", "a/b", "../x", "-x", ".x", "x" * 129, "a:b", "a\nb", 5])
def test_names_that_would_break_elsewhere_are_refused(name: Any) -> None:
    with pytest.raises(UsageError, match="no valid name"):
        agent(name=name)(plain.fn)
    with pytest.raises(UsageError, match="no valid queue"):
        agent(queue=name)(plain.fn)


@pytest.mark.parametrize("name", ["a", "reports.weekly", "my-agent", "übersetzer", "v2_final", "x" * 128])
def test_useful_names_are_taken(name: str) -> None:
    assert agent(name=name)(plain.fn).name == name


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"version": 2}, "version is text"),
        ({"version": ""}, "version is text"),
        ({"version": "2", "continues": "1"}, r"did you mean continues=\['1'\]"),
        ({"version": "2", "continues": 1}, "continues is a list of versions"),
        ({"version": "2", "continues": ["1", 1]}, "version is text"),
        ({"version": "2", "continues": ["1", "2"]}, "continues others, not itself"),
        ({"keep": 0}, "keep is a whole number"),
        ({"keep": True}, "keep is a whole number"),
        ({"deadline": 0}, "deadline of 0"),
        ({"deadline": "soon"}, "'soon' is not a duration"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        agent(**settings)(plain.fn)


def test_every_says_when_a_checkpoint_is_due() -> None:
    assert Every("30s", steps=100).duration_us == 30_000_000
    assert Every(steps=5) == Every(None, steps=5)
    assert Every(steps=5).duration_us is None
    assert Every(timedelta(minutes=1), steps=None).duration_us == 60_000_000


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Every(), "needs a duration"),
        (lambda: Every("often"), "not a duration"),
        (lambda: Every(steps=0), "1 or more"),
        (lambda: Every(steps=1.5), "1 or more"),  # type: ignore[arg-type]
        (lambda: Every(steps=True), "1 or more"),
    ],
)
def test_an_every_that_cannot_be_is_refused(make: Callable[[], Every], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        make()


def test_the_source_hash_follows_the_source() -> None:
    async def one(ctx: Context) -> int:
        return 1

    async def two(ctx: Context) -> int:
        return 2

    assert agent(one).source_hash == agent(name="another", keep=9)(one).source_hash
    assert agent(one).source_hash != agent(two).source_hash


def test_a_function_without_source_has_a_hash_of_its_code() -> None:
    made: list[Agent[Any]] = []
    bodies = (
        "1",
        "2",
        "min(1, 2)",
        "max(1, 2)",
        "[x for x in y]",
        "[x + 1 for x in y]",
        "ctx in {'a', 'b', 'c'}",
    )
    for body in (*bodies, *bodies):
        scope: dict[str, Any] = {}
        exec(f"async def typed(ctx): return {body}", scope)
        made.append(agent(scope["typed"]))
    hashes = [one.source_hash for one in made]
    assert hashes[: len(bodies)] == hashes[len(bodies) :]
    assert len(set(hashes)) == len(bodies)


def test_the_source_hash_looks_through_a_wrapper_that_a_decorator_made_by_exec() -> None:
    async def one(ctx: Context) -> int:
        return 1

    async def two(ctx: Context) -> int:
        return 2

    def wrapped(fn: Callable[..., Any]) -> Callable[..., Any]:
        scope: dict[str, Any] = {"fn": fn}
        exec("async def wrapper(ctx): return await fn(ctx)", scope)
        return functools.wraps(fn)(scope["wrapper"])

    hashes = [agent(wrapped(fn)).source_hash for fn in (one, two)]
    assert hashes == [agent(fn).source_hash for fn in (one, two)]


# --- finding one ----------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working folder, with the interpreter's modules and path as they were afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))


AGENTS = """
    import holdfast.agents

    @holdfast.agents.agent
    async def refactor(ctx): ...

    @holdfast.agents.agent(name="weekly-report")
    async def report(ctx): ...

    async def helper(ctx): ...
"""


def test_an_agent_is_found_by_file_and_variable_or_its_own_name(folder: Path) -> None:
    write(folder / "jobs.py", AGENTS)
    assert load_agent("jobs.py:refactor").name == "refactor"
    assert load_agent("./jobs.py:report") is load_agent(f"{folder}/jobs.py:weekly-report")
    assert [one.name for one in load_agents("jobs.py")] == ["refactor", "weekly-report"]
    assert [one.name for one in load_agents("jobs.py:report")] == ["weekly-report"]


def test_an_agent_is_found_by_module(folder: Path) -> None:
    write(folder / "shop" / "__init__.py", "")
    write(folder / "shop" / "jobs.py", AGENTS)
    assert load_agent("shop.jobs:refactor").name == "refactor"
    assert [one.name for one in load_agents("shop.jobs")] == ["refactor", "weekly-report"]


def test_a_file_is_loaded_once_whatever_it_is_called(folder: Path) -> None:
    write(folder / "once.py", "print('loaded')\n" + textwrap.dedent(AGENTS))
    (folder / "link.py").symlink_to(folder / "once.py")
    first = load_agent("once.py:refactor")
    assert load_agent(f"{folder}/../{folder.name}/once.py:refactor") is first
    assert load_agent("once:refactor") is first
    assert load_agent("link.py:refactor") is first


def test_a_files_neighbours_can_be_imported_as_when_it_is_run(folder: Path) -> None:
    write(folder / "sub" / "neighbour_of_jobs.py", "NAME = 'from next door'")
    write(
        folder / "sub" / "jobs.py",
        """
        from neighbour_of_jobs import NAME
        from holdfast.agents import agent

        @agent(name=NAME.replace(" ", "-"))
        async def work(ctx): ...
        """,
    )
    assert load_agent("sub/jobs.py:work").name == "from-next-door"


def test_two_files_of_one_name_are_two(folder: Path) -> None:
    for place in ("a", "b"):
        write(
            folder / place / "jobs.py",
            f"from holdfast.agents import agent\n@agent\nasync def {place}(ctx): ...\n",
        )
    assert [one.name for one in load_agents("a/jobs.py") + load_agents("b/jobs.py")] == ["a", "b"]
    assert load_agent("b/jobs.py:b") is load_agent("b/jobs.py:b")


def test_a_file_named_like_a_module_in_use_is_loaded_all_the_same(folder: Path) -> None:
    write(folder / "json.py", AGENTS)
    assert load_agent("json.py:refactor").name == "refactor"
    import json

    assert hasattr(json, "dumps")


def test_classes_of_a_loaded_file_are_known_by_its_name(folder: Path) -> None:
    write(
        folder / "typed.py",
        """
        from __future__ import annotations
        import dataclasses
        from holdfast.agents import agent

        @dataclasses.dataclass
        class Order:
            number: int

        @agent
        async def ship(ctx, order: Order) -> Order: ...
        """,
    )
    from holdfast import codec

    ship = load_agent("typed.py:ship")
    (order,) = codec.decode_input(ship.fn, b'{"order": {"number": 3}}')
    assert type(order).__name__ == "Order"


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("jobs.py:refacto", "did you mean 'refactor'"),
        ("jobs.py:zzz", "there is refactor, report"),
        ("jobs.py:helper", "put @holdfast.agent above `async def helper"),
        ("jobs.py", "jobs.py:refactor, jobs.py:report"),
        ("job.py:refactor", "did you mean jobs.py"),
        ("nowhere/at/all.py:refactor", "there is no file"),
        ("no_such_module:refactor", "there is no module 'no_such_module'"),
        ("jobs.more:refactor", "there is no module 'jobs.more'"),
        ("empty.py:x", "no agent at all"),
    ],
)
def test_a_reference_that_names_nothing_says_what_is_there(folder: Path, reference: str, says: str) -> None:
    write(folder / "jobs.py", AGENTS)
    write(folder / "empty.py", "")
    with pytest.raises(AgentNotFound, match=says):
        load_agent(reference)


def test_a_file_without_agents_says_how_to_make_one(folder: Path) -> None:
    write(folder / "empty.py", "async def helper(ctx): ...")
    with pytest.raises(AgentNotFound, match=r"no agents: put @holdfast\.agent above"):
        load_agents("empty.py")


def test_two_agents_of_one_name_and_version_are_refused(folder: Path) -> None:
    write(
        folder / "twice.py",
        AGENTS + "\n    @holdfast.agents.agent(name='refactor')\n    async def again(ctx): ...\n",
    )
    with pytest.raises(UsageError, match="two agents named 'refactor'"):
        load_agents("twice.py")


def test_one_agent_under_two_names_is_one(folder: Path) -> None:
    write(folder / "alias.py", AGENTS + "\n    main = refactor\n")
    assert [one.name for one in load_agents("alias.py")] == ["refactor", "weekly-report"]


BROKEN = {
    "name": ("x = undefined_name", "NameError: name 'undefined_name' is not defined"),
    "import": ("import a_package_nobody_has", "ModuleNotFoundError: No module named 'a_package_nobody_has'"),
    "syntax": ("def f(:", "SyntaxError"),
    "exit": ("import sys\nsys.exit('bye')", "SystemExit: bye"),
    "agent": (
        "import holdfast.agents\n@holdfast.agents.agent\ndef f(ctx): ...",
        "UsageError: agent 'f' is a plain",
    ),
    "deep": ("from broken_neighbour import x", "ZeroDivisionError"),
}


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("by", ["file", "module"])
def test_an_error_in_the_users_file_is_shown_with_the_users_frames_only(
    folder: Path, case: str, by: str
) -> None:
    text, says = BROKEN[case]
    write(folder / "broken_jobs.py", text)
    write(folder / "broken_neighbour.py", "x = 1 / 0")
    with pytest.raises(UsageError) as caught:
        load_agent("broken_jobs.py:f" if by == "file" else "broken_jobs:f")
    told = str(caught.value)
    assert says in told and "broken_jobs.py" in told
    assert "importlib" not in told and "load_agent" not in told
    assert caught.value.__cause__ is None
    assert "broken_jobs" not in sys.modules


def test_a_file_that_failed_is_loaded_afresh_after_the_fix(folder: Path) -> None:
    write(folder / "fixed_later.py", "1 / 0")
    with pytest.raises(UsageError, match="ZeroDivisionError"):
        load_agents("fixed_later.py")
    write(folder / "fixed_later.py", AGENTS)
    assert len(load_agents("fixed_later.py")) == 2


def test_a_file_in_a_package_is_the_module_it_is_there(folder: Path) -> None:
    write(folder / "shop" / "__init__.py", AGENTS)
    write(folder / "shop" / "names.py", "NAME = 'from-the-package'")
    write(
        folder / "shop" / "jobs.py",
        """
        from holdfast.agents import agent
        from .names import NAME

        @agent(name=NAME)
        async def work(ctx): ...
        """,
    )
    work = load_agent("shop/jobs.py:work")
    assert work.name == "from-the-package"
    assert load_agent("shop.jobs:work") is work
    assert load_agent("shop/__init__.py:refactor") is load_agent("shop:refactor")


def test_an_error_in_a_package_is_shown_with_the_users_frames_only(folder: Path) -> None:
    write(folder / "shop2" / "__init__.py", "")
    write(folder / "shop2" / "jobs.py", "from . import nothing_there")
    with pytest.raises(UsageError, match="ImportError: cannot import name 'nothing_there'") as caught:
        load_agents("shop2/jobs.py")
    assert "importlib" not in str(caught.value)


def test_a_script_that_loads_itself_is_not_run_again(folder: Path) -> None:
    write(
        folder / "script.py",
        """
        from holdfast.agents import agent
        from holdfast.references import load_agents

        @agent
        async def work(ctx): ...

        print("once")
        assert load_agents(__file__) == [work]
        """,
    )
    told = subprocess.run(
        [sys.executable, "script.py"], capture_output=True, text=True, check=False, cwd=folder
    )
    assert (told.stdout, told.stderr) == ("once\n", "")
