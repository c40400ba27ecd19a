"""How an agent is found: by `FILE.py:NAME` or `package.module:NAME`, where another process finds it, and which others
its code can name."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import CellType, ModuleType
from typing import NoReturn

from holdfast.agents import Agent, AnyAgent
from holdfast.errors import AgentNotFound, UsageError
from holdfast.tracebacks import is_ours


def load_agent(reference: str) -> AnyAgent:
    """The agent that `FILE.py:NAME` or `package.module:NAME` names: a variable's name, or the agent's own.

    Raises AgentNotFound saying what is there, UsageError when the user's code fails to import.
    """
    place, name = _split(reference)
    if not name:
        there = ", ".join(f"{place}:{variable}" for variable in _agents_in(_load(place)))
        raise AgentNotFound(f"{reference!r} names no agent in it: write {there or f'{place}:NAME'}")
    return _pick(_load(place), place, name)


def load_agents(reference: str) -> list[AnyAgent]:
    """All agents in `FILE.py` or `package.module`, those it imports included; with `:NAME`, that one alone.

    Raises AgentNotFound when there is none, UsageError when two differ but share a name and version.
    """
    place, name = _split(reference)
    if name:
        return [load_agent(reference)]
    module = _load(place)
    found: dict[tuple[str, str], AnyAgent] = {}
    for variable, candidate in _agents_in(module).items():
        known = found.setdefault((candidate.name, candidate.version), candidate)
        if known is not candidate:
            raise UsageError(
                f"{place} has two agents named {candidate.name!r} with version {candidate.version!r} (one is "
                f"{variable}): runs could not tell them apart; give one another name"
            )
    if not found:
        raise AgentNotFound(f"{place} has no agents: put @holdfast.agent above `async def NAME(ctx, ...)`")
    return list(found.values())


def _split(reference: str) -> tuple[str, str]:
    place, colon, name = reference.rpartition(":")
    return (place, name) if colon else (reference, "")


def _agents_in(module: ModuleType) -> dict[str, AnyAgent]:
    return {variable: value for variable, value in vars(module).items() if isinstance(value, Agent)}


def _pick(module: ModuleType, place: str, name: str) -> AnyAgent:
    there = _agents_in(module)
    if name in there:
        return there[name]
    by_name = [candidate for candidate in there.values() if candidate.name == name]
    if by_name:
        return by_name[0]
    if hasattr(module, name):
        raise AgentNotFound(
            f"{name!r} in {place} is no agent: put @holdfast.agent above `async def {name}(ctx, ...)`"
        )
    near = difflib.get_close_matches(name, there, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there is {', '.join(there) or 'no agent at all'}"
    raise AgentNotFound(f"{place} has no agent {name!r}: {hint}")


def _load(place: str) -> ModuleType:
    if place.endswith(".py") or "/" in place or Path(place).is_file():
        return _load_file(place)
    return _load_module(place)


def _load_file(place: str) -> ModuleType:
    path = Path(place).expanduser().resolve()
    if not path.is_file():
        near = difflib.get_close_matches(path.name, [other.name for other in path.parent.glob("*.py")], n=1)
        hint = f"did you mean {Path(place).with_name(near[0])}?" if near else f"looked for {path}"
        raise AgentNotFound(f"there is no file {place!r}: {hint}")
    name = path.stem
    if (path.parent / "__init__.py").is_file() and not _is_from(sys.modules["__main__"], path):
        return _load_from_package(path, place)
    _see_first(str(path.parent))
    for known in ("__main__", name, f"{name}@{path}"):
        if known in sys.modules and _is_from(sys.modules[known], path):
            return sys.modules[known]
    if name in sys.modules:  # another module of that name is in use, so this one gets a name of its own
        name = f"{name}@{path}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise AgentNotFound(f"{place!r} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the user's module may raise anything
        del sys.modules[name]
        _refuse_import(place, error)
    return module


def _load_from_package(path: Path, place: str) -> ModuleType:
    """A file in a package is loaded as the module it is there, so that its imports of the package work."""
    root = path.parent
    while (root / "__init__.py").is_file():
        root = root.parent
    _see_first(str(root))
    inside = path.parent if path.stem == "__init__" else path.with_suffix("")
    try:
        return importlib.import_module(".".join(inside.relative_to(root).parts))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the user's module may raise anything
        _refuse_import(place, error)


def _load_module(place: str) -> ModuleType:
    _see_first(str(Path.cwd()))
    try:
        return importlib.import_module(place)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the user's module may raise anything
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and (place == missing or place.startswith(f"{missing}.")):
            raise AgentNotFound(
                f"there is no module {place!r}: name a file (FILE.py:NAME), or a module that `python -c 'import "
                f"{place}'` finds from here"
            ) from None
        _refuse_import(place, error)


def _see_first(folder: str) -> None:
    """Put the folder first on the path, as `python FILE` does."""
    if folder not in sys.path:
        sys.path.insert(0, folder)


def _is_from(module: ModuleType, path: Path) -> bool:
    origin = getattr(module, "__file__", None)
    return origin is not None and Path(origin).resolve() == path


def _refuse_import(place: str, error: BaseException) -> NoReturn:
    """Tell the user's own error with the user's own frames: the import machinery's and ours say nothing."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not is_ours(frame)
        and not frame.filename.startswith("<frozen")
        and "importlib" not in frame.filename
    ]
    told = "".join(traceback.format_list(frames) + traceback.format_exception_only(error)).rstrip()
    raise UsageError(f"{place} cannot be imported:\n{told}") from None


def place_of(agent: AnyAgent) -> str:
    """Where another process finds the agent: a file, or the name of a module. `agent_at` is the way back.

    Raises UsageError for an agent that is made inside a function, or typed into a prompt.
    """
    own = sys.modules.get(inspect.unwrap(agent.fn).__module__)
    for module in (own, *list(sys.modules.values())):
        if module is not None and any(value is agent for value in list(vars(module).values())):
            break
    else:
        raise UsageError(
            f"agent {agent.name!r} is no variable of a module, so a process of its own cannot import it: "
            "define it at the top level of a file"
        )
    name = module.__name__
    spec = getattr(module, "__spec__", None)
    if name == "__main__" and spec is not None:
        name = spec.name  # python -m package.module: of a package, that is its `__main__`
    if "." in name or hasattr(module, "__path__"):
        return name
    file = getattr(module, "__file__", None)
    if file is None:
        raise UsageError(
            f"agent {agent.name!r} is in no file, so a process of its own cannot import it: put it in one"
        )
    return str(Path(file).resolve())


def agent_at(place: str, name: str, version: str) -> AnyAgent:
    """The agent of this name and version in a file or module. Raises AgentNotFound, UsageError."""
    global importing
    importing = place
    try:
        module = _load(place)
    finally:
        importing = None
    for found in _agents_in(module).values():
        if (found.name, found.version) == (name, version):
            return found
    raise AgentNotFound(
        f"{place} has no agent {name!r} of version {version!r} any more: the worker has other code, restart it"
    )


importing: str | None = None
"""What is imported for a run in its own process: nothing may be started meanwhile."""


def check_not_importing() -> None:
    """Refuse to start anything while a process imports the code of its run: it would go on for ever."""
    if importing is not None:
        raise UsageError(
            f"{importing} starts holdfast whenever it is imported, and the process of a run imports it: "
            "put the start under `if __name__ == '__main__':`"
        )


def reachable(agents: Iterable[AnyAgent]) -> list[AnyAgent]:
    """The agents, and those that their code can name: what a run of them may start as its children.

    Looked through are the namespaces of their modules, the modules in these, and what their functions close over. Of
    two with one name and version the first counts.
    """
    found: dict[tuple[str, str], AnyAgent] = {}
    todo = list(agents)
    seen: set[int] = set()
    while todo:
        agent = todo.pop(0)
        if found.setdefault((agent.name, agent.version), agent) is not agent:
            continue
        for space in _namespaces(agent.fn):
            if id(space) not in seen:
                seen.add(id(space))
                todo += (value for value in list(space.values()) if isinstance(value, Agent))
    return list(found.values())


def _namespaces(fn: Callable[..., object]) -> Iterator[Mapping[str, object]]:
    fn = inspect.unwrap(fn)
    known: dict[str, object] = getattr(fn, "__globals__", {})
    yield known
    yield from (vars(value) for value in list(known.values()) if isinstance(value, ModuleType))
    closed_over = getattr(fn, "__closure__", None) or ()
    yield {str(n): cell.cell_contents for n, cell in enumerate(closed_over) if not _is_empty(cell)}


def _is_empty(cell: CellType) -> bool:
    try:
        return cell.cell_contents is None
    except ValueError:  # not assigned yet
        return True
