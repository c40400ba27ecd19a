"""An agent in Perl, for workers: `holdfast worker examples/foreign/agents.py`."""

from __future__ import annotations

from pathlib import Path

from holdfast import Program

count = Program("count", ["perl", str(Path(__file__).with_name("count.pl"))])
"""The sum of the first `steps` squares, each a step that leaves its number in `file`."""
