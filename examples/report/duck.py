"""DuckDB, one disposable database a step: what is durable are Parquet files, named by their content.

Laws:
1. A database lives in memory and in a scratch folder, and is gone with its step. A kill leaves nothing to repair.
2. One thread, and sums of decimals: the same rows give the same figures, in whatever order they are met.
3. What does not fit under the limit goes to the scratch folder: sorts and windows do, so rows are counted by these.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from examples.stage import durable
from holdfast import FatalError

MACROS = Path(__file__).with_name("macros.sql").read_text(encoding="utf-8")


@contextmanager
def opened(memory_mb: int, scratch: Path | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database under a memory limit. Raises FatalError where even spilling does not keep within it."""
    with tempfile.TemporaryDirectory(prefix="duck-", dir=scratch, ignore_cleanup_errors=True) as folder:
        settings: dict[str, str | bool | int | float | list[str]] = {
            "threads": 1,
            "memory_limit": f"{memory_mb}MB",
            "temp_directory": folder,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        db = duckdb.connect(":memory:", config=settings)
        try:
            yield db
        except duckdb.OutOfMemoryException as error:
            raise FatalError(
                f"DuckDB cannot do this within {memory_mb} MB ({str(error).splitlines()[0]}); "
                "give the run more: memory_mb"
            ) from error
        finally:
            db.close()


def name(identifier: str) -> str:
    """An identifier in a statement, whatever characters it has."""
    return '"' + identifier.replace('"', '""') + '"'


def text(value: object) -> str:
    """A text in a statement."""
    return "'" + str(value).replace("'", "''") + "'"


def texts(values: Iterable[object]) -> str:
    """A list of texts in a statement."""
    return "[" + ", ".join(text(value) for value in values) + "]"


def write(db: duckdb.DuckDBPyConnection, query: str, folder: Path) -> str:
    """Write a query's rows to a Parquet file in `folder`; its name. Whole, durable, and repeatable."""
    with tempfile.TemporaryDirectory(prefix="part-", dir=folder) as scratch:
        temporary = Path(scratch, "part.parquet")
        db.execute(f"COPY ({query}) TO {text(temporary)} (FORMAT parquet, COMPRESSION zstd)")
        return durable.keep(temporary, folder, ".parquet")
