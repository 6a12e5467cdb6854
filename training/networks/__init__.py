"""Networks of our own: trained, distilled, adapted."""
