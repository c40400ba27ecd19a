"""Labels: what can be one, what is told of them, and whom a run fits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import UsageError
from holdfast.rules import labels

WORDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.:=/-]{0,62}", fullmatch=True)


@given(st.lists(WORDS, max_size=labels.MAX_LABELS))
def test_labels_come_back_in_order_and_once_whatever_the_order_they_were_given_in(words: list[str]) -> None:
    found = labels.checked(words, "a worker")
    assert found == labels.checked(reversed_set(words), "a worker") == tuple(sorted(set(words)))
    assert labels.of(labels.told(found)) == found


def reversed_set(words: list[str]) -> list[str]:
    return list(dict.fromkeys(reversed(words)))


@given(st.sets(WORDS, max_size=8), st.sets(WORDS, max_size=8))
def test_a_run_fits_a_worker_that_has_every_label_it_asks_for(needs: set[str], has: set[str]) -> None:
    assert labels.fit(needs, needs | has)
    assert labels.fit(needs, has) == (not needs - has)
    assert labels.fit((), has)


@pytest.mark.parametrize("bad", ["gpu", 3, None, [3], ["no blank"], [""], ["a,b"], ["-x"], ["x" * 64], ["ü"]])
def test_what_can_be_no_label_is_refused_by_name(bad: object) -> None:
    with pytest.raises(UsageError, match="agent 'scout'"):
        labels.checked(bad, "agent 'scout'")


def test_more_labels_than_there_are_kinds_of_machines_are_refused() -> None:
    with pytest.raises(UsageError, match="17 labels, and 16 are the most"):
        labels.checked([f"l{n}" for n in range(17)], "a worker")


@given(st.sets(WORDS, max_size=6), st.lists(st.sets(WORDS, max_size=6), max_size=4))
def test_what_is_lacking_is_what_the_nearest_worker_has_not(needs: set[str], workers: list[set[str]]) -> None:
    wanted = labels.checked(needs, "a run")
    found = labels.lacking(wanted, workers)
    if not workers:
        assert found == ()
    else:
        assert len(found) == min(len(needs - has) for has in workers)
        assert any(set(found) == needs - has for has in workers)
