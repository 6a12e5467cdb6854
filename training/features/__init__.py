"""Cheap numbers computed from an image alone, in numpy, torch and ONNX."""
