"""Time zones by their name: the one place that reads the machine's time zone database."""

from __future__ import annotations

import difflib
import functools
from datetime import UTC, tzinfo

from holdfast.errors import UsageError


@functools.cache
def zone(name: str) -> tzinfo:
    """The zone of this name, as in `Europe/Berlin`. Raises UsageError that names the nearest one."""
    if name == "UTC":
        return UTC
    import zoneinfo  # here: most processes name no zone

    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UsageError(f"no time zone is called {name!r}{_hint(name)}") from error


def _hint(name: str) -> str:
    import zoneinfo

    known = zoneinfo.available_timezones()
    if len(known) < 2:
        return ": this machine has no time zone database; install its tzdata, or: pip install tzdata"
    wanted = name.strip().replace(" ", "_").casefold()
    cities = sorted(one for one in known if one.casefold().rpartition("/")[2] == wanted)
    folded = {one.casefold(): one for one in sorted(known)}
    near = cities[:1] or [folded[one] for one in difflib.get_close_matches(wanted, folded, n=1)]
    return f": did you mean {near[0]!r}?" if near else ": they are named as in 'Europe/Berlin'"
