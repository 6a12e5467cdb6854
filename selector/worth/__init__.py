"""What sets of models are worth for what is asked."""
