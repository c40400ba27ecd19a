"""When a worker may trust its lease, when it is dead, and whether its end counts as a crash.

Laws of this file:
1. The lease decides. A lock only tells sooner that a worker is gone; a held lock keeps no expired lease alive (a
   stopped process still holds its locks).
2. The worker stops before the store lets go: it counts from before the request, and a margin less.
3. Leases run on time since boot, which never jumps; another boot id means that the machine went down.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LEASE_S: Final = 30
"""Long enough for a slow disk or a loaded machine, short enough that a takeover without a lock is no outage."""

RENEW_S: Final = 10
"""A third of the lease: two renewals in a row may fail before the third one is the last."""

MARGIN_S: Final = 5
"""How much earlier than the store the worker lets go: time to stop what runs."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's lease as the store has it. `until_us` is time since boot, of the boot named `boot_id`.

    `retired` says that the generation was ended; `counted` that this end is a crash all the same.
    """

    until_us: int
    boot_id: str
    retired: bool = False
    counted: bool = False


def trust_until_us(sent_at_us: int, lease_us: int, margin_us: int) -> int:
    """Until when the worker may believe in a renewal that it sent at `sent_at_us`, on its own clock since boot."""
    return sent_at_us + lease_us - margin_us


def renew_after_us(lease_us: int, *, failed: bool = False) -> int:
    """How long to wait before the next renewal: a third of the lease, or a thirtieth after one that failed."""
    return lease_us * RENEW_S // LEASE_S // (10 if failed else 1)


def dead(lease: Lease, now_boot_us: int, boot_id: str, lock_free: bool | None) -> bool:
    """Whether the runs of this worker may be taken over. `lock_free` is None when its lock cannot be asked."""
    return lease.retired or lease.boot_id != boot_id or lock_free is True or lease.until_us <= now_boot_us


def counts_as_crash(lease: Lease, boot_id: str) -> bool:
    """Whether the end of a dead worker speaks against its runs: not after a drain, a deploy or a reboot."""
    return lease.boot_id == boot_id and (lease.counted or not lease.retired)
