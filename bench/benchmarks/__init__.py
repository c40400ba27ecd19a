"""One module a benchmark: `measure(ground)` returns its findings."""
