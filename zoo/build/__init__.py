"""Making zoo models: architectures, export to ONNX, foreign ONNX, compression. Needs the ``train`` extra."""
