"""Models that a server holds: the Open Inference Protocol, its client, and what a network costs."""
