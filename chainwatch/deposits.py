"""Whose deposit a transaction is: pure."""
