"""Recalibration of logits and of last layers, by convex fits."""
