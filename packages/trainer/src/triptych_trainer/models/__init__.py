"""Models and processors: loading, adapters, learning rates, families."""
