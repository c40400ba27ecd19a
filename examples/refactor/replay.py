"""The kept changes once more, on a fresh copy of the codebase, where nobody kills anything."""

from __future__ import annotations

import tempfile
from pathlib import Path

from examples.refactor import files, rules
from examples.refactor.model import Report


def undisturbed(report: Report, scratch: Path) -> dict[str, str]:
    """The hash of every file after the kept changes, in their order, straight from the engines."""
    with tempfile.TemporaryDirectory(prefix="undisturbed-", dir=scratch) as folder:
        tree = Path(folder, "tree")
        files.copy_tree(Path(report.job.repo), tree)
        for row in report.judged:
            if row.fate == "kept":
                path = tree / row.change.path
                engine = rules.engine_of(row.change.rule)
                path.write_bytes(engine.rewrite(report.job, row.change, path.read_bytes()))
        return files.hash_tree(tree)
