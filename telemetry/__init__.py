"""Log lines and metrics; every metric is defined here."""
