"""From outcomes that were measured elsewhere to a router: a bundle without models."""
