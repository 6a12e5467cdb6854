"""Signals for the suites: files of many types and third-party models of them; synthesised sounds."""
