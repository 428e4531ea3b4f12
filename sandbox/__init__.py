"""Simulated providers over real HTTP, to try the gateway out and to test it."""
