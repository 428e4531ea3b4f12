"""Deposits: reads the vault on Solana and credits what came in, once."""
