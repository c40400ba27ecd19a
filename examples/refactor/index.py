"""What a codebase is made of, and which tests reach a file: the import graph, turned round.

Pure: these rules read source text that is handed to them. They err on the side of more tests: importing a package
counts as importing its `__init__`, a test counts as importing every `conftest.py` above it, and a file that no test
reaches is judged by the whole suite.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import PurePosixPath

from examples.refactor.model import Index

TEST_FOLDERS = frozenset({"test", "tests"})


def is_test(path: str) -> bool:
    """By the names that pytest and unittest collect."""
    name = PurePosixPath(path).name
    return name.startswith("test_") or name.endswith("_test.py") or name in {"test.py", "tests.py"}


def is_source(path: str) -> bool:
    """A Python file that a rule may change: neither a test nor what tests stand on."""
    parts = PurePosixPath(path).parts
    return not (is_test(path) or parts[-1] == "conftest.py" or TEST_FOLDERS.intersection(parts[:-1]))


def package_root(path: str, files: Collection[str]) -> PurePosixPath:
    """The folder that must be on the module path for this file: the first one upward without `__init__.py`."""
    folder = PurePosixPath(path).parent
    while folder.name and str(folder / "__init__.py") in files:
        folder = folder.parent
    return folder


def dotted(path: str, root: PurePosixPath) -> str:
    """`src/pkg/mod.py` seen from `src` is `pkg.mod`; an `__init__.py` is its package."""
    module = PurePosixPath(path).relative_to(root).with_suffix("")
    parts = module.parts[:-1] if module.name == "__init__" else module.parts
    return ".".join(parts)


def package_of(path: str, files: Collection[str]) -> str:
    """The outermost package that a file belongs to, or the file itself: what is in scope, or out of it, together."""
    root = package_root(path, files)
    return str(root / PurePosixPath(path).relative_to(root).parts[0])


def imported_names(source: str, module: str, is_package: bool) -> Iterator[str]:
    """Every dotted name that a module might import, relative ones resolved; nothing when it does not parse."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute_base(node, module, is_package)
            yield base
            yield from (f"{base}.{alias.name}".lstrip(".") for alias in node.names)


def absolute_base(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    """The package that a `from … import` starts at."""
    if not node.level:
        return node.module or ""
    steps_up = node.level - 1 if is_package else node.level
    parts = module.split(".")
    anchor = parts[: max(0, len(parts) - steps_up)]
    return ".".join([*anchor, *([node.module] if node.module else [])])


def prefixes(name: str) -> Iterator[str]:
    """`a.b.c` imports `a`, `a.b` and `a.b.c`."""
    parts = name.split(".")
    return (".".join(parts[: count + 1]) for count in range(len(parts)))


def importers(sources: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Python file → the files that import it, from the text of every Python file."""
    named: dict[str, set[str]] = defaultdict(set)
    for path in sources:
        named[dotted(path, package_root(path, sources))].add(path)
        named[dotted(path, PurePosixPath("."))].add(path)  # folders without __init__.py are packages too
    reverse: dict[str, set[str]] = defaultdict(set)
    for path, text in sources.items():
        module = dotted(path, package_root(path, sources))
        names = imported_names(text, module, path.endswith("__init__.py"))
        reached = {prefix for name in names for prefix in prefixes(name)}
        targets = {target for name in reached for target in named.get(name, ())}
        for target in targets | set(conftests(path, sources)):
            if target != path:
                reverse[target].add(path)
    return {path: tuple(sorted(users)) for path, users in sorted(reverse.items())}


def conftests(path: str, files: Collection[str]) -> Iterator[str]:
    """The fixtures that a test sees without importing them."""
    if is_test(path):
        folders = PurePosixPath(path).parents
        yield from (found for folder in folders if (found := str(folder / "conftest.py")) in files)


def build(files: dict[str, str], sources: Mapping[str, str]) -> Index:
    """The index of a codebase from the hash of every file and the text of every Python file."""
    return Index(
        files=files,
        sources=tuple(path for path in sorted(sources) if is_source(path)),
        tests=tuple(path for path in sorted(sources) if is_test(path)),
        importers=importers(sources),
    )


def users_of(index: Index, path: str) -> set[str]:
    """Everything that imports a file, directly or through others, and the file itself."""
    seen = {path}
    ahead = [path]
    while ahead:
        for user in index.importers.get(ahead.pop(), ()):
            if user not in seen:
                seen.add(user)
                ahead.append(user)
    return seen


def tests_that_matter(index: Index, path: str, ran: Collection[str]) -> tuple[str, ...]:
    """The test files to judge a change of `path` by, out of those that `ran` in the baseline.

    Empty means the whole suite: no test reaches the file by imports, or all of them do.
    """
    reached = users_of(index, path).intersection(ran)
    return () if len(reached) == len(ran) else tuple(sorted(reached))


def in_scope(index: Index, ran: Collection[str]) -> tuple[str, ...]:
    """The sources worth changing: those in a package of which the tests import something; all, if they import none."""
    files = index.files
    tested = {package_of(path, files) for path in index.sources if users_of(index, path).intersection(ran)}
    chosen: Iterable[str] = (path for path in index.sources if package_of(path, files) in tested)
    return tuple(chosen) or index.sources
