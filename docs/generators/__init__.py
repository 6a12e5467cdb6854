"""What makes the generated pages; see ``docs/write.py``."""
