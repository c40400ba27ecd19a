"""Executes a page from its first block to its last, in a folder of its own: `python execute.py PAGE FOLDER [DATABASE]`.

Python blocks share one namespace; those that use `ctx`, `client` or `handle` are executed where there is one. Shell
blocks run `holdfast`; what they show is compared loosely: numbers, spaces and progress bars may differ, lines may be
left out. A second of the reader's is a quarter here: long enough for two commands to come in time on a busy machine.
"""

from __future__ import annotations

import ast
import asyncio
import importlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import types
from pathlib import Path

import holdfast
from tests.docs.pages import ADDRESS, Block, blocks, is_shell

TOP = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
PATIENCE_S = 20.0
LOOKS = {"ls", "show", "steps", "checkpoints", "state", "watch", "logs"}


class Page:
    """One page being executed."""

    def __init__(self, folder: Path, database: str | None) -> None:
        self.folder = folder
        self.database = database
        self.names: dict[str, object] = {"__name__": "__main__", "holdfast": holdfast, "asyncio": asyncio}
        self.left: list[subprocess.Popen[str]] = []
        self.environ = {k: v for k, v in os.environ.items() if not k.startswith("HOLDFAST_")}
        self.environ |= {"PYTHONUNBUFFERED": "1", "NO_COLOR": "1", "COLUMNS": "200"}

    def run(self, block: Block) -> None:
        if block.directive.startswith("skip"):
            return
        if block.file and block.language != "python":
            (self.folder / block.file).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            self.python(block)
        elif is_shell(block):
            self.shell(block)

    def close(self) -> None:
        for process in self.left:
            process.terminate()
        for process in self.left:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()

    # --- Python ---------------------------------------------------------------------------------------------

    def python(self, block: Block) -> None:
        source = block.text.replace("asyncio.sleep(1)", "asyncio.sleep(0.25)")
        if block.file:
            (self.folder / block.file).write_text(source, encoding="utf-8")
            importlib.invalidate_caches()
            sys.modules.pop(Path(block.file).stem, None)
            module = importlib.import_module(Path(block.file).stem)
            self.names |= {name: value for name, value in vars(module).items() if not name.startswith("_")}
            return
        code = compile(source, f"line {block.line}", "exec", flags=TOP)
        free = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
        if "ctx" in free and "ctx" not in _arguments(source):
            asyncio.run(self.in_an_agent(code))
        elif free & {"client", "handle"} and "async def main" not in source:
            asyncio.run(self.with_a_client(code, block.directive))
        else:
            eval(code, self.names)

    async def in_an_agent(self, code: types.CodeType) -> None:
        async def page(ctx: holdfast.Context) -> None:
            self.names["ctx"] = ctx
            waits = eval(code, self.names)
            if waits is not None:
                await waits

        agent = holdfast.agent(name="page", retry=holdfast.RetryPolicy(attempts=1))(page)
        async with holdfast.open_store(self.folder / "page.db") as store, holdfast.Worker(store, [agent]):
            handle = await holdfast.Client(store).start(agent)
            await handle.signal("go", {"yes": True})
            await handle.result()

    async def with_a_client(self, code: types.CodeType, directive: str) -> None:
        agents = list(
            {id(one): one for one in self.names.values() if isinstance(one, holdfast.Agent)}.values()
        )
        async with holdfast.open_store(self.folder / "page.db") as store, holdfast.Worker(store, agents):
            self.names |= {"store": store, "client": holdfast.Client(store)}
            if directive.startswith("handle = "):
                start = directive.removeprefix("handle = ").replace("(", ", ", 1)
                self.names["handle"] = await eval(f"client.start({start}", self.names)
            waits = eval(code, self.names)
            if waits is not None:
                await waits

    # --- the shell ------------------------------------------------------------------------------------------

    def shell(self, block: Block) -> None:
        for command, shown in _commands(block):
            words = [self.meant(word) for word in shlex.split(command)]
            if words[0] == "holdfast":
                self.command(block, words[1:], shown)
            elif words[0] == "export":
                name, _, value = words[1].partition("=")
                self.environ[name] = value

    def meant(self, word: str) -> str:
        return word if self.database is None else word.replace(ADDRESS, self.database)

    def command(self, block: Block, words: list[str], shown: list[str]) -> None:
        stop = re.match(r"(kill|ctrl-c) after (.+)", block.directive)
        if words[0] == "worker" and "--until-idle" not in words:
            self.left.append(self.start(words))
            self.until(self.left[-1], "serves")
            return
        if stop:
            process = self.start(words)
            self.until(process, stop[2])
            process.send_signal(signal.SIGKILL if stop[1] == "kill" else signal.SIGINT)
            process.communicate(timeout=PATIENCE_S)
            return
        wanted = int(block.directive.removeprefix("exit ")) if block.directive.startswith("exit ") else 0
        until = time.monotonic() + PATIENCE_S
        while True:
            done = subprocess.run(
                self.argv(words), cwd=self.folder, env=self.environ, text=True, timeout=PATIENCE_S,
                capture_output=True,
            )  # fmt: skip
            missing = self.missing(shown, done.stdout, done.stderr)
            if missing is None and done.returncode == wanted:
                return
            if words[0] not in LOOKS or time.monotonic() > until:
                break
        told = f"line {block.line}: holdfast {shlex.join(words)} left with {done.returncode}, not {wanted}"
        raise SystemExit(f"{told}; not in its output: {missing!r}\n{done.stderr}{done.stdout}")

    def argv(self, words: list[str]) -> list[str]:
        return [sys.executable, "-m", "holdfast", *words]

    def start(self, words: list[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.argv(words), cwd=self.folder, env=self.environ, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def until(self, process: subprocess.Popen[str], text: str) -> None:
        assert process.stdout is not None
        seen = ""
        for line in process.stdout:
            seen += line
            if text in line:
                return
        raise SystemExit(f"{process.args} ended before it said {text!r}:\n{seen}")

    def missing(self, shown: list[str], *outputs: str) -> str | None:
        """The first line that is shown, and in none of the outputs after those before it."""
        left = [[self.loose(line) for line in output.splitlines()] for output in outputs]
        for line in shown:
            wanted = self.loose(line)
            if wanted in ("", "…"):
                continue
            for lines in left:
                at = next((at for at, one in enumerate(lines) if _fits(wanted, one)), None)
                if at is not None:
                    del lines[: at + 1]
                    break
            else:
                return line
        return None

    def loose(self, line: str) -> str:
        if self.database is not None:
            line = line.replace(self.database, ADDRESS).replace(self.database.partition("?")[0], ADDRESS)
        line = line.replace(socket.gethostname(), "laptop").replace(str(self.folder), "/home/me/agents")
        line = re.sub(r"[━╸╺]+", " ", line)
        line = re.sub(r"\d+(\.\d+)?(ms|s|m|h|d)?", "0", line)
        return " ".join(line.split())


def _fits(wanted: str, line: str) -> bool:
    """Whether the line is the wanted one; … at its end stands for anything."""
    if wanted.endswith("…"):
        return line.startswith(wanted.removesuffix("…").rstrip())
    return line == wanted


def _arguments(source: str) -> set[str]:
    return {node.arg for node in ast.walk(ast.parse(source)) if isinstance(node, ast.arg)}


def _commands(block: Block) -> list[tuple[str, list[str]]]:
    if block.language != "console":
        return [(line, []) for line in block.text.splitlines() if line.strip()]
    found: list[tuple[str, list[str]]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif found:
            found[-1][1].append(line)
    return found


def main(page: str, folder: str, database: str | None = None) -> None:
    os.chdir(folder)
    sys.path.insert(0, folder)
    executed = Page(Path(folder), database)
    try:
        for block in blocks(Path(page)):
            try:
                executed.run(block)
            except Exception as error:
                error.add_note(f"in the block at line {block.line} of {page}")
                raise
    finally:
        executed.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
