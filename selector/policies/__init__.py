"""Policies as stored records with their pure rules."""
