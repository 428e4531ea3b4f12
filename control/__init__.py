"""The control plane: the HTTP API for accounts, prices, health and descriptions."""
