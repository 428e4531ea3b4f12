"""An account's pages: what it has, what it spent, how to pay in, how to connect, its keys."""
