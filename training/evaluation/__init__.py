"""What a fitted selector does on the test split, and in real answers."""
