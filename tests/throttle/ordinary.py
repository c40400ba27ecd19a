"""What an ordinary user's process can do, tried by one: told as a line of JSON. The word for its
processes is in the environment: it has a command line itself."""

from __future__ import annotations

import json
import os
import subprocess
import time

from holdfast.rules.limits import Limits
from holdfast.throttle import Groups
from tests.throttle.trees import escape_artists, python, settled, started, with_word


def main(token: str) -> None:
    groups = Groups()
    kind = groups.abilities.kind
    killed = groups.create("escapes")
    with started(killed, escape_artists(token, root_stays=True)):
        before = len(settled(token))
        killed.freeze()
        killed.thaw()
        left = [*killed.kill(), *with_word(token)]
    held = groups.create("held", Limits(cpu=0.2, open_files=64))
    with started(held, python("while True: pass")):
        time.sleep(0.3)
        before_us, began_s = held.usage().cpu_us, time.monotonic()
        time.sleep(3)
        cores = (held.usage().cpu_us - before_us) / 1e6 / (time.monotonic() - began_s)
    bounded = groups.create("bounded", Limits(memory="60MB"))
    with started(bounded, python("bytearray(b'x') * 400_000_000"), stderr=subprocess.DEVNULL) as root:
        memory = root.wait(30)
    print(json.dumps({
        "uid": os.getuid(),
        "kind": kind,
        "troubles": groups.abilities.troubles,
        "before": before,
        "left": left,
        "cores": cores,
        "memory": memory,
        "oom": groups.abilities.limits["memory"].strength,
    }))  # fmt: skip


if __name__ == "__main__":
    main(os.environ["TOKEN"])
