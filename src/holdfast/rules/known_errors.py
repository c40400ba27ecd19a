"""What is known of errors that other people's code raises: Python's own, HTTP clients, model APIs, databases.

Known by the name of the class and the package it comes from, through the ancestors of an error: nothing here imports
a library, so a user pays for none. The nearest ancestor that is known decides. An HTTP status, where an error has
one, tells more than its class, and is asked first.

Not listed on purpose, and therefore transient and unclassified: ValueError, KeyError, IndexError, ArithmeticError and
the like. In an agent they mostly mean that a model or a page answered something odd, and another try helps.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Mapping
from typing import Final, cast

from holdfast.model import FailureKind

_TRANSIENT, _FATAL, _TIMED_OUT = FailureKind.TRANSIENT, FailureKind.FATAL, FailureKind.TIMED_OUT


def known_kind(error: BaseException) -> FailureKind | None:
    """The kind of an error that is known here, or None."""
    kind = _by_detail(error)
    if kind is not None:
        return kind
    for klass in type(error).__mro__:
        kind = _KINDS.get(_known_name(klass))
        if kind is not None:
            return kind
    return None


def retry_after_s(error: BaseException) -> float | None:
    """How long the server asked to wait (`retry-after-ms`, or `retry-after` in seconds), or None.

    The form of Retry-After that is a date is left alone: it needs a clock that agrees with the server's.
    """
    for headers in (_get(error, "headers"), *_response_headers(_get(error, "response"))):
        for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
            delay_s = _number(_header(headers, name))
            if delay_s is not None:
                return delay_s * unit_s
    return None


# --- what an error says of itself ---------------------------------------------------------------------------


def _by_detail(error: BaseException) -> FailureKind | None:
    package = _package(type(error))
    if package == "botocore":
        return _of_aws(error)
    if package == "sqlite3":
        return _of_sqlite(error)
    if isinstance(error, OSError) and error.errno in _ERRNO_KINDS and _is_plain_os_error(error):
        return _ERRNO_KINDS[error.errno]
    status = _status(error, package)
    if status is None:
        return None
    if status == 429 and _get(error, "code") == "insufficient_quota":
        return _FATAL  # OpenAI's word for an account without money: waiting does not fill it
    return _of_status(status, package)


def _of_status(status: int, package: str) -> FailureKind | None:
    if status in (408, 425, 429) or status >= 500:
        return _TRANSIENT
    if status == 409 and package in ("openai", "anthropic"):
        return _TRANSIENT  # there it means a lock that was held too long; their own clients try again, too
    if status >= 300:
        return _FATAL  # the same request gets the same answer
    return None  # a good status, bad content: the class tells


def _status(error: BaseException, package: str) -> int | None:
    names = ("code",) if package in ("urllib", "google") else ("status_code", "status")
    for holder in (error, _get(error, "response")):
        for name in names:
            status = _get(holder, name)
            if isinstance(status, int) and 100 <= status <= 599:
                return int(status)
    return None


def _of_aws(error: BaseException) -> FailureKind | None:
    response = _get(error, "response")
    if _at(response, "Error", "Code") in _AWS_THROTTLES:
        return _TRANSIENT
    status = _at(response, "ResponseMetadata", "HTTPStatusCode")
    return _of_status(status, "botocore") if isinstance(status, int) else None


_AWS_THROTTLES: Final = frozenset(
    {
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottled",
        "RequestLimitExceeded",
        "TooManyRequestsException",
        "ProvisionedThroughputExceededException",
        "SlowDown",
        "RequestTimeout",
        "RequestTimeoutException",
        "PriorRequestNotComplete",
        "TransactionInProgressException",
    }
)
"""Amazon answers these with status 400 (botocore's own retry list)."""


def _of_sqlite(error: BaseException) -> FailureKind | None:
    code = _get(error, "sqlite_errorcode")
    if not isinstance(code, int):
        return None  # raised by the module itself: the class tells
    return _TRANSIENT if code & 0xFF in _SQLITE_TRANSIENT else _FATAL


# BUSY, LOCKED, NOMEM, INTERRUPT, IOERR, FULL, CANTOPEN, PROTOCOL, SCHEMA
_SQLITE_TRANSIENT: Final = frozenset({5, 6, 7, 9, 10, 13, 14, 15, 17})


def _is_plain_os_error(error: BaseException) -> bool:
    """The number decides for the errors of the system; a library's subclass has a meaning of its own."""
    return _package(type(error)) in ("builtins", "shutil", "os")


_ERRNO_KINDS: Final[Mapping[int | None, FailureKind]] = {
    # somebody may make room, let go, or plug it in again
    **dict.fromkeys(
        (
            errno.ENOSPC,
            errno.EDQUOT,
            errno.EMFILE,
            errno.ENFILE,
            errno.ENOMEM,
            errno.ENOBUFS,
            errno.EAGAIN,
            errno.EINTR,
            errno.EBUSY,
            errno.ETXTBSY,
            errno.EIO,
            errno.ESTALE,
            errno.EADDRINUSE,
            errno.EADDRNOTAVAIL,
            errno.ENETDOWN,
            errno.ENETUNREACH,
            errno.ENETRESET,
            errno.EHOSTUNREACH,
            errno.EHOSTDOWN,
            errno.ETIMEDOUT,
        ),
        _TRANSIENT,
    ),
    # it stays so until a person or the code changes it
    **dict.fromkeys(
        (
            errno.EROFS,
            errno.ENAMETOOLONG,
            errno.ELOOP,
            errno.EXDEV,
            errno.EINVAL,
            errno.EBADF,
            errno.ENOEXEC,
            errno.ENOTEMPTY,
            errno.EFBIG,
            errno.ESPIPE,
            errno.ENODEV,
            errno.ENOTSUP,
        ),
        _FATAL,
    ),
}


# --- what is known of a class -------------------------------------------------------------------------------


def _table(**names: str) -> dict[str, FailureKind]:
    """`package_kind="Name Name"` → {"package.Name": kind}."""
    table: dict[str, FailureKind] = {}
    for target, classes in names.items():
        package, _, kind = target.partition("__")
        table.update(dict.fromkeys((f"{package}.{name}" for name in classes.split()), FailureKind(kind)))
    return table


_KINDS: Final[Mapping[str, FailureKind]] = _table(
    # Ours. A StepFailed or RetriesExhausted has used up its own tries; a recorded time-out replays the same.
    holdfast__fatal="FatalError StepFailed RetriesExhausted WaitTimedOut HoldfastError",
    holdfast__transient="TransientError StoreUnavailable",
    holdfast__checkpoint="CheckpointError",
    holdfast__mismatch="JournalMismatch",
    holdfast__lost="LeaseLost WorkerStuck",
    holdfast__cancelled="Unwind",
    # Python. Programming errors stay until the code changes; so do paths that do not exist.
    builtins__fatal="""TypeError NameError AttributeError ImportError AssertionError SyntaxError NotImplementedError
        RecursionError ReferenceError StopIteration StopAsyncIteration SystemExit KeyboardInterrupt GeneratorExit
        FileNotFoundError PermissionError IsADirectoryError NotADirectoryError FileExistsError""",
    builtins__transient="""ConnectionError BlockingIOError InterruptedError ChildProcessError ProcessLookupError
        MemoryError""",
    builtins__timed_out="TimeoutError",
    asyncio__cancelled="CancelledError",
    asyncio__transient="IncompleteReadError",
    concurrent__cancelled="CancelledError",
    concurrent__transient="BrokenExecutor",
    subprocess__timed_out="TimeoutExpired",
    socket__transient="gaierror herror",  # no name server now; a wrong name fails five times and is then told
    ssl__fatal="SSLCertVerificationError",
    ssl__transient="SSLError",
    http__transient="HTTPException",
    http__fatal="InvalidURL ImproperConnectionState UnknownProtocol UnimplementedFileMode",
    urllib__transient="URLError ContentTooShortError",
    # HTTP clients (httpx2 and httpcore2 count as httpx and httpcore)
    httpx__timed_out="TimeoutException",
    httpx__transient="TransportError DecodingError RequestError HTTPError",
    httpx__fatal="UnsupportedProtocol LocalProtocolError InvalidURL CookieConflict TooManyRedirects StreamError",
    httpcore__timed_out="TimeoutException",
    httpcore__transient="NetworkError ProtocolError ProxyError ConnectionNotAvailable",
    httpcore__fatal="UnsupportedProtocol LocalProtocolError",
    requests__timed_out="Timeout",
    requests__transient="RequestException",
    requests__fatal="""InvalidURL MissingSchema InvalidSchema URLRequired TooManyRedirects InvalidHeader
        InvalidProxyURL UnrewindableBodyError StreamConsumedError""",
    urllib3__timed_out="TimeoutError",
    urllib3__transient="HTTPError NewConnectionError",  # the latter calls itself a time-out, and is none
    urllib3__fatal="LocationValueError URLSchemeUnknown UnrewindableBodyError InvalidHeader",
    aiohttp__timed_out="ServerTimeoutError",
    aiohttp__transient="ClientError",
    aiohttp__fatal="""InvalidURL NonHttpUrlClientError TooManyRedirects ClientConnectorCertificateError
        ServerFingerprintMismatch""",
    # Model APIs. The base class alone is raised for a missing key.
    openai__timed_out="APITimeoutError",
    openai__transient="APIConnectionError APIError WebSocketConnectionClosedError WebSocketQueueFullError",
    openai__fatal="OpenAIError",
    anthropic__timed_out="APITimeoutError",
    anthropic__transient="APIConnectionError APIError",
    anthropic__fatal="AnthropicError",
    # Databases
    sqlite3__transient="OperationalError",
    sqlite3__fatal="Error",
    apsw__transient="""BusyError LockedError FullError IOError CantOpenError NoMemError InterruptError
        ProtocolError SchemaChangeError AbortError""",
    apsw__fatal="Error",
    psycopg__transient="OperationalError InterfaceError InternalError",
    psycopg__fatal="Error InvalidPassword InvalidAuthorizationSpecification InvalidCatalogName",
    asyncpg__transient="""PostgresConnectionError TransactionRollbackError InsufficientResourcesError
        OperatorInterventionError InterfaceError InternalClientError""",
    asyncpg__fatal="PostgresError InvalidAuthorizationSpecificationError",
    sqlalchemy__timed_out="TimeoutError",
    # DBAPIError itself wraps what a driver did not sort, asyncpg's deadlocks among them
    sqlalchemy__transient="OperationalError InterfaceError InternalError DisconnectionError DBAPIError",
    sqlalchemy__fatal="SQLAlchemyError DatabaseError",
    redis__timed_out="TimeoutError",
    redis__transient="""RedisError BusyLoadingError TryAgainError ClusterDownError ReadOnlyError MasterDownError
        OutOfMemoryError""",
    redis__fatal="AuthenticationError AuthorizationError ResponseError DataError",
    botocore__timed_out="ConnectTimeoutError ReadTimeoutError",
    botocore__transient="HTTPClientError ConnectionError ConnectionClosedError IncompleteReadError",
    botocore__fatal="""NoCredentialsError PartialCredentialsError ParamValidationError NoRegionError
        DataNotFoundError UnknownServiceError""",
)

_SAME_PACKAGE: Final = {
    "httpx2": "httpx",
    "httpcore2": "httpcore",
    "psycopg2": "psycopg",
    "_asyncio": "asyncio",
}


def _known_name(klass: type) -> str:
    return f"{_package(klass)}.{klass.__name__}"


def _package(klass: type) -> str:
    package = klass.__module__.partition(".")[0]
    return _SAME_PACKAGE.get(package, package)


# --- reading values that may be anything --------------------------------------------------------------------


def _get(holder: object, name: str) -> object:
    try:
        value: object = getattr(holder, name, None)
    except Exception:  # noqa: BLE001 - foreign code: a property of an error may raise, and then it tells nothing
        return None
    return value


def _at(mapping: object, *names: str) -> object:
    for name in names:
        if not isinstance(mapping, Mapping):
            return None
        mapping = cast("Mapping[str, object]", mapping).get(name)
    return mapping


def _response_headers(response: object) -> tuple[object, ...]:
    return (_get(response, "headers"), _at(response, "ResponseMetadata", "HTTPHeaders"))


def _header(headers: object, name: str) -> object:
    """Headers are a dict, an HTTP client's own mapping, or an email Message: what they share is `get`."""
    get = _get(headers, "get")
    if not callable(get):
        return None
    try:
        return get(name) or get(name.title())
    except Exception:  # noqa: BLE001 - foreign code
        return None


def _number(value: object) -> float | None:
    if not isinstance(value, str | int | float):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None
