"""What every test shares: Hypothesis that gives the same verdict each time, on machines of any speed."""

from __future__ import annotations

import os

from hypothesis import settings

# `make test` is repeatable; HYPOTHESIS_PROFILE=search looks for what it has not tried yet.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=1_000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
