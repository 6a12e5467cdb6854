"""Figures of selectors on real data, beside the methods of others."""
