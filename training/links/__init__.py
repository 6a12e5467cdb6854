"""Links on loopback that are as slow, or as absent, as a network is."""
