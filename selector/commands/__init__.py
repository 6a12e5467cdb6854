"""The device commands, a module for those that belong together; `selector.cli` registers them."""
