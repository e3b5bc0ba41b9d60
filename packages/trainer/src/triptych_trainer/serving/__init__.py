"""A vLLM server for rollouts: how it is started, and what its workers learn beside vLLM's own calls."""
