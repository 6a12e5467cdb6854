"""Claims about behaviour, on small real things. What they share is in :mod:`tests.support`."""
