"""Cuts of a model: where one tensor crosses its graph, and the two parts that it falls into there."""
