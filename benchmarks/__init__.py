"""Benchmarks on real data: ``python -m benchmarks --help``."""
