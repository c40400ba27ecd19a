"""The benchmarks: holdfast beside the bare driver and its peers. README.md says what is measured."""
