"""Noticing that inputs are not like the certify samples any more."""
