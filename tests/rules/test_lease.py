"""Leases: when a worker stops trusting its own, and when others may take its runs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.rules.lease import (
    LEASE_S,
    MARGIN_S,
    RENEW_S,
    Lease,
    counts_as_crash,
    dead,
    renew_after_us,
    trust_until_us,
)

BOOT = "boot-1"
LIVE = Lease(until_us=1_000, boot_id=BOOT)


def test_a_worker_lets_go_before_the_store_does():
    sent_at_us = 50
    assert trust_until_us(sent_at_us, 30_000_000, 5_000_000) == 25_000_050


@given(st.integers(0, 10**15), st.integers(0, 10**7))
def test_trust_ends_before_the_lease_however_slow_the_request_was(sent_at_us: int, took_us: int):
    lease_us, margin_us = LEASE_S * 1_000_000, MARGIN_S * 1_000_000
    until_us = sent_at_us + took_us + lease_us
    assert trust_until_us(sent_at_us, lease_us, margin_us) <= until_us - margin_us


def test_a_lease_is_renewed_thrice_in_its_time_and_sooner_after_a_failed_renewal():
    assert renew_after_us(LEASE_S * 1_000_000) == RENEW_S * 1_000_000
    assert renew_after_us(LEASE_S * 1_000_000, failed=True) == 1_000_000
    assert 2 * RENEW_S + MARGIN_S < LEASE_S


@pytest.mark.parametrize(
    ("lease", "now_us", "boot", "lock_free", "expected"),
    [
        (LIVE, 999, BOOT, None, False),
        (LIVE, 1_000, BOOT, None, True),
        (LIVE, 999, BOOT, False, False),
        (LIVE, 999, BOOT, True, True),
        (LIVE, 999, "boot-2", False, True),
        (Lease(until_us=1_000, boot_id=BOOT, retired=True), 0, BOOT, False, True),
    ],
    ids=["holds", "expired", "holds and locked", "its lock is free", "another boot", "retired"],
)
def test_a_worker_is_dead_when_the_lease_or_the_kernel_says_so(
    lease: Lease, now_us: int, boot: str, lock_free: bool | None, expected: bool
):
    assert dead(lease, now_us, boot, lock_free) is expected


def test_a_held_lock_keeps_no_expired_lease_alive():
    assert dead(LIVE, 2_000, BOOT, lock_free=False)


def test_a_deploy_or_a_reboot_is_no_crash():
    assert counts_as_crash(LIVE, BOOT)
    assert not counts_as_crash(LIVE, "boot-2")
    assert not counts_as_crash(Lease(until_us=1, boot_id=BOOT, retired=True), BOOT)
    assert counts_as_crash(Lease(until_us=1, boot_id=BOOT, retired=True, counted=True), BOOT)
