"""The errors of other people's code: the real ones where the library is at hand, else ones of the same name."""

from __future__ import annotations

import asyncio
import concurrent.futures
import email.message
import errno
import http.client
import socket
import ssl
import subprocess
import urllib.error
from collections.abc import Mapping

import anthropic
import apsw
import httpx
import httpx2
import openai
import pytest

from holdfast import errors
from holdfast.model import Failure, FailureKind
from holdfast.rules.known_errors import known_kind
from holdfast.rules.retry import RetryPolicy, classify

TRANSIENT, FATAL, TIMED_OUT = FailureKind.TRANSIENT, FailureKind.FATAL, FailureKind.TIMED_OUT
LOST = Failure(kind=TRANSIENT, type="E", message="")


def told(error: BaseException) -> Failure:
    return classify(error, RetryPolicy())


def of(module: str, name: str, *bases: type[BaseException], **attributes: object) -> BaseException:
    """An error of a library that is not installed here: the class's name and module are all that counts."""
    klass = type(name, bases or (Exception,), {"__module__": module})
    error = klass("x")
    for attribute, value in attributes.items():
        setattr(error, attribute, value)
    return error


# --- Python and holdfast ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.FatalError("x"), FATAL),
        (errors.TransientError("x"), TRANSIENT),
        (errors.UsageError("x"), FATAL),
        (errors.NotSerializable("x"), FATAL),
        (errors.RunNotFound("x"), FATAL),
        (errors.StoreFull("x"), TRANSIENT),
        (errors.StoreUnavailable("x"), TRANSIENT),
        (errors.StoreCorrupt("x"), FATAL),
        (errors.CheckpointError("x"), FailureKind.CHECKPOINT),
        (errors.JournalMismatch("x"), FailureKind.MISMATCH),
        (errors.LeaseLost("x"), FailureKind.LOST),
        (errors.WaitTimedOut("x", entry=1), FATAL),
        (errors.RunFailed("r", LOST), FATAL),
        (errors.Cancelled(), FailureKind.CANCELLED),
        (asyncio.CancelledError(), FailureKind.CANCELLED),
        (concurrent.futures.CancelledError(), FailureKind.CANCELLED),
        (TypeError("x"), FATAL),
        (UnboundLocalError("x"), FATAL),
        (ModuleNotFoundError("x"), FATAL),
        (AssertionError("x"), FATAL),
        (NotImplementedError("x"), FATAL),
        (RecursionError("x"), FATAL),
        (SystemExit(1), FATAL),
        (MemoryError(), TRANSIENT),
        (TimeoutError("x"), TIMED_OUT),
        (TimeoutError(), TIMED_OUT),
        (asyncio.IncompleteReadError(b"", 5), TRANSIENT),
        (subprocess.TimeoutExpired("make", 5), TIMED_OUT),
        (ConnectionResetError("x"), TRANSIENT),
        (FileNotFoundError("x"), FATAL),
        (PermissionError(errno.EACCES, "x"), FATAL),
        (IsADirectoryError("x"), FATAL),
        (OSError(errno.ENOSPC, "full"), TRANSIENT),
        (OSError(errno.EMFILE, "too many files"), TRANSIENT),
        (OSError(errno.EROFS, "read-only"), FATAL),
        (TimeoutError(errno.ETIMEDOUT, "x"), TRANSIENT),
        (socket.gaierror(socket.EAI_NONAME, "x"), TRANSIENT),
        (ssl.SSLCertVerificationError("x"), FATAL),
        (ssl.SSLError("x"), TRANSIENT),
        (http.client.RemoteDisconnected("x"), TRANSIENT),
        (http.client.IncompleteRead(b""), TRANSIENT),
        (urllib.error.URLError("x"), TRANSIENT),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_errors_of_python_and_of_ours_are_known(error: BaseException, kind: FailureKind):
    failure = told(error)
    assert (failure.kind, failure.unclassified) == (kind, False)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        KeyError("x"),
        IndexError("x"),
        ZeroDivisionError("x"),
        OSError("x"),
        RuntimeError("x"),
    ],
)
def test_what_a_model_or_a_page_can_cause_is_left_unclassified(error: Exception):
    failure = told(error)
    assert (failure.kind, failure.unclassified) == (TRANSIENT, True)


def test_a_users_error_of_the_same_name_is_not_mistaken_for_a_known_one():
    assert known_kind(of("shop", "FatalError")) is None


# --- HTTP clients -------------------------------------------------------------------------------------------

STATUSES = [
    (302, FATAL),
    (400, FATAL),
    (401, FATAL),
    (404, FATAL),
    (408, TRANSIENT),
    (422, FATAL),
    (425, TRANSIENT),
    (429, TRANSIENT),
    (500, TRANSIENT),
    (503, TRANSIENT),
    (529, TRANSIENT),
]


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
@pytest.mark.parametrize(("status", "kind"), [*STATUSES, (409, FATAL)])
def test_the_status_decides_for_http(library, status: int, kind: FailureKind):
    request = library.Request("GET", "http://example.test/")
    response = library.Response(status, request=request, headers={"Retry-After": "7"})
    with pytest.raises(library.HTTPStatusError) as caught:
        response.raise_for_status()
    failure = told(caught.value)
    assert (failure.kind, failure.retry_after_s, failure.unclassified) == (kind, 7.0, False)


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ConnectError", TRANSIENT),
        ("ReadError", TRANSIENT),
        ("RemoteProtocolError", TRANSIENT),
        ("DecodingError", TRANSIENT),
        ("ConnectTimeout", TIMED_OUT),
        ("ReadTimeout", TIMED_OUT),
        ("PoolTimeout", TIMED_OUT),
        ("UnsupportedProtocol", FATAL),
        ("LocalProtocolError", FATAL),
        ("TooManyRedirects", FATAL),
        ("InvalidURL", FATAL),
    ],
)
def test_errors_of_httpx_and_httpx2_are_known(library, name: str, kind: FailureKind):
    assert told(getattr(library, name)("x")).kind is kind


def test_a_stream_that_was_not_read_is_a_programming_error():
    assert told(httpx.ResponseNotRead()).kind is FATAL


def headers(**fields: str) -> email.message.Message:
    message = email.message.Message()
    for name, value in fields.items():
        message[name.replace("_", "-")] = value
    return message


def test_errors_of_urllib_have_a_status():
    full = urllib.error.HTTPError("http://example.test/", 503, "busy", headers(Retry_After="4"), None)
    gone = urllib.error.HTTPError("http://example.test/", 404, "gone", headers(), None)
    with full, gone:
        assert (told(full).kind, told(full).retry_after_s, told(gone).kind) == (TRANSIENT, 4.0, FATAL)


class Response:
    def __init__(self, status_code: int, headers: Mapping[str, str] | None = None) -> None:
        self.status_code = status_code
        self.headers = headers or {}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (of("requests.exceptions", "HTTPError", OSError, response=Response(503)), TRANSIENT),
        (of("requests.exceptions", "HTTPError", OSError, response=Response(403)), FATAL),
        (of("requests.exceptions", "ReadTimeout", type(of("requests.exceptions", "Timeout"))), TIMED_OUT),
        (of("requests.exceptions", "MissingSchema", ValueError), FATAL),
        (of("requests.exceptions", "RequestException", OSError), TRANSIENT),
        (of("aiohttp.client_exceptions", "ClientResponseError", status=502), TRANSIENT),
        (of("aiohttp.client_exceptions", "ClientResponseError", status=404), FATAL),
        (of("aiohttp.client_exceptions", "ServerTimeoutError", TimeoutError), TIMED_OUT),
        (of("aiohttp.client_exceptions", "ClientError"), TRANSIENT),
        (of("aiohttp.client_exceptions", "InvalidURL", ValueError), FATAL),
        (of("urllib3.exceptions", "HTTPError"), TRANSIENT),
        (of("urllib3.exceptions", "TimeoutError"), TIMED_OUT),
        (of("google.genai.errors", "ServerError", code=503, status="UNAVAILABLE"), TRANSIENT),
        (of("google.genai.errors", "ClientError", code=400, status="INVALID_ARGUMENT"), FATAL),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_errors_of_other_http_clients_are_known(error: BaseException, kind: FailureKind):
    assert told(error).kind is kind


# --- Retry-After --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"Retry-After": "3"}, 3.0),
        ({"retry-after-ms": "250", "retry-after": "3"}, 0.25),
        ({"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({}, None),
    ],
    ids=str,
)
def test_the_server_says_when_to_come_back(fields: dict[str, str], expected: float | None):
    assert told(of("shop", "Busy", response=Response(429, fields))).retry_after_s == expected


def test_headers_on_the_error_itself_count_too():
    assert (
        told(
            of("aiohttp.client_exceptions", "ClientResponseError", headers={"Retry-After": "2"})
        ).retry_after_s
        == 2
    )


def test_an_error_whose_attributes_raise_is_classified_all_the_same():
    class Hostile(Exception):
        @property
        def response(self) -> object:
            raise RuntimeError("not now")

        @property
        def headers(self) -> object:
            class Headers:
                def get(self, name: str) -> str:
                    raise RuntimeError(name)

            return Headers()

    assert told(Hostile("x")).unclassified


# --- model APIs ---------------------------------------------------------------------------------------------


def api_status(library, status: int, body: object = None, **fields: str) -> Exception:
    """The error that the library's own client makes of an answer."""
    request = httpx.Request("POST", "http://example.test/")
    response = httpx.Response(status, request=request, headers=fields, json=body)
    client = (library.OpenAI if library is openai else library.Anthropic)(
        api_key="x", base_url="http://example.test"
    )
    return client._make_status_error_from_response(response)


@pytest.mark.parametrize("library", [openai, anthropic], ids=["openai", "anthropic"])
@pytest.mark.parametrize(("status", "kind"), [*STATUSES, (409, TRANSIENT)])
def test_the_status_decides_for_model_apis(library, status: int, kind: FailureKind):
    error = api_status(library, status, {"error": {"message": "m"}}, **{"retry-after-ms": "1500"})
    failure = told(error)
    assert (failure.kind, failure.retry_after_s) == (kind, 1.5)


@pytest.mark.parametrize("library", [openai, anthropic], ids=["openai", "anthropic"])
def test_connection_errors_of_model_apis_are_known(library):
    request = httpx.Request("POST", "http://example.test/")
    assert told(library.APIConnectionError(request=request)).kind is TRANSIENT
    assert told(library.APITimeoutError(request=request)).kind is TIMED_OUT


@pytest.mark.parametrize("library", [openai, anthropic], ids=["openai", "anthropic"])
def test_an_error_in_the_middle_of_a_stream_that_began_well_is_transient(library):
    assert (
        told(api_status(library, 200, {"type": "error", "error": {"type": "overloaded_error"}})).kind
        is TRANSIENT
    )


def test_an_account_without_money_is_not_asked_again():
    body = {"error": {"message": "m", "code": "insufficient_quota"}}
    assert told(api_status(openai, 429, body)).kind is FATAL


def test_a_missing_key_is_fatal(monkeypatch: pytest.MonkeyPatch):
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(openai.OpenAIError) as caught:
        openai.OpenAI().models.list()
    assert told(caught.value).kind is FATAL


# --- databases ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (apsw.BusyError("x"), TRANSIENT),
        (apsw.FullError("x"), TRANSIENT),
        (apsw.ConstraintError("x"), FATAL),
        (apsw.SQLError("no such table"), FATAL),
        (of("sqlite3", "OperationalError", sqlite_errorcode=5), TRANSIENT),
        (of("sqlite3", "OperationalError", sqlite_errorcode=5 | 2 << 8), TRANSIENT),
        (of("sqlite3", "OperationalError", sqlite_errorcode=1), FATAL),
        (of("sqlite3", "OperationalError"), TRANSIENT),
        (of("sqlite3", "ProgrammingError", type(of("sqlite3", "Error"))), FATAL),
        (of("psycopg.errors", "DeadlockDetected", type(of("psycopg", "OperationalError"))), TRANSIENT),
        (of("psycopg.errors", "InvalidPassword", type(of("psycopg", "OperationalError"))), FATAL),
        (of("psycopg2.errors", "UniqueViolation", type(of("psycopg2", "Error"))), FATAL),
        (
            of(
                "asyncpg.exceptions", "DeadlockDetectedError", type(of("asyncpg", "TransactionRollbackError"))
            ),
            TRANSIENT,
        ),
        (of("asyncpg.exceptions", "PostgresError"), FATAL),
        (of("sqlalchemy.exc", "OperationalError"), TRANSIENT),
        (of("sqlalchemy.exc", "IntegrityError", type(of("sqlalchemy.exc", "SQLAlchemyError"))), FATAL),
        (of("sqlalchemy.exc", "DBAPIError"), TRANSIENT),
        (of("sqlalchemy.exc", "DatabaseError", type(of("sqlalchemy.exc", "DBAPIError"))), FATAL),
        (of("redis.exceptions", "RedisError"), TRANSIENT),
        (of("redis.exceptions", "AuthenticationError"), FATAL),
        (of("redis.exceptions", "ReadOnlyError", type(of("redis.exceptions", "ResponseError"))), TRANSIENT),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_errors_of_databases_are_known(error: BaseException, kind: FailureKind | None):
    assert known_kind(error) is kind


def aws(code: str, status: object) -> BaseException:
    response = {
        "Error": {"Code": code},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": {"retry-after": "6"}},
    }
    return of("botocore.exceptions", "ClientError", response=response)


def test_amazons_throttling_is_transient_whatever_its_status():
    failure = told(aws("ThrottlingException", 400))
    assert (failure.kind, failure.retry_after_s) == (TRANSIENT, 6.0)
    assert told(aws("ValidationException", 400)).kind is FATAL
    assert told(aws("InternalError", 500)).kind is TRANSIENT
    assert told(aws("Odd", None)).unclassified


@pytest.mark.parametrize(
    ("name", "kind"),
    [("ReadTimeoutError", TIMED_OUT), ("NoCredentialsError", FATAL), ("HTTPClientError", TRANSIENT)],
)
def test_errors_of_botocore_without_an_answer_are_known_by_name(name: str, kind: FailureKind):
    assert known_kind(of("botocore.exceptions", name)) is kind
