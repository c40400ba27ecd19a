"""Plain programs as durable runs: the built-in agent `command`, and what a program may ask of its run."""
