"""Models in 8 bits."""
