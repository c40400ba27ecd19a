"""The third workload: runs that misbehave, each in its own way, and what becomes of them."""
