"""What is measured of answers: time, and agreement between execution providers."""
