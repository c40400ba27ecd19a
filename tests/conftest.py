"""What every test shares: Hypothesis that gives the same verdict each time, on machines of any speed."""

from __future__ import annotations

import os
import signal

from hypothesis import settings

# A job in the background of a shell has SIGINT ignored, and hands that on: commands under test must hear Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

# `make test` is repeatable; HYPOTHESIS_PROFILE=search looks for what it has not tried yet.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=1_000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
