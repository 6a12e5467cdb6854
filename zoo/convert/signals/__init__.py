"""Models of signals: what is put in front of them, foreign ones, and networks of our own."""
