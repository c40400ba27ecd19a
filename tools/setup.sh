#!/bin/sh
# Finds a Python and lets it make .venv (tools/setup.py). PYTHON=… chooses one; otherwise the newest of those below.
set -eu
cd "$(dirname "$0")/.."

version_of() { # "311" for a Python 3.11; nothing for what does not start (version shims, for one)
    "$1" -c 'import sys; print("%d%02d" % sys.version_info[:2])' 2>/dev/null || true
}

if [ -z "${PYTHON:-}" ] && [ -x .venv/bin/python ] && [ -f .venv/.holdfast-setup ]; then
    exec .venv/bin/python tools/setup.py # an environment that is there keeps its Python
fi

best=${PYTHON:-}
if [ -n "$best" ]; then
    found=$(version_of "$best")
    if [ -z "$found" ] || [ "$found" -lt 311 ]; then
        echo "setup: PYTHON=$best is not a Python 3.11 or newer" >&2
        exit 1
    fi
else
    best_version=0
    for candidate in python3 python3.11 python3.12 python3.13 python3.14 python; do
        found=$(version_of "$candidate")
        # 3.14 is the newest that the locked wheels are known to serve.
        if [ -n "$found" ] && [ "$found" -ge 311 ] && [ "$found" -le 314 ] && [ "$found" -gt "$best_version" ]; then
            best=$candidate
            best_version=$found
        fi
    done
fi
if [ -z "$best" ]; then
    echo "setup: holdfast needs Python 3.11, 3.12, 3.13 or 3.14 and found none on PATH (python3 here: $(python3 --version 2>&1 || true))." >&2
    echo "       Install one, or name it: make setup PYTHON=/path/to/python3.12" >&2
    exit 1
fi
exec "$best" tools/setup.py
