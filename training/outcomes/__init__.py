"""What every model says of every image, stored once."""
