"""What a call of a model used up, read from the usage objects of the SDKs by the names of their attributes.

* anthropic `Usage`: `input_tokens` leaves out the cache; `cache_read_input_tokens`, `cache_creation_input_tokens`,
  which are those of `cache_creation`: `ephemeral_1h_input_tokens`, `ephemeral_5m_input_tokens`. At the end of a stream,
  `MessageDeltaUsage`: all but `output_tokens` may be None.
* openai `CompletionUsage`: `prompt_tokens`, of which `prompt_tokens_details.cached_tokens` are cached.
* openai `ResponseUsage`: `input_tokens`, of which `input_tokens_details.cached_tokens` are cached; the `Usage` of its
  agents SDK has `requests`, too.
* pydantic-ai `RunUsage`: `input_tokens`, of which `cache_read_tokens` are cached; `cache_write_tokens`.

Their JSON (a dict of the same names) is read as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Final, NamedTuple, cast

from holdfast.errors import UsageError
from holdfast.model import GRAINS, Unit

MOST_TOKENS: Final = 1_000_000_000_000
"""Of one call: no provider counts as many in a year."""


class Usage(NamedTuple):
    """What was used: tokens, those written to a cache among `tokens_in`, of these `tokens_written_1h` for an hour
    rather than some minutes; `usd` in nanodollars when it is known."""

    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    tokens_written: int = 0
    requests: int = 1
    usd: int | None = None
    model: str | None = None
    tokens_written_1h: int = 0

    @property
    def tokens(self) -> int:
        """All of them, cached ones, too."""
        return self.tokens_in + self.tokens_out + self.tokens_cached


def usage_of(value: object) -> Usage | None:
    """The usage that an object is or carries as `usage`; None when it has none. Raises UsageError for garbage, and
    what the object raises."""
    found = _read(value)
    if found is not None:
        return found._replace(model=_model(value) or found.model)
    inner = _get(value, "usage")
    found = None if inner is None else _read(inner)
    if found is None and callable(inner):
        inner = inner()  # pydantic-ai before 2: a method
        found = _read(inner)
    return None if found is None else found._replace(model=_model(value) or _model(inner))


def stated(
    tokens_in: object, tokens_out: object, tokens_cached: object, usd: object, model: str | None
) -> Usage:
    """The usage that code states by itself. Raises UsageError."""
    return Usage(
        _tokens("tokens_in", tokens_in),
        _tokens("tokens_out", tokens_out),
        _tokens("tokens_cached", tokens_cached),
        usd=_usd(usd),
        model=model,
    )


def together(usages: list[Usage]) -> Usage:
    """The sum; money only where it is known of all."""
    known = [usage.usd for usage in usages if usage.usd is not None]
    return Usage(
        tokens_in=sum(usage.tokens_in for usage in usages),
        tokens_out=sum(usage.tokens_out for usage in usages),
        tokens_cached=sum(usage.tokens_cached for usage in usages),
        tokens_written=sum(usage.tokens_written for usage in usages),
        requests=sum(usage.requests for usage in usages),
        usd=sum(known) if len(known) == len(usages) else None,
        model=next((usage.model for usage in usages if usage.model), None),
        tokens_written_1h=sum(usage.tokens_written_1h for usage in usages),
    )


def _get(value: object, name: str) -> object:
    if isinstance(value, Mapping):
        return cast("Mapping[object, object]", value).get(name)
    return getattr(value, name, None)


def _has(value: object, name: str) -> bool:
    return name in value if isinstance(value, Mapping) else hasattr(value, name)


def _model(value: object) -> str | None:
    named = _get(value, "model") or _get(value, "model_name")
    return named if isinstance(named, str) else None


def _read(usage: object) -> Usage | None:
    """The counts of a usage object; None when it is none."""
    if _get(usage, "prompt_tokens") is not None:  # openai, chat completions
        details = _get(usage, "prompt_tokens_details")
        return _whole(usage, "prompt_tokens", "completion_tokens", _get(details, "cached_tokens"), 0)
    if _get(usage, "output_tokens") is None:
        return None
    if _get(usage, "input_tokens") is None and not _has(usage, "input_tokens"):
        return None
    details = _get(usage, "input_tokens_details")
    if details is not None:  # openai, responses
        found = _whole(usage, "input_tokens", "output_tokens", _get(details, "cached_tokens"), 0)
        return found._replace(requests=max(1, _tokens("requests", _get(usage, "requests"))))
    if _get(usage, "cache_read_tokens") is not None:  # pydantic-ai
        found = _whole(
            usage,
            "input_tokens",
            "output_tokens",
            _get(usage, "cache_read_tokens"),
            _tokens("cache_write_tokens", _get(usage, "cache_write_tokens")),
        )
        requests = _tokens("requests", _get(usage, "requests"))
        return found._replace(requests=max(1, requests), usd=_usd(_get(usage, "cost")))
    hour, minutes = (
        _tokens(name, _get(_get(usage, "cache_creation"), name))
        for name in ("ephemeral_1h_input_tokens", "ephemeral_5m_input_tokens")
    )
    written = _tokens("cache_creation_input_tokens", _get(usage, "cache_creation_input_tokens"))
    written = max(written, hour + minutes)
    return Usage(
        _tokens("input_tokens", _get(usage, "input_tokens")) + written,
        _tokens("output_tokens", _get(usage, "output_tokens")),
        _tokens("cache_read_input_tokens", _get(usage, "cache_read_input_tokens")),
        written,
        tokens_written_1h=hour,
    )


def _whole(usage: object, read: str, made: str, cached: object, written: int) -> Usage:
    """Where what was read counts the cached among the fresh."""
    from_cache = _tokens("cached tokens", cached)
    fresh = _tokens(read, _get(usage, read)) - from_cache
    return Usage(max(0, fresh), _tokens(made, _get(usage, made)), from_cache, min(written, max(0, fresh)))


def _tokens(name: str, value: object) -> int:
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{name}={value!r} is no count of tokens: it is a whole number, 0 or more")
    if not 0 <= value <= MOST_TOKENS or value != int(value):
        raise UsageError(f"{name}={value!r} is no count of tokens: it is a whole number, 0 or more")
    return int(value)


def _usd(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise UsageError(f"usd={value!r} is no amount of money: dollars, 0 or more")
    if isinstance(value, Decimal) and not value.is_finite():  # it cannot be compared
        raise UsageError(f"usd={value!r} is no amount of money: dollars, 0 or more")
    if not 0 <= value <= 1_000_000_000:
        raise UsageError(f"usd={value!r} is no amount of money: dollars, 0 or more")
    return math.ceil(Decimal(str(value)) * GRAINS[Unit.USD])
