"""Which models, features and rules: compared by cross-validation on fit and tune samples."""
