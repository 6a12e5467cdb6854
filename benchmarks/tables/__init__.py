"""Suites on outcomes that were measured elsewhere."""
