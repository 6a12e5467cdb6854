"""Cheap numbers computed from a signal alone, and a one-dimensional scout."""
