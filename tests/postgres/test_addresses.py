"""What the URL of a PostgreSQL store means, and what is said of one that means nothing."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from holdfast.errors import UsageError
from holdfast.store import open_store
from holdfast.store.postgres.target import target
from tools.postgres import Server


def test_what_is_ours_is_kept_from_the_driver() -> None:
    found = target("postgresql://me@db:5433/agents?schema=two&sslmode=require&durability=unchecked")
    assert (found.conninfo, found.schema, found.unchecked) == (
        "postgresql://me@db:5433/agents?sslmode=require",
        "two",
        True,
    )


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://", "names no database; write postgresql://user@host:5432/database"),
        ("postgresql://me@db", "names no database"),
        ("postgresql://me@db/", "names no database"),
        ("postgresql://me@db:port/agents", "is not one"),
        ("postgresql://me@db/agents?schema=Bad Name", "no name of a schema"),
        ("postgresql://me@db/agents?durability=maybe", "none of: checked, unchecked"),
    ],
)
def test_a_url_that_means_no_store_is_refused_with_the_way_out(url: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        open_store(url)


async def test_a_store_is_reached_through_a_socket_without_a_host() -> None:
    server = Server()
    try:
        server.start()
        port = urlsplit(server.url).port
        url = f"postgresql:///postgres?host={server.home}&port={port}&user=holdfast&durability=unchecked"
        async with open_store(url) as store:
            assert await store.list_workers() == []
    finally:
        server.remove()
