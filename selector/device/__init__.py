"""A device: tasks, variants, and the background work that keeps its models current."""
