"""The frames that pass between a worker and the process of a run, and how they are written.

A frame is a length, four bytes with the highest first, and so many bytes of JSON: an object whose `type` says which
one it is. Bytes are base64, instants whole microseconds. `docs/protocol.md` tells it to other languages.
"""

from __future__ import annotations

import inspect
import struct
from collections.abc import Mapping
from typing import Any, Final, TypeVar, get_args, get_type_hints

import msgspec
from msgspec import Raw, Struct

from holdfast import errors
from holdfast.ending import Ending, Lost
from holdfast.errors import HoldfastError, NotSerializable, PayloadTooLarge, ProtocolError, StoreError
from holdfast.model import (
    AdjustRate,
    Beside,
    CancelChild,
    Change,
    Claim,
    CloseApproval,
    Committed,
    Crashed,
    CursorOver,
    Entry,
    Failed,
    Hold,
    Level,
    NewApproval,
    NewArtifact,
    NewCheckpoint,
    NewChild,
    NewCursor,
    NewOutput,
    Note,
    Outcome,
    Park,
    Progress,
    Reason,
    Release,
    Retry,
    Settle,
    Succeeded,
)
from holdfast.port import Questions

PROTOCOL: Final = 1
"""The version that both sides name first. It rises when a frame changes its meaning."""

MAX_FRAME: Final = 128 * 1024 * 1024
"""Bytes of a frame of a process: the largest payload (64 MiB) as base64, and room for the rest."""
MAX_FROM_WORKER: Final = 1024 * 1024 * 1024
"""Bytes of a frame of a worker: a journal of large payloads comes at once. Text that is no frame announces more."""

LENGTH: Final = struct.Struct(">I")

T = TypeVar("T")


class Frame(Struct, frozen=True, tag_field="type", tag=str.lower):
    """What passes, one way or the other."""


# --- from the worker --------------------------------------------------------------------------------------------


class Pressure(Frame, frozen=True):
    """How near the processes of the run are to its limits: `ok`, `warning` or `critical`."""

    level: Level


class Origin(Struct, frozen=True):
    """Where the code of an agent is: `place` is a module's name or a file, `path` is where imports are looked for."""

    place: str
    agent: str
    version: str
    path: tuple[str, ...]


class Begin(Frame, frozen=True):
    """The first frame: what to execute, and what is recorded of it. `origin` is None for what is no Python agent.
    `workspace` is the path of the run's folder, which need not be there; None: it has none. `ahead_us`: how far the
    clock of the store is ahead of this machine's."""

    protocol: int
    claim: Claim
    origin: Origin | None = None
    workspace: str | None = None
    ahead_us: int = 0


class Answer(Frame, frozen=True):
    """The Change of the Commit with this number is durable."""

    id: int
    committed: Committed


class Reply(Frame, frozen=True):
    """The answer to the Ask with this number."""

    id: int
    value: Raw


class Refusal(Frame, frozen=True):
    """What the frame with this number wanted cannot be; `error` is the class of the error."""

    id: int
    error: str
    message: str


class Asked(Frame, frozen=True):
    """How the attempt shall end at its next safe point; None: it shall go on after all."""

    outcome: tuple[str, Raw] | None


class End(Frame, frozen=True):
    """The attempt shall end now. `["Lost", …]`: nothing can be recorded any more."""

    ending: tuple[str, Raw]


class SlowDown(Frame, frozen=True):
    """How long to pause at each step boundary, in seconds; 0: not at all."""

    pause_s: float


# --- from the process of the run --------------------------------------------------------------------------------


class Hello(Frame, frozen=True):
    """The process is there, and speaks this version."""

    protocol: int


class Commit(Frame, frozen=True):
    """A Change that is to become durable. The worker knows whose it is. Answered by Answer or Refusal.

    With an outcome it is the last word of the process: nobody answers, and it is recorded when the process has gone.
    """

    id: int
    position: int
    entries: tuple[Entry, ...] = ()
    notes: tuple[Note, ...] = ()
    checkpoint: NewCheckpoint | None = None
    progress: Progress | None = None
    outcome: tuple[str, Raw] | None = None
    step: str | None = None
    reason: Reason | None = None
    beside: tuple[tuple[str, Raw], ...] = ()


class Ask(Frame, frozen=True):
    """A question to the store: a method of `Questions` and its arguments. Answered by Reply or Refusal."""

    id: int
    what: str
    args: Raw


class Alive(Frame, frozen=True):
    """The event loop of the process turns: sent once a second. `lag_s` is the longest time since the last of these for
    which it kept somebody waiting."""

    lag_s: float = 0.0


Down = Begin | Answer | Reply | Refusal | Asked | End | SlowDown | Pressure
Up = Hello | Commit | Ask | Alive

_DOWN: Final[msgspec.json.Decoder[Down]] = msgspec.json.Decoder(Down)
_UP: Final[msgspec.json.Decoder[Up]] = msgspec.json.Decoder(Up)
_encode: Final = msgspec.json.Encoder().encode


def pack(frame: Frame) -> bytes:
    """The frame as it is sent. Raises PayloadTooLarge, NotSerializable."""
    try:
        body = _encode(frame)
    except UnicodeEncodeError as error:
        raise NotSerializable(
            f"text with half a character (a lone surrogate) cannot be recorded: {error}"
        ) from error
    most = MAX_FRAME if isinstance(frame, Up) else MAX_FROM_WORKER
    if len(body) > most:
        raise PayloadTooLarge(
            f"{len(body)} bytes do not pass between a worker and the process of a run, over {most}: "
            "record less at a time, checkpoint more often, or give the agent isolation='task'"
        )
    return LENGTH.pack(len(body)) + body


def length_of(came: bytes | bytearray, most: int) -> int:
    """How long the frame is that begins so. Raises ProtocolError for one that is longer than `most`."""
    (length,) = LENGTH.unpack_from(came)
    if length > most:
        raise ProtocolError(f"a frame of {length} bytes was announced, over {most}: that is no frame")
    return int(length)


def from_worker(body: bytes) -> Down:
    """A frame of the worker. Raises ProtocolError for anything else."""
    return _decoded(_DOWN, body)


def from_process(body: bytes) -> Up:
    """A frame of the process of a run. Raises ProtocolError for anything else."""
    return _decoded(_UP, body)


def _decoded(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"what came is no frame: {error}: {body[:80]!r}") from error


# --- values of several kinds --------------------------------------------------------------------------------------

_ENDINGS: Final[Mapping[str, type[Any]]] = {
    kind.__name__: kind for kind in (Succeeded, Failed, Retry, Park, Release, Hold, Crashed, Lost)
}
_BESIDES: Final[Mapping[str, type[Any]]] = {
    kind.__name__: kind
    for kind in (
        NewCursor,
        CursorOver,
        NewOutput,
        NewChild,
        CancelChild,
        NewArtifact,
        NewApproval,
        CloseApproval,
        Settle,
        AdjustRate,
    )
}


def tagged(value: Ending | Beside) -> tuple[str, Raw]:
    """The value with the name of its kind."""
    return type(value).__name__, Raw(_encode(value))


def ending_of(tagged: tuple[str, Raw]) -> Ending:
    """How an attempt ends. Raises ProtocolError."""
    ending: Ending = _untagged(_ENDINGS, tagged)
    return ending


def outcome_of(tagged: tuple[str, Raw]) -> Outcome:
    """How an attempt ends by itself. Raises ProtocolError."""
    ending = ending_of(tagged)
    if isinstance(ending, Lost):
        raise ProtocolError("the process of a run cannot end it as Lost")
    if isinstance(ending, Succeeded):
        _check_json(ending.result)
    return ending


def _check_json(result: bytes) -> None:
    try:
        msgspec.json.decode(result)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"the result is no JSON: {error}") from error


def _untagged(kinds: Mapping[str, type[Any]], tagged: tuple[str, Raw]) -> Any:  # noqa: ANN401 - one of the kinds
    name, raw = tagged
    if name not in kinds:
        raise ProtocolError(f"there is no {name!r}: there is {', '.join(kinds)}")
    try:
        return msgspec.json.decode(raw, type=kinds[name])
    except (msgspec.DecodeError, RecursionError) as error:
        raise ProtocolError(f"what came is no {name}: {error}") from error


def commit(number: int, change: Change) -> Commit:
    """The Change as a frame."""
    return Commit(
        number,
        change.position,
        change.entries,
        change.notes,
        change.checkpoint,
        change.progress,
        None if change.outcome is None else tagged(change.outcome),
        change.step,
        change.reason,
        tuple(tagged(each) for each in change.beside),
    )


def change_of(frame: Commit, run: int, token: int) -> Change:
    """The Change of this attempt, whatever the process thinks it is. Raises ProtocolError."""
    return Change(
        run=run,
        token=token,
        position=frame.position,
        entries=frame.entries,
        notes=frame.notes,
        checkpoint=frame.checkpoint,
        progress=frame.progress,
        outcome=None if frame.outcome is None else outcome_of(frame.outcome),
        step=frame.step,
        reason=frame.reason,
        beside=tuple(_untagged(_BESIDES, each) for each in frame.beside),
    )


# --- questions ----------------------------------------------------------------------------------------------------


class Question(Struct, frozen=True):
    """The types of a question's arguments and of its answer."""

    args: Any
    answer: Any


def _questions() -> dict[str, Question]:
    found: dict[str, Question] = {}
    for name, method in inspect.getmembers(Questions, inspect.isfunction):
        if not name.startswith("_"):
            hints = get_type_hints(method)
            answer = hints.pop("return")
            found[name] = Question(tuple[tuple(hints.values())], answer)  # type: ignore[misc]
    return found


QUESTIONS: Final[Mapping[str, Question]] = _questions()
"""What a process may ask, by the name of the method that answers it."""


def ask(number: int, what: str, *args: object) -> Ask:
    """The question as a frame."""
    return Ask(number, what, Raw(_encode(args)))


def asked(frame: Ask) -> tuple[Any, ...]:
    """The arguments of the question. Raises ProtocolError for one that there is not."""
    question = QUESTIONS.get(frame.what)
    if question is None:
        raise ProtocolError(f"there is no question {frame.what!r}: there is {', '.join(QUESTIONS)}")
    if not get_args(question.args):
        return ()
    try:
        args: tuple[Any, ...] = msgspec.json.decode(frame.args, type=question.args)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ProtocolError(f"the arguments of {frame.what!r}: {error}") from error
    return args


def reply(number: int, value: object) -> Reply:
    """The answer as a frame."""
    return Reply(number, Raw(_encode(value)))


def answer_of(what: str, value: Raw) -> Any:  # noqa: ANN401 - what the method returns
    """The answer to the question."""
    return msgspec.json.decode(value, type=QUESTIONS[what].answer)


# --- errors -------------------------------------------------------------------------------------------------------

_ERRORS: Final[Mapping[str, type[HoldfastError]]] = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, HoldfastError) and kind.__init__ is HoldfastError.__init__
}


def refusal(number: int, error: HoldfastError) -> Refusal:
    """The error as a frame: by the nearest class that is made from its message alone."""
    name = next(kind.__name__ for kind in type(error).__mro__ if kind.__name__ in _ERRORS)
    return Refusal(number, name, str(error))


def error_of(frame: Refusal) -> HoldfastError:
    """The error that it tells of."""
    return _ERRORS.get(frame.error, StoreError)(frame.message)
