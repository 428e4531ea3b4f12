"""Reading a transaction from its bytes: pure."""
