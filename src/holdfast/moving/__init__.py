"""Runs carried from one store to another, in a file that a person can read: `holdfast export` and `holdfast import`."""

from __future__ import annotations

from holdfast.moving.incoming import Imported, Importing, import_runs, verify
from holdfast.moving.outgoing import Exported, Exporting, export_runs

__all__ = ["Exported", "Exporting", "Imported", "Importing", "export_runs", "import_runs", "verify"]
