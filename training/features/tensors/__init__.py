"""Cheap numbers computed from named arrays alone, and a scout of them."""
