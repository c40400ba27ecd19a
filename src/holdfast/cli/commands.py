"""The list of commands: where each lives, and its line in the help. Imports nothing, so that `--help` is instant."""

from __future__ import annotations

from typing import Final, NamedTuple


class Command(NamedTuple):
    """A command's module under `holdfast.cli`, its line in the help, and its function there (None: it has its name)."""

    module: str
    line: str
    function: str | None = None


GROUPS: Final[dict[str, dict[str, Command]]] = {
    "Do": {
        "run": Command("run", "Execute an agent or a program here, to the end, with progress"),
        "start": Command("start", "Queue a run for a worker, and print its id"),
        "worker": Command("worker", "Serve the agents of files: claim their runs and execute them"),
        "up": Command("up", "Keep a store going without a worker: schedules, deadlines, retention"),
        "schedule": Command("schedule", "Start runs by themselves: cron, intervals, after other runs"),
    },
    "Look": {
        "ls": Command("look", "List runs: state, reason, progress, age"),
        "top": Command("top", "All runs that go on, live; keys pause, throttle, kill, cancel"),
        "show": Command("look", "Everything about one run, and why nothing moves"),
        "steps": Command("look", "What a run has recorded, step by step"),
        "watch": Command("follow", "Follow a run live, to its end"),
        "logs": Command("follow", "The log lines of a run"),
        "checkpoints": Command("look", "The stored checkpoints of a run"),
        "state": Command("look", "The state in a checkpoint of a run"),
        "artifacts": Command("artifacts", "What a run made and keeps"),
        "artifact": Command("artifacts", "The bytes of an artifact: artifact get RUN NAME"),
    },
    "Steer": {
        "pause": Command("steer", "Pause runs at their next safe point"),
        "resume": Command("steer", "Let paused runs go on"),
        "throttle": Command("steer", "Hold runs back until they are let go"),
        "kill": Command("steer", "Kill the processes of runs, which go on from their checkpoints"),
        "cancel": Command("steer", "Cancel runs: nothing more of them is recorded"),
        "signal": Command("steer", "Send a named signal to a run"),
        "approve": Command("approve", "Answer what a run asks, or say what became of an effect"),
        "retry": Command("steer", "Let failed or held runs go on"),
        "tag": Command("steer", "Set and remove tags of a run"),
        "delete": Command("steer", "Delete finished runs and all that belongs to them"),
    },
    "In a program that a run executes": {
        "step": Command("step", "Execute a command once in the life of the run"),
        "progress": Command("step", "Tell how far the program is"),
    },
    "Keep": {
        "new": Command("new", "Make a project: an agent, its test, a README"),
        "queue": Command("queue", "Queues and what is in them; how many of one's runs at once"),
        "budget": Command("budget", "What runs may use up: list, show, set or raise budgets"),
        "workers": Command("workers", "Who serves what, and holds how much; drain one from anywhere"),
        "limits": Command("limits", "Shared rates: list them, or set one for all workers"),
        "export": Command(
            "moving", "Write runs to a file, unfinished ones included, to go on in another store"
        ),
        "import": Command("moving", "Take runs from such a file into this store", "import_"),
        "gc": Command("gc", "Delete finished runs that ended long ago"),
        "check": Command("check", "Check agents, and whether their code fits stored runs"),
        "migrate": Command("migrate", "Bring the schema of the store up to date, or look whether it is"),
        "doctor": Command("doctor", "Check this machine, the store and its workers"),
        "completion": Command("completion", "Print the completion script for bash, zsh or fish"),
    },
}
"""Commands by what people come for, in the order of the help."""

IN_PROGRAMS: Final = ("step", "progress")
"""Commands that ask the run whose program calls them, and know no store."""

COMMANDS: Final[dict[str, Command]] = {name: one for group in GROUPS.values() for name, one in group.items()}


def overview() -> str:
    """The help of `holdfast` itself."""
    lines = [
        "Usage: holdfast COMMAND [OPTIONS] [ARGUMENTS]",
        "",
        "  Durable execution for long-running AI agents: nothing acknowledged is ever",
        "  lost, nothing recorded is ever done again.",
    ]
    for group, commands in GROUPS.items():
        lines += ["", f"{group}:"]
        lines += [f"  {name:<12}{command.line}" for name, command in commands.items()]
    lines += [
        "",
        "Agents are named FILE.py:NAME or package.module:NAME. Every command takes --help,",
        "and, but for step and progress, --json (data on stdout, talk on stderr) and --store",
        "URL|PATH (else HOLDFAST_STORE, [tool.holdfast] in pyproject.toml, the nearest",
        ".holdfast/ upward).",
    ]
    return "\n".join(lines) + "\n"
