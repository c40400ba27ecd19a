"""A worker with many runs in flight is killed: how long until another, standing by, has all of them at work."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time

from bench.ground import Broken, environment
from bench.killed import PROGRAM
from bench.report import Findings, at_most
from bench.server import OnPostgres

AGENTS = 500
AGENTS_QUICK = 100
TAIL = 20
STANDS_BY_S = 3.0
LEASE_S = 30.0
PATIENCE_S = 90.0


def measure(ground: OnPostgres) -> Findings:
    """On the same host, where the death is seen; and as if on another, where nothing but the lease tells of it."""
    agents = AGENTS_QUICK if ground.quick else AGENTS
    found = Findings("recovery", f"{agents} runs in flight, their worker killed, another one standing by")
    for where, goal in (("the same host", at_most(1.0)), ("another host", at_most(LEASE_S + 1))):
        took_s = []
        for repeat in range(ground.repeats):
            took_s.append(_recover(ground, agents, elsewhere=where == "another host"))
            ground.say(f"recovery on {where} {repeat + 1}/{ground.repeats}: {took_s[-1]:.2f} s")
        goal = goal if not ground.quick else None
        found.add(f"on {where}: all {agents} have a new step durable", took_s, "s", goal)
    found.notes.append("the other host is a process that cannot see the folder of the first one's locks")
    return found


def _recover(ground: OnPostgres, agents: int, elsewhere: bool) -> float:
    """Seconds from the kill to the last run's new step. Raises `Broken`."""
    with ground.database() as url, tempfile.TemporaryDirectory() as other:
        first = _start("build", url, agents, {})
        try:
            assert first.stdout is not None
            if first.stdout.readline().strip() != '"there"':
                raise Broken(f"the first worker did not come into flight:\n{_said(first)}")
            began_s = time.monotonic()
            apart = {"XDG_RUNTIME_DIR": other, "TMPDIR": other} if elsewhere else {}
            second = _start("resume", url, agents, apart, repr(began_s))
            try:
                time.sleep(STANDS_BY_S)
                killed_s = time.monotonic()
                first.send_signal(signal.SIGKILL)
                said, complaint = second.communicate(timeout=PATIENCE_S)
            except subprocess.TimeoutExpired:
                raise Broken(f"not all stepped again within {PATIENCE_S:.0f} s") from None
            finally:
                second.kill()
                second.wait()
        finally:
            first.kill()
            first.wait()
        if second.returncode:
            raise Broken(f"the second worker ended with {second.returncode}:\n{complaint[-4000:]}")
        all_durable_s: float = json.loads(said.strip().splitlines()[-1])["all_durable"]
        return began_s + all_durable_s - killed_s


def _start(phase: str, url: str, agents: int, variables: dict[str, str], *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", PROGRAM, phase, url, str(agents), "0", str(TAIL), *more]
    return subprocess.Popen(
        command, env={**environment(), **variables}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _said(process: subprocess.Popen[str]) -> str:
    process.kill()
    return process.communicate()[1][-4000:]
