"""Runs that another run started: its children."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from holdfast.model.changes import Beside
from holdfast.model.runs import NewRun, Run


class ParentPolicy(StrEnum):
    """What becomes of an unfinished child when its parent ends, however it ends."""

    CANCEL = "cancel"  # it is cancelled, in the same transaction
    LEAVE = "leave"  # it goes on, and its outcome is kept with it


class NewChild(Beside, frozen=True, kw_only=True):
    """A child comes into being. One that this run has under this id already, of this agent and input, is left alone;
    any other run of this id refuses it."""

    new: NewRun
    on_parent_end: ParentPolicy = ParentPolicy.CANCEL


class CancelChild(Beside, frozen=True):
    """A child of this run is cancelled, if it has not ended. A retry that supersedes the entry at position `by` (None:
    the one beside which it stands) undoes it."""

    child: str
    by: int | None = None


class Standing(Struct, frozen=True, kw_only=True):
    """How a child stands, as its parent sees it at one moment.

    `ended`: it is final, and not because its parent ended. `signal` is the number of the signal in the parent's inbox
    that says so, None when there is none that is not consumed. `inbox_no` is the parent's highest signal number.
    """

    run: Run
    ended: bool
    signal: int | None
    inbox_no: int


class Kin(Struct, frozen=True, kw_only=True):
    """A child in a list: whose it is, and what becomes of it when that one ends. `closed`: its queue, or all queues
    together, are limited to 0, so that no worker begins it."""

    run: Run
    parent: str
    on_parent_end: ParentPolicy
    closed: bool = False
