"""Whose a frame of a traceback is: people are shown those of their own code."""

from __future__ import annotations

from pathlib import Path
from traceback import FrameSummary
from typing import Final

_OURS: Final = str(Path(__file__).parent)
_MADE: Final = "<string>"


def is_ours(frame: FrameSummary) -> bool:
    """Whether it is a frame of holdfast, or of what `dataclass` made in its name: that has no line to look at."""
    return frame.filename.startswith(_OURS) or (frame.filename == _MADE and frame.name == "__init__")
