"""One request: its context, its cancellation and its limits."""
