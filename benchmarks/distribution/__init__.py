"""Figures of publishing, fetching, answering and polling."""
