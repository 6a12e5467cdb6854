"""The commands of devices, publishers and the service; a module for those that belong together.

:mod:`selector.cli` imports each and calls its ``register`` with the Typer application.
"""
