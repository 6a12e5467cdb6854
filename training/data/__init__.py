"""Labelled images, their environments and their splits."""
