"""The books: money types and entries, the hot balances in Redis, the journal in Postgres."""
