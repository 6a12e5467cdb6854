"""Deciding which model to run while the application runs them: a bundle without models."""
