"""What both ends of a program's socket know. Imports nothing: `holdfast step` must be quick.

The program connects to the socket that HOLDFAST_SOCKET names and sends a line of JSON. Each answer is a line of JSON:

  {"step": NAME, "argv": […]}      → {"do": "execute"}, or {"do": "recorded", "bytes": N} and N bytes: the stdout
  {"code": 0, "bytes": N} + bytes  → {"do": "recorded"}: it is durable
  {"code": C}                      → {"do": "noted"}: nothing is recorded of a step that failed
  {"progress": [CURRENT, TOTAL, TEXT]}  → {"do": "noted"}
  anything                         → {"error": MESSAGE}
"""

from __future__ import annotations

SOCKET = "HOLDFAST_SOCKET"
"""Where a program finds its run."""
RUN = "HOLDFAST_RUN"
"""The id of the run that a program belongs to."""
OPEN = "HOLDFAST_OPEN_STEPS"
"""The names of the steps that a command is executed for, one a line: it cannot wait for itself."""
MAX_OUTPUT = 8 * 1024 * 1024
"""Bytes of stdout of one step: they are kept in the journal, and in memory at both ends; more belongs into a file."""
MAX_LINE = 4 * 1024 * 1024
"""Bytes of a message: a command line is at most 2 MiB on Linux."""
