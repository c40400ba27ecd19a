"""Sizes and limits: what can be written, what it means, and what is refused in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import holdfast
from holdfast.errors import UsageError
from holdfast.rules.limits import Limits, limits_of
from holdfast.sizes import MAX_BYTES, size_bytes


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("512", 512),
        ("0", 0),
        ("200MB", 200_000_000),
        ("200 mb", 200_000_000),
        ("1GiB", 1 << 30),
        ("1.5 GB", 1_500_000_000),
        ("0.1KiB", 102),
        ("3kB", 3_000),
        ("2TiB", 2 << 40),
        ("7B", 7),
        (4096, 4096),
    ],
)
def test_a_size_means_what_it_says(text: str | int, count: int):
    assert size_bytes(text) == count


@pytest.mark.parametrize(
    "text", ["", "MB", "200M", "-1", "1e9", "1,5GB", "200 MB each", -1, True, MAX_BYTES + 1]
)
def test_what_is_no_size_is_refused_in_words(text: str | int):
    with pytest.raises(UsageError, match="size"):
        size_bytes(text)


@given(st.integers(0, MAX_BYTES))
def test_a_number_of_bytes_is_itself_as_text_too(count: int):
    assert size_bytes(count) == size_bytes(str(count)) == size_bytes(f"{count}B") == count


def test_two_ways_to_write_a_size_are_one_limit():
    assert Limits(memory="200MB", disk="1GiB") == Limits(memory=200_000_000, disk=1 << 30)
    assert Limits(memory="200MB").memory_bytes == 200_000_000
    assert Limits(disk="1GB").disk_bytes == 1_000_000_000


def test_no_limit_is_none_of_them():
    assert Limits().asked == ()
    assert Limits().memory_bytes is None and Limits().disk_bytes is None
    whole = Limits(cpu=0.5, memory="200MB", disk="1GB", processes=64, open_files=256)
    assert whole.asked == ("cpu", "memory", "disk", "processes", "open_files")


@pytest.mark.parametrize(
    "wrong",
    [
        {"cpu": 0},
        {"cpu": 0.001},
        {"cpu": float("nan")},
        {"cpu": True},
        {"cpu": 10_000},
        {"memory": "1MB"},
        {"memory": "plenty"},
        {"disk": 100},
        {"processes": 0},
        {"processes": 2.5},
        {"processes": True},
        {"open_files": 3},
        {"open_files": 1 << 21},
    ],
    ids=str,
)
def test_a_limit_that_cannot_be_meant_is_refused_with_its_name(wrong: dict[str, object]):
    (name,) = wrong
    with pytest.raises(UsageError, match=rf"Limits\({name}="):
        Limits(**wrong)  # type: ignore[arg-type]


def test_limits_are_public():
    assert holdfast.Limits is Limits


def test_limits_are_read_by_their_names_as_they_are_typed() -> None:
    typed = {"memory": "200MB", "cpu": "0.5", "disk": 1_000_000, "processes": "64", "open_files": 256}
    assert limits_of(typed) == Limits(cpu=0.5, memory="200MB", disk="1MB", processes=64, open_files=256)
    assert limits_of({"cpu": 2}) == Limits(cpu=2)
    assert limits_of({}) == Limits()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"memmory": "1GB"}, "no limit 'memmory': did you mean 'memory'?"),
        ({"open-files": 20}, "did you mean 'open_files'?"),
        ({"wealth": 1}, "there are cpu, memory, disk, processes, open_files"),
        ({"cpu": "half"}, "the limit cpu='half': write a number of cores"),
        ({"processes": "2.5"}, "the limit processes='2.5': write a whole number"),
        ({"processes": 2.5}, "Limits(processes=2.5)"),
        ({"memory": 2e8}, "the limit memory=200000000.0: write whole bytes"),
        ({"memory": "1MB"}, "Limits(memory='1MB')"),
    ],
)
def test_a_limit_that_cannot_be_meant_is_told_with_what_can(
    given: dict[str, float | int | str], told: str
) -> None:
    with pytest.raises(UsageError) as refused:
        limits_of(given)
    assert told in str(refused.value)
