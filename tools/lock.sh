#!/bin/sh
# Pins every package by hash, for every supported Python and platform at once, naming no package index:
# uv.lock would record the host of each package, these files let any mirror serve them.
set -eu
cd "$(dirname "$0")/.."
export UV_SYSTEM_CERTS=1
compile=".venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-build
    --no-header --no-emit-index-url --no-emit-find-links --upgrade"
$compile pyproject.toml --group dev --output-file requirements/dev.txt
$compile requirements/uv.in --output-file requirements/uv.txt
if grep -nE '://|--(extra-)?index' requirements/dev.txt requirements/uv.txt; then
    echo "lock: the lines above name a host" >&2
    exit 1
fi
