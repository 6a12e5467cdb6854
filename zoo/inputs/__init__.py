"""Kinds of input: what a model can be asked, how it is checked and read, and what its graph takes."""
