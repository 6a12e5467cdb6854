"""Models behind one contract: cards, the zoo in a folder, sessions, images, latency tables."""
