"""Real trees of processes, under whatever this machine can do."""
