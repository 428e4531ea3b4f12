"""Commands, the supervisor and the embedded stores: what an operator runs."""
