"""For users: the tools with which one's own agents, and one's own store, are proved.

Nothing is imported here: each tool names what it needs (`holdfast.testing.conformance` needs pytest and
pytest-asyncio).
"""

from __future__ import annotations
