"""The frames, byte by byte: other languages speak them, so a change of one is a new version of the protocol.

After a change that is meant: raise `frames.PROTOCOL`, rewrite the files with `HOLDFAST_TEST_GOLDEN=1`, read the diff.
Only a field that is new, and that a program may ignore or leave out, goes without a new version.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from holdfast import errors
from holdfast.ending import Lost
from holdfast.model import (
    SETUP,
    AdjustRate,
    ApprovalStatus,
    CancelChild,
    Change,
    Checkpoint,
    Claim,
    CloseApproval,
    Committed,
    Content,
    Crashed,
    CursorOver,
    Entry,
    EntryKind,
    EntryStatus,
    Failed,
    Failure,
    FailureKind,
    Hold,
    Identity,
    Journal,
    Level,
    Mismatch,
    NewApproval,
    NewArtifact,
    NewCheckpoint,
    NewChild,
    NewCursor,
    NewOutput,
    NewRun,
    Note,
    Park,
    Progress,
    Reason,
    Release,
    Reserved,
    Retry,
    Run,
    RunState,
    Settle,
    Signal,
    Standing,
    StepCursor,
    Succeeded,
    Turn,
    Unit,
    Verdict,
)
from holdfast.process import frames
from holdfast.rules.rate import RateLimit
from tests.docs.pages import ROOT, blocks
from tests.docs.test_complete import code_in

GOLDEN = Path(__file__).parent / "golden"
PAGE = ROOT / "docs" / "protocol.md"
NOW = 1_800_000_000_000_000

IDENTITY = Identity(SETUP, "", "square", None, 0)
RUN = Run(
    key=7, id="count-1", agent="count", version="0", queue="default", priority=0, state=RunState.RUNNING, reason=None,
    created_at_us=NOW, token=3, position=1, event_no=4, steps=1, worker=2, attempts=2, started_at_us=NOW + 1,
)  # fmt: skip
ENTRY = Entry(
    identity=IDENTITY, kind=EntryKind.STEP, status=EntryStatus.OK, payload=b"1", started_at_us=NOW + 2, position=1,
    at_us=NOW + 3, token=2,
)  # fmt: skip
NEW_ENTRY = Entry(
    identity=Identity(SETUP, "", "square", None, 1), kind=EntryKind.STEP, status=EntryStatus.OK, payload=b"4"
)
FAILURE = Failure(kind=FailureKind.FATAL, type="ValueError", message="no such file")
CLAIM = Claim(run=RUN, input=b'{"input":{"steps":5}}', journal=Journal(checkpoint=None, entries=(ENTRY,)))
FULL = Claim(
    run=RUN,
    input=b"{}",
    journal=Journal(
        checkpoint=Checkpoint(
            n=1, segment=2, name="half", at_us=NOW, size_bytes=2, good=True, state=b"{}", now_us=NOW
        ),
        entries=(ENTRY,),
        corrupt=(2,),
        cursors=(StepCursor(identity=IDENTITY, args_hash=b"\x01", cursor=b"3", position=1, at_us=NOW),),
    ),
)
MISMATCH = Mismatch(message="recorded is 'a', called was 'b'", call=None, entry=1)
NEW_RUN = NewRun(id="child-1", agent="count", version="0", input=b"{}")
COMMITTED = Committed(position=2, event_no=5, at_us=NOW + 4)

OUTCOMES = {
    "succeeded": Succeeded(result=b"55"),
    "failed": Failed(failure=FAILURE),
    "retry": Retry(failure=FAILURE, delay_us=1_000_000),
    "park": Park(reason=Reason.SIGNAL, until_us=NOW, wait_name="go", inbox_seen=3),
    "release": Release(),
    "hold": Hold(reason=Reason.MISMATCH, failure=FAILURE, mismatch=MISMATCH),
}
BESIDES = {
    "newcursor": NewCursor(identity=IDENTITY, args_hash=b"", cursor=b"3"),
    "cursorover": CursorOver(identity=IDENTITY),
    "newoutput": NewOutput(identity=IDENTITY, start=0, text="some text"),
    "newchild": NewChild(new=NEW_RUN),
    "cancelchild": CancelChild(child="child-1"),
    "newartifact": NewArtifact("report.md", "ab" * 32, "text/markdown"),
    "newapproval": NewApproval(question_hash=b"\x01\x02", segment=SETUP, question="Go on?", options=("yes", "no")),
    "closeapproval": CloseApproval(n=4, status=ApprovalStatus.EXPIRED),
    "settle": Settle(call="ask 1", spent={Unit.USD: 12_000_000, Unit.TOKENS_IN: 900, Unit.STEPS: 1}),
    "adjustrate": AdjustRate(rate="tokens", units=-120),
}  # fmt: skip
ASKS: dict[str, tuple[tuple[object, ...], object]] = {
    "count_once": ((), 3),
    "once": (("welcome",), ENTRY),
    "take_turn": ((RateLimit("openai", "500/m"), "ask"), Turn(wait_us=1_000)),
    "reserve": (
        ("ask 1", {Unit.USD: 15_000_000, Unit.STEPS: 1}),
        Reserved(
            verdict=Verdict.FULL,
            scope="run:r",
            unit=Unit.USD,
            asked=15_000_000,
            hard=20_000_000,
            used=9_000_000,
        ),
    ),
    "hold_back": ((RateLimit("openai", "500/m"), 5_000_000), None),
    "held_back": ((RateLimit("openai", "500/m"),), False),
    "inbox": ((), (1, [Signal(n=1, name="go", payload=b"true", at_us=NOW)])),
    "begin_content": ((), 12),
    "add_chunk": ((12, 0, b"bytes"), None),
    "seal_content": ((12, "ab" * 32, 5), Content(id="ab" * 32, size_bytes=5, chunks=1)),
    "check_child": ((NewChild(new=NEW_RUN),), None),
    "child": (("child-1",), Standing(run=RUN, ended=False, signal=None, inbox_no=0)),
}


def change(**what: Any) -> Change:
    return Change(run=7, token=3, position=1, **what)


def samples() -> dict[str, frames.Frame]:
    """One frame of each kind, by the name of its file."""
    origin = frames.Origin("/home/me/agents.py", "count", "0", ("/home/me",))
    found: dict[str, frames.Frame] = {
        "begin": frames.Begin(frames.PROTOCOL, CLAIM),
        "begin.python": frames.Begin(frames.PROTOCOL, FULL, origin),
        "answer": frames.Answer(1, COMMITTED),
        "refusal": frames.refusal(1, errors.LeaseLost("another attempt owns the run")),
        "asked": frames.Asked(frames.tagged(Release())),
        "asked.nothing": frames.Asked(None),
        "end": frames.End(frames.tagged(Lost(cancelled=True, message="the run was cancelled"))),
        "slowdown": frames.SlowDown(0.5),
        "pressure": frames.Pressure(Level.WARNING),
        "hello": frames.Hello(frames.PROTOCOL),
        "alive": frames.Alive(0.25),
        "commit.step": frames.commit(1, change(entries=(NEW_ENTRY,))),
        "commit.progress": frames.commit(
            2, change(progress=Progress(current=2.0, total=5.0, description="two"))
        ),
        "commit.note": frames.commit(3, change(notes=(Note("log", b'{"message":"hello"}'),), step="square")),
        "commit.checkpoint": frames.commit(
            4, change(checkpoint=NewCheckpoint(segment=1, name=None, state=b'{"done":2}', keep=5, now_us=NOW))
        ),
    }
    for name, outcome in OUTCOMES.items():
        found[f"commit.{name}"] = frames.commit(9, change(outcome=outcome))
    for name, beside in BESIDES.items():
        found[f"commit.{name}"] = frames.commit(5, change(beside=(beside,)))
    for what, (args, answer) in ASKS.items():
        found[f"ask.{what}"] = frames.ask(6, what, *args)
        found[f"reply.{what}"] = frames.reply(6, answer)
    return found


SAMPLES = samples()


@pytest.mark.parametrize("name", SAMPLES)
def test_a_frame_is_written_byte_by_byte_as_it_always_was(name: str) -> None:
    data = frames.pack(SAMPLES[name])
    file = GOLDEN / f"{name}.json"
    if os.environ.get("HOLDFAST_TEST_GOLDEN"):
        file.write_bytes(data[4:] + b"\n")
    body = file.read_bytes()[:-1]
    assert data == len(body).to_bytes(4, "big") + body, "a frame has changed: raise frames.PROTOCOL"


@pytest.mark.parametrize("name", SAMPLES)
def test_a_frame_is_read_as_it_was_written(name: str) -> None:
    frame = SAMPLES[name]
    up = isinstance(frame, get_args(frames.Up))
    decoded = (frames.from_process if up else frames.from_worker)((GOLDEN / f"{name}.json").read_bytes()[:-1])
    assert frames.pack(decoded) == frames.pack(frame)


def test_every_kind_of_frame_outcome_and_question_has_its_file() -> None:
    assert {type(frame) for frame in SAMPLES.values()} == set(get_args(frames.Up) + get_args(frames.Down))
    endings = {type(one).__name__ for one in OUTCOMES.values()} | {Crashed.__name__, Lost.__name__}
    assert endings == set(frames._ENDINGS)
    assert {type(one).__name__ for one in BESIDES.values()} == set(frames._BESIDES)
    assert set(ASKS) == set(frames.QUESTIONS)
    assert {file.stem for file in GOLDEN.glob("*.json")} == set(SAMPLES)


def test_a_program_may_leave_out_what_has_a_default() -> None:
    short = b'{"type":"commit","id":1,"position":0,"entries":[{"identity":[-1,"","a",null,0],"kind":"step",'
    short += b'"status":"ok","payload":"MQ=="}]}'
    found = frames.from_process(short)
    assert isinstance(found, frames.Commit)
    assert frames.change_of(found, 7, 3).entries[0].payload == b"1"


# --- the page -----------------------------------------------------------------------------------------------------


def test_every_frame_on_the_page_is_one() -> None:
    shown = [block for block in blocks(PAGE) if block.language == "json"]
    assert len(shown) >= 10
    for block in shown:
        body = json.dumps(json.loads(block.text)).encode()
        up = json.loads(block.text)["type"] in {kind.__name__.lower() for kind in get_args(frames.Up)}
        (frames.from_process if up else frames.from_worker)(body)


def test_every_kind_of_frame_outcome_and_question_is_on_the_page() -> None:
    text = PAGE.read_text("utf-8")
    code = code_in(text)
    kinds = [kind.__name__.lower() for kind in (*get_args(frames.Up), *get_args(frames.Down))]
    names = [*kinds, *frames._ENDINGS, *frames._BESIDES, *frames.QUESTIONS]
    assert [name for name in names if not re.search(rf"\b{name}\b", code)] == []
    assert f"version {frames.PROTOCOL}" in text
