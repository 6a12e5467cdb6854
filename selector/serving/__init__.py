"""A server of models and bundles that speaks the Open Inference Protocol v2."""
