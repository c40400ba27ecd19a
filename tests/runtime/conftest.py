"""Fixtures of the runtime tests."""

from __future__ import annotations

import pytest

from tests.socketed import through_sockets


@pytest.fixture(autouse=True, params=["here", "socket"])
def port(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which of its two ports a Context has: the worker's writer, or a socket to it."""
    if request.param == "socket":
        through_sockets(monkeypatch)
    return str(request.param)
