"""The device side: pick a model for every input and answer with it."""
