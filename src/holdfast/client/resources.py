"""What a run uses, and whether it works or hangs, as seen from outside. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec import Struct

from holdfast.model import Glimpse, Run, RunSample, Sample, TreeSample, WorkerRecord
from holdfast.rules import sampling
from holdfast.rules.clocks import Clocks, Sign, sign

_MIB = 1024 * 1024


class ResourcesView(Struct, frozen=True, kw_only=True):
    """Resources as sampled last. `shared`: they are those of a worker that executes several runs in one process.

    Of a run with processes of its own `workspace_mb` is the size of its folder (`workspace_at_least`: of its
    first million files, and it holds more), `read_mb_s` and `written_mb_s` what it
    moves to and from disks; None: not measured, or shared. `disk_mb` is free space.
    """

    cpu_percent: float
    memory_mb: float
    disk_mb: float
    processes: int
    level: str
    shared: bool
    workspace_mb: float | None = None
    workspace_at_least: bool = False
    read_mb_s: float | None = None
    written_mb_s: float | None = None


class ClocksView(Struct, frozen=True, kw_only=True):
    """The four clocks of a run that a worker executes, in seconds, and what they say together: `working`, `busy` (it
    records nothing, and uses the CPU), `idle` (nor that), `silent` (nobody can tell beside the other runs of its
    worker), `lost`. `lease_left_s` is renewed by the worker, whatever the run does; `silent_s` counts from the newest
    record."""

    lease_left_s: float | None
    silent_s: float
    step_s: float | None
    deadline_left_s: float | None
    sign: Sign


class UsageView(Struct, frozen=True, kw_only=True):
    """What a run used in the `span_s` seconds up to `at`: the mean of the CPU in percent of a core, the most memory and
    processes, what was read and written, its folder's size, the longest wait for its event loop. None: not measured."""

    at: datetime
    span_s: float
    cpu_percent: float
    memory_mb: float
    processes: int
    read_mb: float | None
    written_mb: float | None
    workspace_mb: float | None
    disk_free_mb: float | None
    loop_lag_s: float | None


def own_sample(glimpse: Glimpse, now_us: int) -> RunSample | None:
    """The newest sample of the run alone, while it says how the run is."""
    sample = glimpse.sample
    return sample if sample is not None and sampling.speaks(now_us - sample.sample.at_us) else None


def resources_view(own: RunSample | None, worker: Sample | None) -> ResourcesView | None:
    """What the run uses by itself, or what its worker does."""
    if own is None:
        return None if worker is None else shared_view(worker)
    sample = own.sample
    free_mb = _mb(sample.disk_free_bytes)
    return ResourcesView(
        cpu_percent=sample.cpu_percent,
        memory_mb=round(sample.memory_bytes / _MIB, 1),
        disk_mb=free_mb if free_mb is not None else 0.0 if worker is None else worker.disk_mb,
        processes=sample.processes,
        level=str(own.level),
        shared=False,
        workspace_mb=_mb(sample.workspace_bytes),
        workspace_at_least=sample.workspace_at_least,
        read_mb_s=_rate(sample.read_bytes, sample.span_us),
        written_mb_s=_rate(sample.written_bytes, sample.span_us),
    )


def shared_view(sample: Sample) -> ResourcesView:
    """A sample of a worker."""
    return ResourcesView(
        cpu_percent=sample.cpu_percent,
        memory_mb=sample.memory_mb,
        disk_mb=sample.disk_mb,
        processes=sample.processes,
        level=str(sample.level),
        shared=sample.shared,
    )


def usage_view(sample: TreeSample) -> UsageView:
    """A sample of a history."""
    return UsageView(
        at=datetime.fromtimestamp(sample.at_us / 1_000_000, UTC),
        span_s=sample.span_us / 1e6,
        cpu_percent=sample.cpu_percent,
        memory_mb=round(sample.memory_bytes / _MIB, 1),
        processes=sample.processes,
        read_mb=_mb(sample.read_bytes),
        written_mb=_mb(sample.written_bytes),
        workspace_mb=_mb(sample.workspace_bytes),
        disk_free_mb=_mb(sample.disk_free_bytes),
        loop_lag_s=sample.loop_lag_s,
    )


def _mb(count_bytes: int | None) -> float | None:
    return None if count_bytes is None else round(count_bytes / _MIB, 1)


def _rate(count_bytes: int | None, span_us: int) -> float | None:
    return None if count_bytes is None or not span_us else round(count_bytes / _MIB / (span_us / 1e6), 1)


def clocks_of(run: Run, glimpse: Glimpse, worker: WorkerRecord, now_us: int) -> Clocks:
    """The clocks of a run that this worker executes."""
    heard = [run.started_at_us or run.created_at_us, glimpse.heard_at_us or 0]
    if glimpse.progress is not None:
        heard.append(glimpse.progress.updated_at_us)
    return Clocks(
        lease_left_us=worker.lease_left_us,
        silent_us=max(0, now_us - max(heard)),
        step_us=None if glimpse.step_at_us is None else max(0, now_us - glimpse.step_at_us),
        deadline_left_us=None if run.deadline_at_us is None else run.deadline_at_us - now_us,
    )


def clocks_view(clocks: Clocks, worker: WorkerRecord, own: RunSample | None) -> ClocksView:
    """The clocks in seconds. What the worker uses is what the run uses while it is the only one there."""

    def seconds(us: int | None) -> float | None:
        return None if us is None else us / 1e6

    cpu_percent = None if own is None else own.sample.cpu_percent
    if own is None and worker.sample is not None and worker.runs == 1:
        cpu_percent = worker.sample.cpu_percent
    return ClocksView(
        lease_left_s=seconds(clocks.lease_left_us),
        silent_s=clocks.silent_us / 1e6,
        step_s=seconds(clocks.step_us),
        deadline_left_s=seconds(clocks.deadline_left_us),
        sign=sign(clocks, cpu_percent),
    )
