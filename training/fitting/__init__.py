"""From outcomes to a fitted selector and its bundle: search, prove, assemble."""
