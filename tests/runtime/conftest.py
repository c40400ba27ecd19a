"""Fixtures of the runtime tests."""

from __future__ import annotations

import pytest

from tests.socketed import through_sockets

PORTS = ("here", "socket")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test on an engine executes runs, through both ports of a Context; for all others they are the same."""
    if "engine" in metafunc.fixturenames:
        metafunc.parametrize("port", PORTS, indirect=True)


@pytest.fixture(autouse=True)
def port(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which of its two ports a Context has: the worker's writer, or a socket to it."""
    name = str(getattr(request, "param", PORTS[0]))
    if name == "socket":
        through_sockets(monkeypatch)
    return name
