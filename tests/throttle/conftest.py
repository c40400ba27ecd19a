"""The grounds that a test stands on."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from holdfast.rules.limits import Limits
from holdfast.throttle import Group, Groups
from tests.throttle.trees import ground_of

EVERY_GROUND = ["here", "v2", "v1", "v1 without freezer", "none"]


@pytest.fixture(params=EVERY_GROUND)
def groups(request: pytest.FixtureRequest, tmp_path: Path) -> Groups:
    """Groups on each ground that this machine has."""
    return Groups(tmp_path / "groups", ground=ground_of(request.param))


@pytest.fixture
def make() -> Iterator[Callable[..., Group]]:
    """Makes a group by the kind of ground and limits; removed afterwards."""
    made: list[Group] = []

    def create(kind: str, **limits: object) -> Group:
        groups = Groups(ground=ground_of(kind))
        made.append(groups.create(secrets.token_hex(4), Limits(**limits)))  # type: ignore[arg-type]
        return made[-1]

    yield create
    for group in made:
        group.remove()
