"""A whole selector as one ONNX file: models, features, rules and branches, for one constraint."""
