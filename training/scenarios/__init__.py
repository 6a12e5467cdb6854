"""Complete runs: the demo, and a device whose environment changes."""
