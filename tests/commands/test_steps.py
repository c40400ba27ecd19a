"""`holdfast step`: what a script has done by it is not done again, whatever befell the script and its worker."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from holdfast.commands.words import MAX_OUTPUT
from tests.cli.shell import Ended, Shell, finish
from tests.isolation.test_isolation import alive
from tests.processes.harness import lines, wait_until


def script(shell: Shell, text: str) -> None:
    (shell.folder / "script.sh").write_text(text)


def run(shell: Shell, *options: str, code: int | None = 0) -> Ended:
    return shell("run", "--id", "r", *options, "--", "bash", "script.sh", code=code)


FAILS_ONCE = "[ -e again ] || { touch again; exit 1; }\n"


def test_a_recorded_step_is_not_executed_again_and_its_output_is_there_at_once(shell: Shell) -> None:
    script(
        shell,
        r"""
        got=$(holdfast step numbers -- sh -c 'echo executed >> side; printf "1\n2\377"' | od -An -tx1)
        echo "got$got"
        """
        + FAILS_ONCE,
    )
    ended = run(shell, "--retry", "1")
    assert ended.out == "got 31 0a 32 ff\n" * 2
    assert lines(shell.folder, "side") == ["executed"]


def test_a_step_that_fails_leaves_with_its_code_and_is_executed_again(shell: Shell) -> None:
    step = "holdfast step fetch -- sh -c 'echo x >> side; [ $(wc -l < side) = 2 ] || exit 7'; echo code $?"
    script(shell, f"{step}\n{step}\n{step}\n")
    assert run(shell).out == "code 7\ncode 0\ncode 0\n"
    assert len(lines(shell.folder, "side")) == 2


def test_a_step_is_tried_again_as_often_as_asked_and_says_so(shell: Shell) -> None:
    step = "holdfast step fetch --retry 1 -- sh -c 'echo out; echo x >> side; [ $(wc -l < side) = 2 ]'"
    script(shell, f"{step}\n{step}\nholdfast step never --retry 1 -- sh -c 'exit 4'; echo code $?\n")
    ended = run(shell)
    assert (
        ended.out == "out\nout\ncode 4\n"
    )  # of a try that failed nothing is seen: a replay would not show it
    assert "step 'fetch': exit code 1, try 1 of 2; again in 1 s" in ended.err


def test_a_step_out_of_its_time_is_ended_with_all_that_it_started(shell: Shell) -> None:
    script(
        shell, "holdfast step slow --timeout 0.3 -- sh -c 'sleep 1000 & echo $! > pid; wait'; echo code $?\n"
    )
    assert run(shell).out == "code 124\n"
    assert not alive(int(lines(shell.folder, "pid")[0]))


def test_a_step_whose_stdout_is_closed_still_has_its_time(shell: Shell) -> None:
    script(shell, "holdfast step --timeout 0.5 slow -- sh -c 'exec >/dev/null; sleep 30'; echo $?")
    assert "124" in run(shell).out.split()


def test_a_step_hears_that_nobody_reads_as_ever(shell: Shell) -> None:
    script(shell, "holdfast step --timeout 20 yes -- sh -c 'yes | head -1'; echo $?")
    assert run(shell).out.split() == ["y", "0"]


def test_a_step_that_is_told_to_end_ends_after_its_command(shell: Shell) -> None:
    inner = 'trap "" TERM; echo begin >> said; sleep 1; echo end >> said'
    script(
        shell,
        f"holdfast step a -- sh -c '{inner}' & until [ -e said ]; do sleep 0.05; done; kill $!; wait $!; "
        "holdfast step b -- cat said",
    )
    assert run(shell).out.split()[-2:] == ["begin", "end"]


def test_a_step_that_asks_for_itself_is_told_so(shell: Shell) -> None:
    script(shell, "holdfast step a -- holdfast step b -- holdfast step a -- true; echo $?")
    told = run(shell)
    assert "would wait for itself" in told.err
    assert told.out.split() == ["125"]


def test_an_argument_that_is_no_utf_8_is_passed_on_as_it_is(shell: Shell) -> None:
    script(shell, "holdfast step a -- printf '%s' \"$(printf 'x\\377')\" | od -An -c")
    assert run(shell).out.split() == ["x", "377"]


def test_a_name_with_another_command_line_is_refused(shell: Shell) -> None:
    script(shell, "holdfast step one -- echo a; holdfast step one -- echo b; echo code $?\n")
    ended = run(shell)
    assert ended.out == "a\ncode 125\n"
    assert "step 'one': it is recorded with another command line: `echo a` then, `echo b` now" in ended.err


def test_steps_beside_each_other_are_executed_beside_each_other_and_once_each(shell: Shell) -> None:
    script(
        shell,
        """
        for n in 1 2 3 4; do
          holdfast step "part $n" -- sh -c "echo $n >> side; touch here.$n; until [ -e here.1 -a -e here.2 \
-a -e here.3 -a -e here.4 ]; do sleep 0.02; done; echo $n" &
        done
        for n in 1 2 3; do holdfast step same -- sh -c 'echo same >> side; sleep 0.2; echo same' & done
        wait
        """,
    )
    assert sorted(run(shell).out.split()) == ["1", "2", "3", "4", "same", "same", "same"]
    assert Counter(lines(shell.folder, "side")) == Counter(["1", "2", "3", "4", "same"])


def test_a_step_that_dies_leaves_its_name_to_the_next(shell: Shell) -> None:
    script(
        shell,
        """
        holdfast step one -- sh -c 'echo x >> side; sleep 100' & child=$!
        while [ ! -e side ]; do sleep 0.02; done
        kill -KILL $child
        holdfast step one -- sh -c 'echo x >> side; sleep 100' & child=$!
        while [ $(wc -l < side) -lt 2 ]; do sleep 0.02; done
        kill -TERM $child; wait $child; echo code $?
        """,
    )
    assert run(shell).out == "code 143\n"


def test_a_step_that_is_killed_leaves_nobody_beside_the_next_try_of_it(shell: Shell) -> None:
    """Nor anybody who left the session of its command: the next is not begun before they are gone."""
    script(
        shell,
        """
        holdfast step one -- sh -c 'sleep 300 & echo $! >> pids; setsid sleep 300 & echo $! >> pids; echo $$ >> pids
            trap "" TERM; while :; do sleep 0.1; done' & child=$!
        while [ "$(wc -l < pids)" != 3 ]; do sleep 0.02; done 2> /dev/null
        kill -KILL $child
        holdfast step one -- sh -c 'for pid in $(cat pids); do
            case $(ps -o state= -p $pid) in Z|"") ;; *) echo beside $pid;; esac; done; echo begun'
        """,
    )
    assert run(shell).out == "begun\n"


@pytest.mark.parametrize("timeout", ["30", "0.8"])
def test_a_command_that_ended_in_time_is_no_timeout_for_what_it_left_behind(
    shell: Shell, timeout: str
) -> None:
    script(
        shell,
        f"holdfast step --timeout {timeout} a -- sh -c 'sleep 300 & echo $! > pid; echo said'; echo $?",
    )
    began_s = time.monotonic()
    assert run(shell).out.split() == ["said", "0"]
    assert time.monotonic() - began_s < 20
    assert not alive(int(lines(shell.folder, "pid")[0]))


def test_what_a_command_leaves_behind_may_still_write_for_a_moment(shell: Shell) -> None:
    script(shell, "holdfast step a -- sh -c '(sleep 0.3; echo late) & echo early'")
    assert run(shell).out.split() == ["early", "late"]


def test_a_step_reads_the_stdin_of_the_script_and_its_stderr_is_passed_on(shell: Shell) -> None:
    script(shell, "echo through | holdfast step cat -- sh -c 'cat; echo said >&2'\n")
    ended = run(shell)
    assert ended.out == "through\n"
    assert "said" in ended.err


def test_output_over_the_limit_is_told_with_the_limit(shell: Shell) -> None:
    script(shell, f"holdfast step big -- head -c {MAX_OUTPUT + 1} /dev/zero > /dev/null; echo code $?\n")
    ended = run(shell)
    assert ended.out == "code 125\n"
    assert "more than 8 MiB to stdout, the limit of what a step can record" in ended.err
    script(shell, f"holdfast step big -- head -c {MAX_OUTPUT} /dev/zero | wc -c\n")
    assert shell("run", "--id", "s", "--", "bash", "script.sh").out.strip() == str(MAX_OUTPUT)


def test_a_command_that_cannot_be_executed_has_the_codes_of_env(shell: Shell) -> None:
    (shell.folder / "text").write_text("no program")
    script(shell, "holdfast step a -- ./none; echo $?; holdfast step b -- ./text; echo $?\n")
    assert run(shell).out == "127\n126\n"


def test_progress_of_a_script_is_progress_of_its_run(shell: Shell) -> None:
    script(shell, "holdfast progress 2 8 'second of eight'; sleep 0.2\n")
    run(shell)
    told = shell("show", "r", "--json").json["progress"]
    assert (told["current"], told["total"], told["description"]) == (2, 8, "second of eight")


@pytest.mark.parametrize("words", [("step", "a", "--", "true"), ("progress", "1", "2")])
def test_outside_a_run_the_way_in_is_told(shell: Shell, words: tuple[str, ...]) -> None:
    assert "`holdfast run -- SCRIPT`" in shell(*words, code=125).err
    assert "its attempt has ended" in shell(*words, code=125, HOLDFAST_SOCKET="/nowhere/run").err


@pytest.mark.parametrize("words", [("a",), ("a", "--"), ("--retry", "x", "a", "--", "true"), ("a", "true")])
def test_a_step_that_is_typed_wrong_is_a_usage_error(shell: Shell, words: tuple[str, ...]) -> None:
    assert "Usage: holdfast step" in shell("step", *words, code=2).err


def test_a_step_loads_hardly_more_than_an_interpreter() -> None:
    code = """
import sys
sys.argv = ["holdfast", "step", "a", "--retry", "1", "--timeout", "3s", "--", "true"]
from holdfast.cli import main
try: main()
except SystemExit: pass
print(*sorted(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "holdfast.commands.step" in loaded
    assert not loaded & {
        "click",
        "msgspec",
        "asyncio",
        "subprocess",
        "logging",
        "apsw",
        "psutil",
        "holdfast.cli.app",
    }


def test_nobody_else_can_speak_for_a_program(shell: Shell) -> None:
    script(shell, "stat -c %a $HOLDFAST_SOCKET $(dirname $HOLDFAST_SOCKET); echo $HOLDFAST_SOCKET\n")
    modes = run(shell).out.split()
    assert modes[:2] == [f"{0o600:o}", f"{0o700:o}"]
    assert not Path(modes[2]).exists()


# --- killed at random ---------------------------------------------------------------------------------------------

LONG = """
did() { holdfast step "$1" -- sh -c "echo run $1 >> side; sleep 0.0\\$((\\$\\$ % 10)); echo $1 >> made/$1; echo $1"; }
set -e
mkdir -p made
for n in $(seq 0 2 LAST); do
  did s$n > out.$n; echo ack s$n >> side
  did s$((n + 1)) > out.$((n + 1)) & wait $!; echo ack s$((n + 1)) >> side
done
echo end >> side
"""


def torture(shell: Shell, kills: int, steps: int, seed: int) -> None:
    """Kill a worker so often at random instants, its script with it; check that nothing acknowledged was done again."""
    chance = random.Random(seed)
    script(shell, LONG.replace("LAST", str(steps - 1)))
    shell("start", "--id", "r", "--", "bash", "script.sh")
    done, early = 0, False
    while done < kills:
        recorded = acknowledged(shell)
        worker = shell.begin("worker", "--commands", "--until-idle")
        early = not early and chance.random() < 0.3  # twice in a row and it would look like poison
        if not early:
            wait_until(partial(lambda before: acknowledged(shell) > before, recorded))
        time.sleep(chance.random() * (1.5 if early else 0.3))
        finish(worker, signal.SIGKILL)
        done += 1
    shell("worker", "--commands", "--until-idle")
    shown = shell("show", "r", "--json").json
    assert shown["state"] == "succeeded", shown["error"]
    said = lines(shell.folder, "side")
    executed = Counter(line.split()[1] for line in said if line.startswith("run "))
    names = [f"s{n}" for n in range(steps)]
    assert set(executed) == set(names)
    assert sum(executed.values()) <= steps + done
    for name in names:
        assert f"run {name}" not in said[said.index(f"ack {name}") :], f"{name} was done again"
        assert lines(shell.folder, f"out.{name[1:]}") == [name]
        assert 1 <= len(lines(shell.folder / "made", name)) <= executed[name]
    print(f"{done} kills, {sum(executed.values()) - steps} steps in flight repeated")


def acknowledged(shell: Shell) -> int:
    return len({line for line in lines(shell.folder, "side") if line.startswith("ack ")})


@pytest.mark.timeout(150)
def test_a_script_that_is_killed_at_random_does_nothing_again_that_was_recorded(shell: Shell) -> None:
    torture(shell, kills=4, steps=24, seed=1)


@pytest.mark.torture
@pytest.mark.timeout(900)
def test_a_script_that_is_killed_thirty_times_does_nothing_again_that_was_recorded(shell: Shell) -> None:
    torture(shell, kills=30, steps=140, seed=2)
