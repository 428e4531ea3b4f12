"""Measures the gateway beside bare mitmdump and the direct path; see README.md."""
