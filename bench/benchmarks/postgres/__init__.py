"""Benchmarks that only a server has, or that have other peers there."""
