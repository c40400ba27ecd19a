"""What is measured, each a program of its own: `python -m bench.contenders.…`."""
