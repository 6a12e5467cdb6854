"""Commands of publishers."""
