"""Options of ``zoo add`` for models of other inputs than images."""
