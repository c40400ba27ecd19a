"""Agents in another language: they speak the protocol, and know nothing of holdfast."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from examples.foreign.agents import count
from holdfast import Context, Program, RunFailed, Worker, agent, workspace
from holdfast.errors import UsageError
from holdfast.model import EntryStatus, Reason, RunState
from tests.cli.shell import Shell, finish
from tests.faults import Engine
from tests.isolation.test_isolation import alive, reaches, until
from tests.processes.harness import lines, wait_until

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "foreign" / "count.pl"

pytestmark = pytest.mark.skipif(shutil.which("perl") is None, reason="the program is in Perl")


def order(folder: Path, steps: int, pause_s: float = 0.0) -> dict[str, Any]:
    return {"steps": steps, "file": str(folder / "seen"), "pause_s": pause_s}


def programs() -> list[psutil.Process]:
    """The programs that execute attempts of ours now."""
    children = psutil.Process().children()
    return [child for child in children if child.status() != psutil.STATUS_ZOMBIE and child.name() == "perl"]


def speaking(tmp_path: Path, text: str, name: str = "says") -> Program:
    """A program that writes this to its socket."""
    script = tmp_path / f"{name}.pl"
    script.write_text(
        "open(my $wire, '+<&=', $ENV{HOLDFAST_FD}); binmode $wire; select($wire); $| = 1;\n"
        "sub frame { print pack('N', length $_[0]), $_[0] }\n" + text
    )
    return Program(name, ["perl", str(script)])


def test_the_example_is_short_and_needs_no_library() -> None:
    text = SCRIPT.read_text()
    assert len(text.splitlines()) <= 120
    used = {line.split()[1].rstrip(";") for line in text.splitlines() if line.startswith("use ")}
    assert used <= {"strict", "warnings", "IO::Handle", "JSON::PP", "MIME::Base64", "Time::HiRes"}


async def test_an_agent_in_another_language_records_steps_and_progress_and_returns(
    engine: Engine, tmp_path: Path
) -> None:
    async with Worker(engine.store, [count]):
        handle = await engine.client.start(count, order(tmp_path, 5), id="r")
        assert await handle.result() == 55
    entries = await engine.entries("r")
    assert [(entry.status, entry.payload) for entry in entries] == [
        (EntryStatus.OK, str(n * n).encode()) for n in range(1, 6)
    ]
    assert lines(tmp_path, "seen") == ["1", "2", "3", "4", "5"]
    progress = (await handle.status()).progress
    assert progress is not None and (progress.current, progress.total) == (5, 5)


async def test_it_is_an_agent_like_any_other(engine: Engine, tmp_path: Path) -> None:
    @agent
    async def parent(ctx: Context) -> object:
        return await ctx.call(count, order(tmp_path, 3))

    async with Worker(engine.store, [count, parent]):
        assert await (await engine.client.start(parent)).result() == 14


@pytest.mark.parametrize("seed", range(3))
async def test_a_program_killed_at_random_steps_repeats_none_that_was_recorded(
    engine: Engine, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    handle = await engine.client.start(count, order(tmp_path, 40, 0.02), id="r")
    kills = 0
    async with Worker(engine.store, [count]):
        while kills < 8:
            recorded = (await engine.store.get_run("r")).position
            async with asyncio.timeout(20):  # one new entry, else it would be poison
                while (await engine.store.get_run("r")).position == recorded:  # noqa: ASYNC110 - of a process
                    await asyncio.sleep(0.005)
            await asyncio.sleep(chance.random() * 0.05)
            if (await engine.store.get_run("r")).state.final:
                break
            for program in programs():
                program.kill()
                kills += 1
        assert await handle.result() == sum(n * n for n in range(1, 41))
    assert kills >= 5
    entries = await engine.entries("r")
    assert [entry.payload for entry in entries] == [str(n * n).encode() for n in range(1, 41)]
    seen = [int(line) for line in lines(tmp_path, "seen")]
    assert len(seen) <= 40 + kills
    assert seen == sorted(seen)  # what came before was answered, not done


def test_a_worker_that_is_killed_takes_its_program_along_and_the_next_goes_on(shell: Shell) -> None:
    (shell.folder / "mine.py").write_text(
        f"from holdfast import Program\ncount = Program('count', ['perl', {str(SCRIPT)!r}])\n"
    )
    given = f'{{"input": {{"steps": 30, "file": {str(shell.folder / "seen")!r}, "pause_s": 0.05}}}}'
    shell("start", "mine.py:count", "--id", "r", "--input", given.replace("'", '"'))
    worker = shell.begin("worker", "mine.py")
    wait_until(lambda: len(lines(shell.folder, "seen")) > 3)
    children = [child for child in psutil.Process(worker.pid).children() if child.name() == "perl"]
    assert children
    finish(worker, signal.SIGKILL)
    wait_until(lambda: not any(alive(child.pid) for child in children), 5)
    shell("worker", "mine.py", "--until-idle")
    assert shell("show", "r", "--json").json["result"] == sum(n * n for n in range(1, 31))
    assert len(lines(shell.folder, "seen")) <= 31


async def test_a_drain_ends_a_program_at_its_next_step_and_nothing_is_repeated(
    engine: Engine, tmp_path: Path
) -> None:
    handle = await engine.client.start(count, order(tmp_path, 30, 0.05), id="r")
    async with Worker(engine.store, [count]):
        await until(lambda: len(lines(tmp_path, "seen")) >= 3)
    run = await engine.store.get_run("r")
    assert (run.state, run.reason) == (RunState.QUEUED, Reason.DRAINED)
    async with Worker(engine.store, [count]):
        assert await handle.result() == sum(n * n for n in range(1, 31))
    assert lines(tmp_path, "seen") == [str(n) for n in range(1, 31)]


async def test_a_program_whose_code_does_not_fit_is_held_with_both_sides_named(
    engine: Engine, tmp_path: Path
) -> None:
    handle = await engine.client.start(count, order(tmp_path, 30, 0.05), id="r")
    async with Worker(engine.store, [count]):
        await until(lambda: len(lines(tmp_path, "seen")) >= 3)
    changed = tmp_path / "changed.pl"
    changed.write_text(SCRIPT.read_text().replace("step('square'", "step('cube'"))
    async with Worker(engine.store, [Program("count", ["perl", str(changed)])]):
        await reaches(engine, "r", Reason.MISMATCH)
    run = await engine.store.get_run("r")
    assert run.failure is not None
    assert '"square"' in run.failure.message and '"cube"' in run.failure.message
    async with Worker(engine.store, [count]):
        await handle.retry()
        assert await handle.result() == sum(n * n for n in range(1, 31))


async def test_an_error_of_a_program_is_the_failure_of_its_run(engine: Engine, tmp_path: Path) -> None:
    async with Worker(engine.store, [count]):
        handle = await engine.client.start(count, {"steps": 1, "file": str(tmp_path / "no" / "folder")})
        with pytest.raises(RunFailed, match="No such file or directory"):
            await handle.result()


PASSWORDS = '{"type":"ask","id":1,"what":"passwords","args":[]}'
CRASHED = (
    '{"type":"commit","id":1,"position":0,"outcome":["Crashed",'
    '{"failure":{"kind":"lost","type":"","message":""}}]}'
)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('print "GET / HTTP/1.1\\r\\n\\r\\n"; sleep 100;', "that is no frame"),
        ('frame(\'{"type":"rob"}\'); sleep 100;', "is no frame"),
        ('frame(\'{"type":"hello","protocol":99}\'); sleep 100;', "speaks protocol 99, not 1"),
        (f"frame('{PASSWORDS}'); sleep 100;", "no question 'passwords'"),
        (f"frame('{CRASHED}'); sleep 100;", "cannot end it as Crashed"),
        ("exit 3;", "exited with code 3"),
        ("kill 'SEGV', $$; sleep 100;", "was killed by SIGSEGV"),
    ],
)
async def test_a_program_that_sends_what_it_cannot_mean_loses_its_attempt_and_says_why(
    engine: Engine, tmp_path: Path, text: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.rules.transitions.CRASH_DELAY_US", 10_000)
    says = speaking(tmp_path, text)
    await engine.client.start(says, id="r")
    async with Worker(engine.store, [says, count]):
        await reaches(engine, "r", Reason.POISON)
        assert await (await engine.client.start(count, order(tmp_path, 2))).result() == 5
        assert not programs()
    run = await engine.store.get_run("r")
    assert run.failure is not None
    assert told in run.failure.message


async def test_nothing_that_a_program_started_outlives_its_attempt(engine: Engine, tmp_path: Path) -> None:
    last = '{"type":"commit","id":1,"position":0,"outcome":["Succeeded",{"result":"MQ=="}]}'
    text = f"""
    $SIG{{CHLD}} = 'IGNORE';
    my $child = fork() // die; if (!$child) {{ setpgrp(0, 0); sleep 1000; }}
    open(my $out, '>', '{tmp_path}/pid'); print $out $child; close $out;
    frame('{last}');
    """
    leaves = speaking(tmp_path, text, "leaves")
    async with Worker(engine.store, [leaves]):
        assert await (await engine.client.start(leaves)).result() == 1
    assert not alive(int((tmp_path / "pid").read_text()))


async def test_a_run_of_a_program_is_cancelled_with_its_process(engine: Engine, tmp_path: Path) -> None:
    handle = await engine.client.start(count, order(tmp_path, 1000, 0.05), id="r")
    async with Worker(engine.store, [count]) as worker:
        await until(lambda: len(lines(tmp_path, "seen")) >= 2)
        await handle.cancel()
        await until(lambda: worker.active == 0)
        assert not programs()


def test_a_program_that_is_not_there_is_refused_when_its_worker_begins(engine: Engine) -> None:
    with pytest.raises(UsageError, match="there is no 'no-such-language'"):
        Worker(engine.store, [Program("count", ["no-such-language", "count.x"])])


@pytest.mark.parametrize("command", [[], "perl count.pl", ["perl", 1]])
def test_a_command_that_is_none_is_refused(command: Any) -> None:
    with pytest.raises(UsageError, match="list of words"):
        Program("count", command)


async def test_a_program_is_told_its_workspace_in_its_environment_and_its_first_frame(
    engine: Engine, tmp_path: Path
) -> None:
    script = (
        "read($wire, my $head, 4); read($wire, my $body, unpack('N', $head));\n"
        'my ($told) = $body =~ /"workspace":"([^"]*)"/;\n'
        "open(my $file, '>', \"$ENV{HOLDFAST_WORKSPACE}/told\"); print $file $told; close $file; select($wire);\n"
        'frame(\'{"type":"commit","id":1,"position":0,"outcome":["Succeeded",{"result":"NTU="}]}\');\n'
    )
    says = speaking(tmp_path, script)
    handle = await engine.client.start(says, None, id="r")
    async with Worker(engine.store, [says]):
        assert await handle.result() == 55
    folder = (await handle.status()).workspace
    assert folder is not None
    assert (Path(folder) / "told").read_text() == folder


async def test_a_program_whose_workspace_is_no_folder_any_more_fails_with_the_way_out(
    engine: Engine, tmp_path: Path
) -> None:
    says = speaking(tmp_path, "")
    handle = await engine.client.start(says, id="r")
    place = workspace.place_of(engine.store.workspace_folder, await engine.store.get_run("r"))
    assert place is not None
    place.parent.mkdir()
    place.touch()
    async with Worker(engine.store, [says]):
        with pytest.raises(RunFailed, match=r"is no folder any more: move what is there out of the way"):
            await asyncio.wait_for(handle.result(), 10)
