"""What a device gains and risks where a server answers for it."""
