"""The service of a fleet: reports of devices in, signed assignments out. Needs the ``serve`` extra."""
