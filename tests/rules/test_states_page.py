"""The page about states is what the table says."""

from __future__ import annotations

from holdfast.model import Reason
from holdfast.rules.states import EVENTS, TABLE
from tools import draw_states


def test_the_page_is_drawn_from_the_table():
    assert draw_states.PAGE.read_text(encoding="utf-8") == draw_states.draw(), (
        "run: python -m tools.draw_states"
    )


def test_every_event_of_the_table_is_explained_and_every_explained_event_exists():
    assert {event for _, event in TABLE} == set(EVENTS)


def test_every_reason_has_its_line_on_the_page():
    page = draw_states.draw()
    assert [reason for reason in Reason if f"`{reason}`" not in page] == []
