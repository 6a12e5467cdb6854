"""The device commands that concern distribution, one module each; `selector.cli` registers them."""
