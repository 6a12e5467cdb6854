"""What is published: signed records of models and bundles."""
