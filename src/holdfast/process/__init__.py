"""A run in a process of its own: its worker supervises it, and every write stays with the worker."""
