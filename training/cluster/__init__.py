"""Work that is spread over a cluster: connecting to Ray, and workers that may die."""
