"""Proofs: exact tests, thresholds with a certificate, and which certificates are worth having."""
