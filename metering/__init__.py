"""Pure rules of what a request may cost and what an answer did cost."""
