"""Rewriting: operators of a graph in place of others that compute the same and take longer."""
