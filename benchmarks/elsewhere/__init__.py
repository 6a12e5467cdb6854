"""The same selector elsewhere: with another execution provider, in one file, in a browser."""
