"""The types of the API are tested like its behaviour: by what the checkers accept and what they refuse."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

API = Path(__file__).with_name("api.py")
ROOT = API.parent.parent.parent


CHECKERS = {
    "mypy": ("--strict", "--config-file=", "--python-version=3.11", str(API)),
    "pyright": ("--pythonpath", sys.executable, "--project", str(API.parent)),
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("checker", CHECKERS)
def test_type_checkers_accept_what_is_right_and_refuse_what_is_wrong(checker: str) -> None:
    checked = subprocess.run(
        [sys.executable, "-m", checker, *CHECKERS[checker]],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
