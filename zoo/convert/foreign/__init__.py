"""Any ONNX classifier of images: read within bounds, understood, wrapped and compared with the original."""
