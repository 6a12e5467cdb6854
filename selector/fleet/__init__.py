"""The service for groups of devices: reports in, assignments out. Needs the extra ``serve``."""
