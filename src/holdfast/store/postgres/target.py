"""Which database a URL means, and what of it is ours: `postgresql://user@host/database?schema=holdfast`."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from holdfast.errors import UsageError

SCHEMA: Final = "holdfast"
_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,40}")
_OURS: Final = ("schema", "durability")


@dataclass(frozen=True, slots=True)
class Target:
    """One store: a schema of a database."""

    url: str
    conninfo: str
    """What libpq connects with: the URL without what is ours."""
    where: str
    """The store as errors name it, without a password."""
    schema: str
    unchecked: bool
    """Whether a server that loses what it acknowledged, at a power cut, is fine: for tests."""

    def lock(self, name: str) -> int:
        """The number of an advisory lock of this store."""
        digest = hashlib.sha256(f"holdfast {self.schema} {name}".encode()).digest()
        return int.from_bytes(digest[:8], "big", signed=True)

    def text(self, sql: str) -> str:
        """A text of ours, which names the schema `holdfast`, for this one."""
        return sql if self.schema == SCHEMA else sql.replace("holdfast.", f"{self.schema}.")


def target(url: str) -> Target:
    """What `url` means. Raises UsageError, with the way out."""
    try:
        parts = urlsplit(url)
        given = dict(parse_qsl(parts.query, keep_blank_values=True))
        host = _shown(parts.hostname, parts.port, parts.username)
    except ValueError as error:
        raise UsageError(f"the URL of the store is not one: {error}; write {_EXAMPLE}") from error
    schema = given.get("schema", SCHEMA)
    if not _NAME.fullmatch(schema):
        raise UsageError(f"schema={schema!r} is no name of a schema: small letters, digits and _, 41 at most")
    durability = given.get("durability", "checked")
    if durability not in ("checked", "unchecked"):
        raise UsageError(f"durability={durability!r} is none of: checked, unchecked")
    if not parts.path.strip("/"):
        raise UsageError(f"the URL of the store names no database; write {_EXAMPLE}")
    theirs = urlencode({name: value for name, value in given.items() if name not in _OURS})
    # Not by urlunsplit: it drops the slashes where there is no host, as in postgresql:///database?host=/run/postgresql
    conninfo = f"postgresql://{parts.netloc}{parts.path}" + f"?{theirs}" * bool(theirs)
    where = f"postgresql://{host}{parts.path}" + ("" if schema == SCHEMA else f" (schema {schema})")
    return Target(url=url, conninfo=conninfo, where=where, schema=schema, unchecked=durability == "unchecked")


_EXAMPLE: Final = "postgresql://user@host:5432/database"


def _shown(host: str | None, port: int | None, user: str | None) -> str:
    return f"{user}@" * bool(user) + (host or "") + f":{port}" * bool(port)
