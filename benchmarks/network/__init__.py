"""Suites where a network is between the device and the answer."""
