"""Outcomes of models that run here, but are none of a zoo: estimators and text pipelines."""
