"""Hosts on one machine: a namespace of the kernel each, with an address of its own on a bridge, and a cable to pull."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest


def ip(*words: str) -> None:
    """Tell the kernel's network what to do. Raises when it does not."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")


@dataclass(frozen=True)
class Host:
    """One of them."""

    name: str
    cable: str

    @property
    def within(self) -> Sequence[str]:
        """What a program is started by that shall be on this host."""
        return "ip", "netns", "exec", self.name

    def cut_off(self) -> None:
        """Pull the cable: nobody hears of it, words are lost."""
        ip("link", "set", self.cable, "down")

    def heal(self) -> None:
        """Plug it in again."""
        ip("link", "set", self.cable, "up")


class Network:
    """A bridge. This namespace has the address `address` on it, and the hosts that are added have others."""

    def __init__(self) -> None:
        self._name = f"hf{random.SystemRandom().randrange(16**6):06x}"
        self._net = f"10.{random.SystemRandom().randrange(200, 250)}.{random.SystemRandom().randrange(250)}"
        self.address = f"{self._net}.1"
        self.hosts: list[Host] = []

    @property
    def addresses(self) -> str:
        """Those of all hosts."""
        return f"{self._net}.0/24"

    def lay(self) -> None:
        """Make the bridge. Raises OSError where the kernel, or a missing `ip`, forbids it."""
        if shutil.which("ip") is None:
            raise OSError("there is no `ip` here")
        ip("link", "add", self._name, "type", "bridge")
        ip("addr", "add", f"{self.address}/24", "dev", self._name)
        ip("link", "set", self._name, "up")

    def host(self) -> Host:
        """Another host."""
        number = len(self.hosts) + 2
        host = Host(f"{self._name}-{number}", f"{self._name}v{number}")
        ip("netns", "add", host.name)
        self.hosts.append(host)
        ip("link", "add", host.cable, "type", "veth", "peer", "name", "eth0", "netns", host.name)
        ip("link", "set", host.cable, "master", self._name, "up")
        ip("-n", host.name, "addr", "add", f"{self._net}.{number}/24", "dev", "eth0")
        ip("-n", host.name, "link", "set", "eth0", "up")
        ip("-n", host.name, "link", "set", "lo", "up")
        return host

    def remove(self) -> None:
        """As if it had never been."""
        for words in [*(["netns", "del", host.name] for host in self.hosts), ["link", "del", self._name]]:
            with contextlib.suppress(OSError):
                ip(*words)


@contextlib.contextmanager
def network(hosts: int) -> Iterator[Network]:
    """A network of so many hosts; skips, loudly, where the kernel forbids it."""
    made = Network()
    try:
        try:
            if os.geteuid() != 0:
                raise OSError("only root may")
            made.lay()
            for _ in range(hosts):
                made.host()
        except OSError as error:
            pytest.skip(f"NOT TRIED: no hosts can be made of network namespaces: {error}")
        yield made
    finally:
        made.remove()
