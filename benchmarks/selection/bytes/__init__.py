"""Files of many types as bytes, and third-party models that tell these apart."""
