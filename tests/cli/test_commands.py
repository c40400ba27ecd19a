"""The shell in real processes: start, serve, look, steer, and every way to go wrong."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys

import pytest

from holdfast.rules.ladder import Rung
from tests.cli.shell import Shell, finish

RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")

SHOW_KEYS = [
    "id", "agent", "version", "state", "reason", "queue", "priority", "attempts", "failures", "steps", "step",
    "progress", "checkpoint", "resources", "worker", "result", "error", "created_at", "started_at", "finished_at",
    "tags", "parent", "children", "budget", "clocks", "workspace", "throttled", "history",
]  # fmt: skip


def test_a_started_run_is_served_and_looked_at_by_other_processes(shell: Shell) -> None:
    started = shell("start", "agents.py:hello", "--input", '{"name": "sea"}', "--id", "h1")
    assert started.out == "h1\n"
    assert shell("ls", "--json").json[0]["state"] == "queued"
    shell("worker", "agents.py", "--until-idle")

    shown = shell("show", "h1", "--json").json
    assert list(shown) == SHOW_KEYS
    assert (shown["state"], shown["result"], shown["steps"], shown["attempts"]) == (
        "succeeded",
        "hello sea",
        1,
        1,
    )
    assert shown["progress"]["percent"] == 100
    assert set(shown["progress"]) == {
        "current", "total", "percent", "description", "phase", "eta_low_s", "eta_high_s", "updated_at",
    }  # fmt: skip
    assert RFC_3339.fullmatch(shown["created_at"]) and RFC_3339.fullmatch(shown["finished_at"])

    (step,) = shell("steps", "h1", "--json").json
    assert list(step) == [
        "n",
        "name",
        "key",
        "segment",
        "scope",
        "attempt",
        "status",
        "started_at",
        "finished_at",
    ]
    assert (step["n"], step["name"], step["status"], step["segment"]) == (1, "greet", "ok", "setup")

    lines = shell("watch", "h1", "--json").json_lines
    assert [set(line) for line in lines] == [{"run", "n", "at", "type", "data"}] * len(lines)
    assert [line["n"] for line in lines] == list(range(1, len(lines) + 1))
    types = [line["type"] for line in lines]
    assert types[0] == "run.queued" and types[-1] == "run.succeeded"
    assert {"run.running", "step.finished", "log", "progress"} <= set(types)
    (log,) = shell("logs", "h1", "--json").json_lines
    assert log["data"]["message"] == "greeting sea"
    assert "greeting sea" in shell("logs", "h1", "-f").out


def test_pages_for_people_say_the_same(shell: Shell) -> None:
    shell("run", "agents.py:count", "--input", json.dumps({"path": "notes", "total": 4}), "--id", "c1")
    assert "c1" in shell("ls").out and "4/4 100%" in shell("ls").out
    page = shell("show", "c1").out
    assert "succeeded" in page and "agent" in page and "result" in page
    assert "\x1b" not in page
    assert "note" in shell("steps", "c1").out
    assert "half" in shell("checkpoints", "c1").out
    (stored,) = shell("checkpoints", "c1", "--json").json
    assert set(stored) == {"n", "name", "at", "bytes", "good"}
    assert stored["good"] is True
    assert shell("state", "c1").json == {"done": 2}
    assert shell("state", "c1", "--checkpoint", "1", "--json").json == {"done": 2}
    shell("state", "c1", "--checkpoint", "9", code=5)


def test_run_prints_the_result_alone_on_stdout(shell: Shell) -> None:
    ended = shell("run", "agents.py:hello")
    assert ended.out == '"hello world"\n'
    assert "succeeded" in ended.err and "a print of the agent's" in ended.err
    (run,) = shell("ls", "--json").json
    assert re.fullmatch(r"hello-[0-9a-z]{8}", run["id"])
    assert shell("run", "agents.py:hello", "--json").json["result"] == "hello world"


def test_run_goes_on_after_sigkill_and_repeats_nothing_recorded(shell: Shell) -> None:
    given = json.dumps({"folder": str(shell.folder)})
    killed = shell("run", "agents.py:mortal", "--input", given, "--id", "m1", code=None)
    assert killed.code == -signal.SIGKILL
    shown = shell("show", "m1", "--json").json
    assert (shown["state"], shown["worker"]) == ("running", None)
    assert "its worker is gone" in shell("show", "m1").out
    resumed = shell("run", "agents.py:mortal", "--input", given, "--id", "m1")
    assert resumed.json == "survived"
    assert (shell.folder / "before").read_text() == "1\n"
    assert (shell.folder / "after").read_text() == "1\n"


def test_run_of_a_known_id_resumes_prints_or_refuses(shell: Shell) -> None:
    shell("run", "agents.py:hello", "--id", "h1")
    assert shell("run", "agents.py:hello", "--id", "h1").json == "hello world"
    refused = shell("run", "agents.py:hello", "--id", "h1", "--input", '{"name": "other"}', code=6)
    assert "h1" in refused.err
    shell("start", "agents.py:hello", "--id", "h1", "--input", '{"name": "other"}', code=6)
    again = shell("start", "agents.py:hello", "--id", "h1")
    assert again.out == "h1\n" and "already" in again.err


def test_run_without_an_id_names_its_unfinished_twin(shell: Shell) -> None:
    shell("run", "agents.py:patient", "--id", "p1", code=4)
    refused = shell("run", "agents.py:patient", code=6)
    assert "p1" in refused.err and "--id" in refused.err
    assert len(shell("ls", "--json").json) == 1


def test_a_failed_run_shows_the_user_s_frames_and_is_retried(shell: Shell) -> None:
    given = json.dumps({"path": str(shell.folder / "divisor")})
    failed = shell("run", "agents.py:fragile", "--input", given, "--id", "f1", code=1)
    assert "the divisor is missing" in failed.err
    assert "agents.py" in failed.err and "in divide" in failed.err
    assert "site-packages" not in failed.err and "src/holdfast" not in failed.err
    assert "holdfast retry f1" in failed.err
    error = shell("show", "f1", "--json").json["error"]
    assert (error["type"], error["class"]) == ("FatalError", "fatal")
    assert set(error) == {"type", "message", "class", "cause"}
    assert shell("run", "agents.py:fragile", "--id", "f1", code=1).out == ""

    (shell.folder / "divisor").write_text("1")
    assert "f1: queued" in shell("retry", "f1").out
    assert shell("run", "agents.py:fragile", "--id", "f1").json == 1.0
    statuses = [step["status"] for step in shell("steps", "f1", "--json").json]
    assert statuses == ["ok", "superseded", "ok"]
    shell("retry", "f1", code=6)


def test_a_run_that_waits_for_a_signal_is_left_with_4_and_continued(shell: Shell) -> None:
    left = shell("run", "agents.py:patient", "--id", "p1", code=4)
    assert "holdfast signal p1 go" in left.err
    shown = shell("show", "p1", "--json").json
    assert (shown["state"], shown["reason"]) == ("waiting", "signal")
    assert "waits for the signal 'go'" in shell("show", "p1").out
    sent = shell("signal", "p1", "go", "--data", '{"by": "me"}', "--json").json
    assert (sent["run"], sent["name"]) == ("p1", "go")
    assert shell("run", "agents.py:patient", "--id", "p1").json == {"by": "me"}


def test_ctrl_c_parks_a_run_and_says_how_to_go_on(shell: Shell) -> None:
    given = json.dumps({"path": "notes", "total": 4000, "pause_s": 0.05})
    running = shell.begin("run", "agents.py:count", "--input", given, "--id", "c1")
    shell.until("c1", lambda run: run["steps"] > 4)
    parked = finish(running, signal.SIGINT)
    assert parked.code == 130, parked.err
    assert "holdfast run agents.py:count --id c1" in parked.err
    shown = shell("show", "c1", "--json").json
    assert (shown["state"], shown["reason"], shown["failures"]) == ("waiting", "parked", 0)
    assert "holdfast run" in shell("show", "c1").out

    stopped = shell.begin("run", "agents.py:count", "--id", "c1")
    shell.until("c1", lambda run: run["steps"] > shown["steps"] + 4)
    drained = finish(stopped, signal.SIGTERM)
    assert drained.code == 143, drained.err
    assert shell("show", "c1", "--json").json["state"] == "queued"
    notes = [int(line) for line in (shell.folder / "notes").read_text().split()]
    assert notes == sorted(set(notes))


def test_a_run_is_steered_from_another_process(shell: Shell) -> None:
    given = json.dumps({"path": "notes", "total": 4000, "pause_s": 0.05})
    worker = shell.begin("worker", "agents.py", "--name", "w1")
    shell("start", "agents.py:count", "--input", given, "--id", "c1")
    running = shell.until("c1", lambda run: run["steps"] > 3)
    assert running["worker"]["name"] == "w1" and running["worker"]["pid"] == worker.pid
    following = shell.begin("watch", "c1", "--json")
    shell("pause", "c1")
    paused = shell.until("c1", lambda run: run["state"] == "waiting")
    assert paused["reason"] == "paused"
    shell("pause", "c1")
    assert shell("resume", "c1").out.startswith(("c1: queued", "c1: running"))  # the worker is quick
    shell.until("c1", lambda run: run["steps"] > paused["steps"])
    assert "c1: cancelled" in shell("cancel", "c1").out
    shell("cancel", "c1")
    followed = finish(following)
    assert followed.code == 3
    assert followed.json_lines[-1]["type"] == "run.cancelled"
    shell("run", "agents.py:count", "--id", "c1", code=3)
    shell("resume", "c1", code=6)
    shell("signal", "c1", "go", code=6)
    shell("delete", "c1", "--json")
    shell("show", "c1", code=5)
    ended = finish(worker, signal.SIGTERM)
    assert ended.code == 143, ended.err
    assert "serves" in ended.err and "count" in ended.err


def test_run_refuses_a_run_that_a_live_worker_executes(shell: Shell) -> None:
    given = json.dumps({"path": "notes", "total": 4000, "pause_s": 0.05})
    shell("start", "agents.py:count", "--input", given, "--id", "c1")
    worker = shell.begin("worker", "agents.py", "--name", "w1")
    shell.until("c1", lambda run: run["state"] == "running")
    refused = shell("run", "agents.py:count", "--id", "c1", code=6)
    assert "w1" in refused.err and "holdfast watch c1" in refused.err
    finish(worker, signal.SIGTERM)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("launch",), 2, "no such command 'launch'"),
        (("wroker",), 2, "did you mean 'worker'?"),
        (("run",), 2, "Missing argument"),
        (("run", "agents.py:hello", "--input", "{oops"), 2, "is not JSON"),
        (("run", "agents.py:hello", "--input", "[1]"), 2, "object"),
        (("run", "agents.py:hello", "--input", '{"nam": "x"}'), 2, "did you mean 'name'?"),
        (("run", "agents.py:hello", "--input", '{"name": 3}'), 2, "name"),
        (("run", "agents.py:hello", "--input", "@gone.json"), 2, "gone.json"),
        (("run", "agents.py:count", "--input", '{"path": "x"}'), 2, "total"),
        (("run", "agents.py:helo"), 5, "did you mean 'hello'?"),
        (("run", "agent.py:hello"), 5, "did you mean"),
        (("run", "agents.py"), 5, "agents.py:hello"),
        (("run", "no.such.module:x"), 5, "no.such.module"),
        (("run", "agents.py:greet"), 5, "is no agent"),
        (("start", "agents.py:hello", "--delay", "soon"), 2, "not a duration"),
        (("start", "agents.py:hello", "--id", "a b"), 2, "spaces"),
        (("worker",), 2, "Missing argument"),
        (("worker", "gone.py"), 5, "gone.py"),
        (("show", "nobody"), 5, "no store here"),
        (("ls", "--store", "gone.db"), 7, "does not exist"),
        (("ls", "--store", "nosuch://x"), (2, 7), "nosuch"),
        (("retry", "x", "--accept", "0"), 2, "0"),
    ],
    ids=lambda value: (
        " ".join(value) if isinstance(value, tuple) and value and isinstance(value[0], str) else None
    ),
)
def test_bad_input_gets_a_clear_line_and_its_code(
    shell: Shell, arguments: tuple[str, ...], code: int | tuple[int, ...], says: str
) -> None:
    ended = shell(*arguments, code=None)
    assert ended.code in (code if isinstance(code, tuple) else (code,)), ended.err
    assert says in ended.err
    assert ended.out == ""


def test_an_agent_file_that_does_not_import_shows_its_own_frames(shell: Shell) -> None:
    (shell.folder / "broken.py").write_text("import holdfast\n\ndef f():\n    return undefined\n\nf()\n")
    done = subprocess.run(
        [sys.executable, "-m", "holdfast", "run", "broken.py:x"],
        cwd=shell.folder, env=shell.environ, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert done.returncode == 2
    assert "NameError" in done.stderr and "broken.py" in done.stderr and "return undefined" in done.stderr
    assert "src/holdfast" not in done.stderr and "importlib" not in done.stderr


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('@holdfast.agent(isolation="process", limits=holdfast.Limits(memory="1MB"))', "memory='1MB'"),
        ('@holdfast.agent(isolation="proces")', "isolation is one of"),
        ("@holdfast.agent(budget=holdfast.Budget(usd=-1))", "usd=-1 is no amount"),
    ],
)
def test_a_setting_that_cannot_be_meant_shows_the_line_that_says_it_and_none_of_ours(
    shell: Shell, line: str, told: str
) -> None:
    (shell.folder / "broken.py").write_text(f"import holdfast\n\n{line}\nasync def x(ctx): ...\n")
    refused = shell("run", "broken.py:x", code=2).err
    assert told in refused and line in refused
    assert "src/holdfast" not in refused and "<string>" not in refused


def test_ids_may_be_shortened_and_near_ones_are_named(shell: Shell) -> None:
    for name in ("alpha-1", "alpha-2", "beta-1"):
        shell("start", "agents.py:hello", "--id", name)
    assert shell("show", "b", "--json").json["id"] == "beta-1"
    several = shell("show", "alpha", code=5)
    assert "alpha-1" in several.err and "alpha-2" in several.err
    assert "did you mean 'beta-1'?" in shell("show", "bta-1", code=5).err
    assert "holdfast ls" in shell("show", "zzz", code=5).err
    assert [run["id"] for run in shell("ls", "--json", "-n", "1").json] == ["beta-1"]
    assert shell("ls", "--json", "--state", "failed").json == []


def test_a_delayed_run_says_when_it_starts(shell: Shell) -> None:
    shell("start", "agents.py:hello", "--id", "later", "--delay", "4h", "--priority", "-3")
    shown = shell("show", "later", "--json").json
    assert (shown["state"], shown["priority"], shown["attempts"]) == ("queued", -3, 0)
    assert re.search(r"starts in (3h 59m|4h)", shell("show", "later").out)
    shell("delete", "later", code=6)


def test_doctor_finds_a_sound_store_and_says_what_named_it(shell: Shell) -> None:
    assert shell("doctor", code=7).out.count("fail") == 1
    shell("run", "agents.py:hello")
    found = {one["check"]: one for one in shell("doctor", "--json").json}
    assert {"python", "sqlite", "store", "disk", "integrity", "wal", "store clock"} <= set(found)
    assert found["integrity"]["verdict"] == "ok"
    assert ".holdfast" in found["store"]["found"]
    assert "ok" in shell("doctor").out


def test_doctor_says_for_each_limit_and_each_rung_what_acts_here(shell: Shell) -> None:
    found = {one["check"]: one for one in shell("doctor", "--json", code=7).json}
    assert found["control groups"]["found"]
    for name in ("cpu", "memory", "disk", "processes", "open_files"):
        strength, _, by = found[f"limit {name}"]["found"].partition(": ")
        assert strength in {"kernel", "each process", "watched", "refused"} and by
    for rung in Rung:
        assert found[f"rung {rung.name.lower()}"]["found"]


def test_input_from_a_file_and_from_stdin(shell: Shell) -> None:
    (shell.folder / "input.json").write_text('{"name": "file"}')
    assert shell("run", "agents.py:hello", "--input", "@input.json").json == "hello file"
    assert shell("run", "agents.py:hello", "--input", "@-", stdin='{"name": "stdin"}').json == "hello stdin"


def test_completion_prints_a_script_and_completes_ids(shell: Shell) -> None:
    assert "_HOLDFAST_COMPLETE" in shell("completion", "bash").out
    shell("start", "agents.py:hello", "--id", "finishing-1")
    wanted = {"_HOLDFAST_COMPLETE": "bash_complete", "COMP_WORDS": "holdfast show fin", "COMP_CWORD": "2"}
    for _ in range(10):  # a shell waits half a second for them; a busy machine may need a second TAB
        told = shell(code=None, **wanted).out
        if "finishing-1" in told:
            break
    assert "finishing-1" in told


def test_a_closed_pipe_is_no_error(shell: Shell) -> None:
    shell("run", "agents.py:hello", "--id", "h1")
    command = f"{sys.executable} -m holdfast watch h1 --json | head -n 1"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        cwd=shell.folder, env=shell.environ, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert done.stderr == ""
    assert json.loads(done.stdout)["n"] == 1


def test_help_of_every_command_is_shown(shell: Shell) -> None:
    assert "Usage: holdfast" in shell("--help").out
    assert "--until-idle" in shell("worker", "--help").out
    assert shell("--version").out.startswith("holdfast 0.")


def test_what_run_began_goes_to_the_workers_once_it_is_retried(shell: Shell) -> None:
    shell("run", "agents.py:fragile", "--input", '{"path": "divisor"}', "--id", "f1", code=1)
    shell("retry", "f1")
    shell("worker", "agents.py", "--until-idle")
    assert shell("show", "f1", "--json").json["attempts"] == 2


def test_a_run_that_no_worker_may_take_keeps_none_of_them_from_being_idle(shell: Shell) -> None:
    interrupted = shell.begin(
        "run", "agents.py:count", "--input", '{"path": "notes", "total": 9, "pause_s": 60}', "--id", "c1"
    )
    shell.until("c1", lambda run: run["steps"] > 0)
    finish(interrupted, signal.SIGKILL)
    shell("worker", "agents.py", "--until-idle")
    assert shell("show", "c1", "--json").json["attempts"] == 1


def test_every_time_in_the_data_of_an_event_is_rfc_3339(shell: Shell) -> None:
    shell("run", "agents.py:count", "--input", '{"path": "notes", "total": 1, "pause_s": 0.3}', "--id", "c1")
    times: dict[str, object] = {}
    for line in shell("watch", "c1", "--json").json_lines:
        assert not [key for key in line["data"] if key.endswith("_us")]
        times |= {key: value for key, value in line["data"].items() if key == "at" or key.endswith("_at")}
    assert {"available_at", "started_at"} <= set(times)
    assert all(RFC_3339.fullmatch(str(value)) for value in times.values())
