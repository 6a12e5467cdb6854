"""Speed: the time of answers, batches, monitor and threads beside bare runs of the same models."""
