"""Settings and rate card, read once by entry points and passed on as values."""
