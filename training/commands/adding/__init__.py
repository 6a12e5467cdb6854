"""What the commands share that add models to a zoo."""
